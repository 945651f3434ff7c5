"""A process that may die, seen from outside: how its end is told, and that it holds nobody up who talks to it."""

import os
import signal
import socket
from multiprocessing.connection import Connection

import pytest
from support import throwaways

from pipeline.flow.throwaway import Ended, Throwaway

MORE_THAN_FITS = b"x" * (4 << 20)
"""Of a message, into the pipe."""


def stopped(process: Throwaway) -> None:
    os.kill(process._process.pid, signal.SIGSTOP)


def test_a_process_that_was_stopped_before_it_reads_is_killed_in_time() -> None:
    """A message larger than the pipe holds would wait for ever for somebody to read it."""
    process = Throwaway(throwaways.echo)
    stopped(process)
    with pytest.raises(Ended, match=r"its process took no message within 0\.2 s") as caught:
        process.send(MORE_THAN_FITS, 0.2)
    assert (caught.value.by, caught.value.late, caught.value.idle) == (signal.SIGKILL, True, True)
    assert process.ended
    assert process._process.poll() == -signal.SIGKILL


def test_a_process_that_was_stopped_in_the_middle_of_its_answer_is_killed_in_time() -> None:
    """What has come of it would pass for an answer that is there."""
    process = Throwaway(throwaways.echo)
    process.send(MORE_THAN_FITS)
    assert process._connection.poll(60)
    stopped(process)
    with pytest.raises(Ended, match=r"no answer within 0\.2 s") as caught:
        process.receive(0.2)
    assert (caught.value.by, caught.value.late, caught.value.idle) == (signal.SIGKILL, True, False)
    assert process._process.poll() == -signal.SIGKILL


def test_a_large_message_goes_and_comes_whole_whatever_the_default_of_sockets() -> None:
    """A script that sets a time-out for its own connections would make of the pipe one that doesn't block."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        process = Throwaway(throwaways.echo)
        process.send(MORE_THAN_FITS)
        assert process.receive(60) == MORE_THAN_FITS
    finally:
        socket.setdefaulttimeout(before)
    process.end()


def die_of_40(connection: Connection) -> None:
    """As of a library's own real-time signal."""
    connection.recv()
    os.kill(os.getpid(), 40)


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    """A `ValueError` would be a bug of ours, and the file or text that did it not found."""
    process = Throwaway(die_of_40)
    process.send("go")
    with pytest.raises(Ended, match="its process was ended by signal 40") as caught:
        process.receive(60)
    assert caught.value.by is None
