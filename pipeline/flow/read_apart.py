"""A segment over which two processes have died or hung: read in a third one, which may die too.

What kills it may be a file that a library can't cope with, or a text that its tokenizer can't. Then the unit is `failed`, with
its file and how the process ended; the run goes on, and all other files' rows are safe.
"""

import signal
import threading
from collections.abc import Callable, Iterator
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
    that is waited for has a deadline of its own."""
    k, ready = 0, False
    try:
        process = Throwaway(serve_segment)
    except EmbedpipeError as error:
        yield failed_ack("error", work, k, error)
        return
    try:
        process.send((context, work))
        message = process.receive(LOADING_S, while_waiting)  # for the tokenizer
        if isinstance(message, EmbedpipeError):
            yield failed_ack("error", work, k, message)
            return
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
            return
        while k in work.done:
            k += 1
        yield give_up(work, k, InputError(f"{uri}: reading it ends the process that does, every time: {how}"))
    finally:
        process.end()


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
