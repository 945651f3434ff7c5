"""A unit that has killed the process that encoded it: which of its texts does it?

Its texts go, group by group, to a process that may die. After a death the texts of that group go one by one, so the one
that was asked for alone when the process died is the poison, and all others have their vectors. A process that was killed may
have been killed for somebody else's sake, and one that gave no answer may have been stopped, so those are believed the second
time. That takes two or three deaths a poisonous text however many texts there are, where halving the unit again and again would
take the logarithm of them. A process that is gone before it has its texts says nothing about them.
"""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from pipeline.errors import EmbedpipeError, EncodeError, InputError, first_line
from pipeline.flow.context import JobContext
from pipeline.flow.memory_limit import ENOUGH_BYTES, limit_memory
from pipeline.flow.replica import encode_finite, load_replica
from pipeline.flow.throwaway import LOADING_S, Ended, Throwaway

GROUP_TEXTS = 64
MAX_POISON = 32
"""Poisonous texts in one unit. Where there are more, something else is wrong than texts."""

MAX_IDLE_ENDS = 3
"""Processes of one unit that may end before they have their texts. Where there are more, somebody ends whatever is started."""

SHORT_OF_MEMORY = re.compile("^(_Array)?MemoryError|can't allocate memory|not enough memory|memory of the cpu")
"""How it is told that a process has come to its limit: by Python, numpy, torch and the encoder. A GPU's own memory has no limit
of ours, and other words."""


NO_ROOM = re.compile(
    r"out ?of ?memory|not enough memory|(can't|can ?not|unable to) (allocate|mmap)|MemoryError|bad_alloc", re.IGNORECASE
)
"""How libraries tell that a model doesn't fit, whatever it was to fit into."""


class NoRoom(EncodeError):
    """This machine has no memory for a process to try texts apart in."""


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
    Raises EncodeError when no process can be set up or it is told to end, or when memory is too short to tell a text that takes
    all there is from a long one; InputError when too many texts seem poisonous.
    """
    search = _Search(len(offsets) - 1, context.dimensions)
    replica: _Replica | None = None
    try:
        while search.todo:
            if replica is None or replica.ended:
                replica = _Replica(context, threads, while_waiting)
            group = search.todo.pop(0)
            answer = replica.encode(*_gather(token_ids, offsets, group), while_waiting)
            if isinstance(answer, Ended):
                search.ended(group, answer, replica.room)
            else:
                search.vectors[group] = answer
    finally:
        if replica is not None:
            replica.end()
    assert replica is not None
    return Isolated(search.vectors, replica.device, replica.dtype, replica.gate, search.poison)


class _Search:
    """Which texts are still to be asked for, in which groups, and what is known of the others."""

    def __init__(self, texts: int, dimensions: int) -> None:
        size = 1 if texts <= GROUP_TEXTS else GROUP_TEXTS
        self.todo = [np.arange(first, min(first + size, texts)) for first in range(0, texts, size)]
        self.vectors = np.zeros((texts, dimensions), np.float32)
        self.poison: dict[int, str] = {}
        self._killed: set[int] = set()  # once, each alone
        self._idle_ends = 0

    def ended(self, group: npt.NDArray[np.int64], how: Ended, room: int | None) -> None:
        """A process has ended over a group: it is asked for again, in smaller ones where that is possible, or its text is poison.
        `room` and errors: as in `serve_texts` and `isolate`."""
        text = int(group[0])
        if how.by not in (None, signal.SIGKILL):
            raise EncodeError(f"texts were being tried apart, and {how}: somebody has asked it to end; run again")
        if how.idle:
            self._count_idle(how)
            self.todo[:0] = [group]
        elif len(group) > 1:
            self.todo[:0] = [group[i : i + 1] for i in range(len(group))]
        elif how.by is not None and text not in self._killed:
            self._killed.add(text)
            self.todo[:0] = [group]
        else:
            _check_room(how, room)
            self.poison[text] = str(how)
            _check_count(self.poison)

    def _count_idle(self, how: Ended) -> None:
        self._idle_ends += 1
        if self._idle_ends > MAX_IDLE_ENDS:
            raise EncodeError(
                f"texts were to be tried apart, and {how}, before it was given one, {self._idle_ends} times over; find out "
                "what ends processes on this machine, and run again"
            )


def _check_room(how: Ended, room: int | None) -> None:
    short = SHORT_OF_MEMORY.search(str(how)) or (how.by == signal.SIGKILL and not how.late)
    if room is not None and room < ENOUGH_BYTES and short:
        raise NoRoom(
            f"there is no room on this machine to try texts apart: {room >> 20} MiB are left for it, and one text alone fails "
            f"in those ({how}), as a healthy one may; run again when more memory is free, or give the replica more"
        )


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
            # With the gate's texts the one that is looked for might end the process before it is asked for.
            own = replace(context, model=replace(context.model, gate_texts=()))
            self._process.send((own, threads))
            ready = self._process.receive(LOADING_S, while_waiting)
        except Ended as how:
            raise _no_model(str(how), no_room=how.by == signal.SIGKILL and not how.late) from None
        if isinstance(ready, EmbedpipeError):
            self.end()
            raise ready
        self.device, self.dtype, self.gate, self.room = ready

    @property
    def ended(self) -> bool:
        return self._process.ended

    def encode(
        self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], while_waiting: Callable[[], None]
    ) -> npt.NDArray[np.float32] | Ended:
        """The vectors, or how the process ended over it."""
        try:
            self._process.send((token_ids, offsets), self._timeout_s)
            answer: npt.NDArray[np.float32] | str = self._process.receive(self._timeout_s, while_waiting)
        except Ended as how:
            return how
        if isinstance(answer, str):
            self.end()
            return Ended(answer)
        return answer

    def end(self) -> None:
        self._process.end()


def _no_model(why: str, *, no_room: bool) -> EncodeError:
    kind = NoRoom if no_room else EncodeError
    return kind(f"no model can be loaded to try texts apart: {why}")


def serve_texts(connection: Connection) -> None:
    """The throw-away process: a job and its threads come in, (device, dtype, gate, room) goes out; then texts in, vectors out.
    Room: the memory there is for a text, in bytes; None where there is no limit.

    Whatever is raised over texts is told and ends the process: a device may be of no use after it.
    """
    context, threads = connection.recv()
    context.open_store()  # for the settings that come with it
    try:
        encoder, gate = load_replica(context, threads)
    except EmbedpipeError as error:
        connection.send(error)
        return
    except Exception as error:  # of a device that is of no use, for example
        why = first_line(error, named=True)
        connection.send(_no_model(why, no_room=NO_ROOM.search(why) is not None))
        return
    encoder.compile_within = None  # it takes minutes, and memory that is limited from here on
    room = limit_memory()  # a text that takes all there is shall fail here, with a reason
    connection.send((encoder.placement.device, encoder.placement.dtype, gate.to_json(), room))
    while True:
        try:
            vectors = encode_finite(encoder, *connection.recv())
        except EOFError:
            return
        except Exception as error:  # which of the many ways to fail it was, is for people to read
            connection.send(first_line(error, named=True))
            return
        connection.send(vectors)
