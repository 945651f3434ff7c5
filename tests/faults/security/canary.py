"""What must never happen, made visible: a file that only a payload's code would create, a port that only a payload would call."""

import contextlib
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


class _Touch:
    """Unpickled, it runs a command."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[..., object], tuple[list[str]]]:
        return subprocess.check_call, (self._command,)


class Canary:
    """Dead when its file exists or its port was called. A context manager, which gives the port back."""

    def __init__(self, folder: Path, answer: bytes = b"") -> None:
        """answer: what a caller is told."""
        self.file = folder / "the-canary-is-dead"
        self.calls = 0
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Canary":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # a close alone would not wake the thread
        self._socket.close()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            with connection, contextlib.suppress(OSError):
                asked = connection.recv(65536)
                head, end, body = self._answer.partition(b"\r\n\r\n")
                # As HTTP has it: who gets a body with that takes the connection for broken, and asks again and again.
                connection.sendall(head + end + (b"" if asked.startswith(b"HEAD ") else body))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def dead(self) -> str:
        """What killed it; "" while it lives. Looking brings it back to life."""
        found = [*(["its file exists"] if self.file.exists() else []), *([f"{self.calls} calls"] if self.calls else [])]
        self.file.unlink(missing_ok=True)
        self.calls = 0
        return " and ".join(found)

    def pickled(self) -> bytes:
        """A pickle that kills it."""
        command = [sys.executable, "-S", "-c", f"open({str(self.file)!r}, 'w')"]
        return pickle.dumps(_Touch(command))

    def code(self) -> str:
        """A Python module that kills it, with a class of every name an attacker may be asked for."""
        return (
            f"open({str(self.file)!r}, 'w').close()\nclass Evil:\n    pass\nTransformer = Pooling = EvilModel = Evil\n"
        )

    def expression(self) -> str:
        """The same as one expression."""
        return f"open({str(self.file)!r}, 'w')"
