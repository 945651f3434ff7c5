"""A process that may die: it is started for one purpose, talked to over a pipe, and its end says how it ended."""

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import EncodeError

POLL_S = 1.0
END_S = 10.0
"""For a process that has closed its pipe, to be gone."""

LOADING_S = 3600.0
"""For a model to be loaded, from wherever it lies."""

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ended(Exception):
    """The process is no more; the message says how it ended, as in 'its process was ended by SIGSEGV'.

    by: the signal that somebody else may have sent; None where it ended of itself. SIGKILL where it gave no answer in time, or
    took no message, and was killed for that: it may have been stopped, or the machine been short of memory.
    late: that was so.
    idle: it was gone before it was given the last message.
    """

    def __init__(self, how: str, by: signal.Signals | None = None, *, late: bool = False, idle: bool = False) -> None:
        super().__init__(how)
        self.by = by
        self.late = late
        self.idle = idle


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
                [sys.executable, "-P", "-c", code],  # -P: modules of the current folder are the user's, not ours
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is meant for this process, which finishes what is in flight
            )
        except OSError as error:
            raise EncodeError(f"no process can be started here beside this one: {error.strerror}") from error
        theirs.close()
        self.ended = False

    def send(self, message: object, timeout_s: float = LOADING_S) -> None:
        """Raises Ended, also when for so long nothing more of the message was taken: then the process is killed. One that has
        just been started takes what the pipe doesn't hold when it has loaded its own modules."""
        self._limit(socket.SO_SNDTIMEO, timeout_s)
        try:
            self._connection.send(message)
        except BlockingIOError:
            self.end()
            raise Ended(
                f"its process took no message within {timeout_s:g} s", signal.SIGKILL, late=True, idle=True
            ) from None
        except OSError:
            how = self._ended()
            how.idle = True
            raise how from None

    def receive(self, timeout_s: float, while_waiting: Callable[[], None] = lambda: None) -> Any:
        """The next message. Raises Ended, also when none came in time, or half of one: then the process is killed."""
        self._limit(socket.SO_RCVTIMEO, timeout_s)
        now = time.monotonic()
        until = now + timeout_s
        try:
            while not self._connection.poll(max(0.0, min(POLL_S, until - now))):
                while_waiting()
                before, now = now, time.monotonic()
                if now - before > 2 * POLL_S:  # stopped and continued, and so was the other process
                    until += now - before
                if now >= until:
                    raise BlockingIOError
            return self._connection.recv()
        except BlockingIOError:
            self.end()
            raise Ended(f"no answer within {timeout_s:g} s", signal.SIGKILL, late=True) from None
        except (EOFError, OSError):
            raise self._ended() from None

    def end(self) -> None:
        """Kill it, if it is still there."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _limit(self, option: int, seconds: float) -> None:
        """How long the pipe may stand still in the middle of a message, before reading or writing it raises BlockingIOError. The
        kernel begins anew when this process was stopped and goes on."""
        if self.ended:
            return
        pipe = socket.socket(fileno=self._connection.fileno())
        try:
            pipe.setblocking(True)  # whatever the default of this program's sockets is
            limit = divmod(max(1, int(seconds * 1e6)), 1_000_000)  # 0 would be none
            pipe.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *limit))
        finally:
            pipe.detach()

    def _ended(self) -> Ended:
        self.ended = True
        self._connection.close()
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.end()
            return Ended(f"its process closed the pipe and did not end within {END_S:g} s")
        by = signal.Signals(-code) if -code in FROM_OUTSIDE else None
        if code == -signal.SIGKILL:
            return Ended("its process was killed, as the system does when memory runs out", by)
        if code < 0:
            return Ended(f"its process was ended by {_name(-code)}", by)
        return Ended(f"its process ended with exit code {code}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time signals only the first and the last have one
        return f"signal {number}"


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
