"""A unit that has killed the process that encoded it: which of its texts does it?

Its texts go, group by group, to a process that may die. After a death the texts of that group go one by one, so the one
that was asked for alone when the process died is the poison, and all others have their vectors. A process that was killed may
have been killed for somebody else's sake, so it is believed the second time. That takes two or three deaths a poisonous text
however many texts there are, where halving the unit again and again would take the logarithm of them.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from pipeline.errors import EmbedpipeError, EncodeError, InputError
from pipeline.flow.context import JobContext
from pipeline.flow.memory_limit import limit_memory
from pipeline.flow.replica import encode_finite, load_replica
from pipeline.flow.throwaway import LOADING_S, Ended, Throwaway

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
    while_waiting: Callable[[], None],
) -> Isolated:
    """Encode texts (as `Encoder.encode` takes them) in throw-away processes.

    while_waiting: called now and then; the process that is waited for has a deadline of its own.
    Raises EncodeError when no process can be set up or it is told to end, InputError when too many texts seem poisonous.
    """
    texts = len(offsets) - 1
    killed: set[int] = set()
    size = 1 if texts <= GROUP_TEXTS else GROUP_TEXTS
    todo = [np.arange(first, min(first + size, texts)) for first in range(0, texts, size)]
    vectors = np.zeros((texts, context.dimensions), np.float32)
    poison: dict[int, str] = {}
    replica: _Replica | None = None
    try:
        while todo:
            if replica is None or replica.ended:
                replica = _Replica(context, threads, while_waiting)
            group = todo.pop(0)
            answer = replica.encode(*_gather(token_ids, offsets, group), while_waiting)
            first = int(group[0])
            if not isinstance(answer, Ended):
                vectors[group] = answer
            elif answer.by not in (None, signal.SIGKILL):
                raise EncodeError(
                    f"texts were being tried apart, and {answer}: somebody has asked it to end; run again"
                )
            elif len(group) > 1:
                todo[:0] = [group[i : i + 1] for i in range(len(group))]
            elif answer.by is not None and first not in killed:
                killed.add(first)
                todo[:0] = [group]
            else:
                poison[first] = str(answer)
                _check_count(poison)
    finally:
        if replica is not None:
            replica.end()
    assert replica is not None
    return Isolated(vectors, replica.device, replica.dtype, replica.gate, poison)


def _check_count(poison: dict[int, str]) -> None:
    if len(poison) > MAX_POISON:
        last = list(poison.values())[-1]
        raise InputError(
            f"more than {MAX_POISON} texts of one unit end the process that encodes them, the last time: {last}. It looks "
            "as if something else is wrong with this machine or the model"
        )


def _gather(
    token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], texts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Token ids and offsets of neighbouring texts alone."""
    start, stop = offsets[texts[0]], offsets[texts[-1] + 1]
    return token_ids[start:stop], offsets[texts[0] : texts[-1] + 2] - start


class _Replica:
    """A model replica in a throw-away process, seen from outside."""

    def __init__(self, context: JobContext, threads: int | None, while_waiting: Callable[[], None]) -> None:
        self._process = Throwaway(serve_texts)
        self._timeout_s = context.unit_timeout_s
        try:
            self._process.send((context, threads))
            ready = self._process.receive(LOADING_S, while_waiting)
        except Ended as how:
            raise EncodeError(f"no model can be loaded to find out which text ends the encoder: {how}") from None
        if isinstance(ready, EmbedpipeError):
            self.end()
            raise ready
        self.device, self.dtype, self.gate = ready

    @property
    def ended(self) -> bool:
        return self._process.ended

    def encode(
        self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], while_waiting: Callable[[], None]
    ) -> npt.NDArray[np.float32] | Ended:
        """The vectors, or how the process ended over it."""
        try:
            self._process.send((token_ids, offsets))
            answer: npt.NDArray[np.float32] | str = self._process.receive(self._timeout_s, while_waiting)
        except Ended as how:
            return how
        if isinstance(answer, str):
            self.end()
            return Ended(answer)
        return answer

    def end(self) -> None:
        self._process.end()


def serve_texts(connection: Connection) -> None:
    """The throw-away process: a job and its threads come in, (device, dtype, gate) goes out; then texts in, vectors out.

    Whatever is raised over texts is told and ends the process: a device may be of no use after it.
    """
    context, threads = connection.recv()
    context.open_store()  # for the settings that come with it
    try:
        encoder, gate = load_replica(context, threads)
    except EmbedpipeError as error:
        connection.send(error)
        return
    limit_memory()  # a text that takes all there is shall fail here, with a reason
    connection.send((encoder.placement.device, encoder.placement.dtype, gate.to_json()))
    while True:
        try:
            vectors = encode_finite(encoder, *connection.recv())
        except EOFError:
            return
        except Exception as error:  # which of the many ways to fail it was, is for people to read
            connection.send(f"{type(error).__name__}: {error}".strip().splitlines()[0])
            return
        connection.send(vectors)
