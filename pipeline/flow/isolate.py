"""A unit that has killed the process that encoded it: which of its texts does it?

Its texts go, group by group, to a process that may die. After a death the texts of that group go one by one, so the one
that was asked for alone when the process died is the poison, and all others have their vectors. That takes two deaths a
poisonous text however many texts there are, where halving the unit again and again would take the logarithm of them.
"""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from pipeline.errors import EmbedpipeError, EncodeError
from pipeline.flow.context import JobContext
from pipeline.flow.replica import encode_finite, load_replica

log = logging.getLogger(__name__)

GROUP_TEXTS = 64
MAX_POISON = 32
"""Poisonous texts in one unit. Where there are more, something else is wrong than texts."""


@dataclass(slots=True)
class Isolated:
    """What came of a unit's distinct texts."""

    vectors: npt.NDArray[np.float32]  # [texts, dimensions]; zeros where there is poison
    device: str
    dtype: str
    gate: dict[str, object]
    poison: dict[int, str] = field(default_factory=dict)  # text → how its process ended


def isolate(
    context: JobContext,
    threads: int | None,
    token_ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    on_answer: Callable[[], None],
) -> Isolated:
    """Encode texts (as `Encoder.encode` takes them) in throw-away processes.

    on_answer: called after each answer, and now and then while a model is loaded.
    Raises EncodeError when no process can be set up, or too many texts seem poisonous.
    """
    texts = len(offsets) - 1
    size = 1 if texts <= GROUP_TEXTS else GROUP_TEXTS
    todo = [np.arange(first, min(first + size, texts)) for first in range(0, texts, size)]
    found: Isolated | None = None
    with _Workshop(context, threads) as workshop:
        while todo:
            worker = workshop.worker(on_answer)
            found = found or Isolated(
                np.zeros((texts, context.dimensions), np.float32), worker.device, worker.dtype, worker.gate
            )
            group = todo.pop(0)
            answer = worker.encode(*_gather(token_ids, offsets, group), context.unit_timeout_s)
            on_answer()
            if not isinstance(answer, str):
                found.vectors[group] = answer
            elif len(group) > 1:
                todo[:0] = [group[i : i + 1] for i in range(len(group))]
            else:
                found.poison[int(group[0])] = answer
                if len(found.poison) > MAX_POISON:
                    raise EncodeError(
                        f"more than {MAX_POISON} texts of one unit end the process that encodes them, the last time: "
                        f"{answer}. It looks as if something else is wrong with this machine or the model"
                    )
    assert found is not None
    return found


def _gather(
    token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], texts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Token ids and offsets of neighbouring texts alone."""
    start, stop = offsets[texts[0]], offsets[texts[-1] + 1]
    return token_ids[start:stop], offsets[texts[0] : texts[-1] + 2] - start


class _Workshop:
    """Has a living worker at hand."""

    def __init__(self, context: JobContext, threads: int | None) -> None:
        self._context, self._threads = context, threads
        self._worker: _Worker | None = None

    def worker(self, while_waiting: Callable[[], None]) -> "_Worker":
        if self._worker is None or self._worker.ended:
            try:
                self._worker = _Worker(self._context, self._threads, while_waiting)
            except OSError as error:
                raise EncodeError(f"no process to try texts apart can be started here: {error.strerror}") from error
        return self._worker

    def __enter__(self) -> "_Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.end()


class _Worker:
    """A throw-away process with a replica, seen from outside."""

    def __init__(self, context: JobContext, threads: int | None, while_waiting: Callable[[], None]) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        # Not `multiprocessing.Process`: it would run this process's main module once more, Ray's for example.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from pipeline.flow.isolate import serve; serve({theirs.fileno()}, {os.getpid()})"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self.ended = False
        self._connection.send((context, threads))
        try:
            while not self._connection.poll(1.0):  # loading a model takes the time it takes
                while_waiting()
            ready = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EncodeError(
                f"a process to find out which text ends the encoder could not be set up: {self._how_it_ended()}"
            ) from error
        if isinstance(ready, EmbedpipeError):
            self.end()
            raise ready
        self.device, self.dtype, self.gate = ready

    def encode(
        self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], timeout_s: float
    ) -> npt.NDArray[np.float32] | str:
        """The vectors, or how the process ended over it."""
        try:
            self._connection.send((token_ids, offsets))
            if not self._connection.poll(timeout_s):
                self.end()
                return f"no answer within {timeout_s:g} s"
            answer: npt.NDArray[np.float32] | str = self._connection.recv()
        except (EOFError, OSError):
            return self._how_it_ended()
        if isinstance(answer, str):
            self.end()
        return answer

    def end(self) -> None:
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
        return (
            f"its process was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"its process ended with exit code {code}"
        )


def serve(descriptor: int, parent: int) -> None:
    """The throw-away process: a job and its threads come in, (device, dtype, gate) goes out; then texts in, vectors out.

    Whatever is raised over texts is told and ends the process: a device may be of no use after it.
    """
    _die_with(parent)
    connection = Connection(descriptor)
    context, threads = connection.recv()
    context.open_store()  # for the settings that come with it
    try:
        encoder, gate = load_replica(context, threads)
    except EmbedpipeError as error:
        connection.send(error)
        return
    connection.send((encoder.placement.device, encoder.placement.dtype, gate.to_json()))
    for token_ids, offsets in _requests(connection):
        try:
            vectors = encode_finite(encoder, token_ids, offsets)
        except Exception as error:  # which of the many ways to fail it was, is for people to read
            connection.send(f"{type(error).__name__}: {error}".strip().splitlines()[0])
            return
        connection.send(vectors)


def _requests(connection: Connection) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
    with contextlib.suppress(EOFError):
        while True:
            yield connection.recv()


def _die_with(parent: int) -> None:
    """Have the system end this process when the one that started it ends, however it does."""
    set_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):  # not Linux: the pipe's end has to do
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
