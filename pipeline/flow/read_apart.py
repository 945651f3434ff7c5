"""A segment over which two processes have died or hung: read in a third one, which may die too.

What kills it may be a file that a library can't cope with, or a text that its tokenizer can't. Then the unit is `failed`, with
its file and how the process ended; the run goes on, and all other files' rows are safe.
"""

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pipeline.errors import EmbedpipeError, EncodeError, InputError, first_line
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.context import JobContext
from pipeline.flow.throwaway import LOADING_S, Ended, Throwaway
from pipeline.flow.watchdog import beat_s
from pipeline.plan.records import SegmentWork

if TYPE_CHECKING:
    from pipeline.flow.unit import PreparedUnit


def read_apart(
    context: JobContext,
    work: SegmentWork,
    give_up: Callable[[SegmentWork, int, InputError], Ack],
    while_waiting: Callable[[], None],
) -> "Iterator[PreparedUnit | Ack]":
    """What `Reading.units` gives. `give_up`: commits that a unit failed. `while_waiting`: called now and then; the process
    that is waited for has a deadline of its own.

    A process that was killed may have been killed for somebody else's sake, and one that gave no answer may have been stopped:
    that is believed the second time.
    """
    suspected = -1
    while (death := (yield from _read_once(context, work, while_waiting))) is not None:
        if death.how.by == signal.SIGKILL and death.k != suspected:
            suspected = death.k
            work = replace(work, done=work.done | {*range(death.k)})  # those before it are on their way
            continue
        uri = work.pieces[0].uri
        yield give_up(
            work, death.k, InputError(f"{uri}: reading it ends the process that does, every time: {death.how}")
        )
        return


@dataclass(frozen=True, slots=True)
class _Death:
    """Of a process, over the k-th unit of what it was given."""

    k: int
    how: Ended


def _read_once(
    context: JobContext, work: SegmentWork, while_waiting: Callable[[], None]
) -> "Generator[PreparedUnit | Ack, None, _Death | None]":
    """In one process. None: it came to the end, or something else is at fault than the file."""
    k, ready = 0, False
    try:
        process = Throwaway(serve_segment)
    except EmbedpipeError as error:
        yield failed_ack("error", work, k, error)
        return None
    try:
        process.send((context, work))
        message = process.receive(LOADING_S, while_waiting)  # for the tokenizer
        if isinstance(message, EmbedpipeError):
            yield failed_ack("error", work, k, message)
            return None
        ready = True
        while (message := process.receive(context.unit_timeout_s, while_waiting)) is not None:
            if isinstance(message, int):
                continue  # a sign of life
            if not isinstance(message, Ack):
                k = message.task.k + 1
            yield message
    except Ended as how:
        uri = work.pieces[0].uri
        if not ready or how.by not in (None, signal.SIGKILL):  # the file had no part in it
            yield failed_ack("error", work, k, EncodeError(f"{uri} was to be read apart, and {how}; run again"))
            return None
        while k in work.done:
            k += 1
        return _Death(k, how)
    finally:
        process.end()
    return None


def serve_segment(connection: Connection) -> None:
    """The throw-away process: a job and a segment come in, None goes out when it's ready; then its units, numbers in between
    that change as it gets on, and None at the end."""
    from pipeline.flow.reading import Reading

    context, work = connection.recv()
    lock, ended = threading.Lock(), threading.Event()
    try:
        reading = Reading(context)
    except EmbedpipeError as error:
        connection.send(error)
        return
    except Exception as error:
        connection.send(
            EncodeError(f"no tokenizer can be loaded to read a file apart: {first_line(error, named=True)}")
        )
        return
    connection.send(None)

    def beat() -> None:
        seen = reading.progress
        while not ended.wait(beat_s(context.unit_timeout_s)):
            if reading.progress != seen:
                seen = reading.progress
                with lock:
                    connection.send(seen)

    threading.Thread(target=beat, daemon=True).start()
    for unit in reading.units(work):
        with lock:
            connection.send(unit)
    ended.set()
    with lock:
        connection.send(None)
