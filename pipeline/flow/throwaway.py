"""A process that may die: it is started for one purpose, talked to over a pipe, and its end says how it ended."""

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import EncodeError

POLL_S = 1.0


class Ended(Exception):
    """The process is no more; the message says how it ended, as in 'its process was ended by SIGSEGV'."""


class Throwaway:
    """Seen from outside. Ends with this process, however that ends."""

    def __init__(self, target: Callable[[Connection], None]) -> None:
        """target: a function of a module, run over there with its end of the pipe. Raises EncodeError when none can be
        started here."""
        name = f"{target.__module__}:{target.__name__}"
        try:
            self._connection, theirs = multiprocessing.Pipe()
            # Not `multiprocessing.Process`: it would run this process's main module once more, Ray's for example.
            code = f"from pipeline.flow.throwaway import serve; serve({name!r}, {theirs.fileno()}, {os.getpid()})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise EncodeError(f"no process can be started here beside this one: {error.strerror}") from error
        theirs.close()
        self.ended = False

    def send(self, message: object) -> None:
        """Raises Ended."""
        try:
            self._connection.send(message)
        except OSError:
            raise Ended(self._how_it_ended()) from None

    def receive(self, timeout_s: float | None, while_waiting: Callable[[], None] = lambda: None) -> Any:
        """The next message. Raises Ended, also when none came in time: then the process is killed."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not self._connection.poll(
                POLL_S if until is None else max(0.0, min(POLL_S, until - time.monotonic()))
            ):
                while_waiting()
                if until is not None and time.monotonic() >= until:
                    self.end()
                    raise Ended(f"no answer within {timeout_s:g} s")
            return self._connection.recv()
        except (EOFError, OSError):
            raise Ended(self._how_it_ended()) from None

    def end(self) -> None:
        """Kill it, if it is still there."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _how_it_ended(self) -> str:
        self.ended = True
        self._connection.close()
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed, as the system does when memory runs out"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


def serve(target: str, descriptor: int, parent: int) -> None:
    """What the process runs: `target`, as module:function, with the pipe."""
    _die_with(parent)
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(Connection(descriptor))


def _die_with(parent: int) -> None:
    """Have the system end this process when the one that started it ends."""
    set_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):  # not Linux: the pipe's end has to do
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
