"""What throw-away processes run in tests: they end, hang and answer as they are told."""

import os
import signal
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

UNITS = 3
"""Of a segment that `serve_dying` reads."""


@dataclass(frozen=True)
class Model:
    """As much of a job's model."""

    gate_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """As much of a job's context as `isolate` asks for, and what texts do to the process that encodes them."""

    folder: str  # where deaths are counted
    deaths: dict[int, tuple[int, int]] = field(default_factory=dict)  # token id → (signal, how often); 0: exit code 3
    raised: dict[int, str] = field(default_factory=dict)  # token id → what is told of it
    leaves: int = 0  # processes that go as soon as they are ready
    room: int | None = None
    model: Model = field(default_factory=Model)
    dimensions: int = 2
    unit_timeout_s: float = 60


def serve_scripted(connection: Connection) -> None:
    """In place of `serve_texts`: the vector of a text is its first token id, twice."""
    script, _ = connection.recv()
    leaves = _once_more(script, "idle", script.leaves)
    connection.send(("gone" if leaves else "cpu", "float32", {}, script.room))
    while not leaves:
        try:
            token_ids, offsets = connection.recv()
        except EOFError:
            return
        for token in token_ids.tolist():
            _suffer(script, token)
            if token in script.raised:
                connection.send(script.raised[token])
                return
        connection.send(np.repeat(token_ids[offsets[:-1]].astype(np.float32)[:, None], script.dimensions, axis=1))


def _suffer(script: Script, token: int) -> None:
    number, times = script.deaths.get(token, (0, 0))
    if _once_more(script, str(token), times):
        if number == 0:
            os._exit(3)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)  # what was started in the background ignores SIGINT
        os.kill(os.getpid(), number)


def _once_more(script: Script, name: str, times: int) -> bool:
    """Whether something happens again, that happens so many times in all; and then it's counted."""
    counted = Path(script.folder, f"{name}.deaths")
    before = len(counted.read_bytes()) if counted.exists() else 0
    if before < times:
        counted.write_bytes(b"x" * (before + 1))
    return before < times


@dataclass(frozen=True)
class Task:
    """As much of a unit's task."""

    k: int


@dataclass(frozen=True)
class Unit:
    """As much of a unit that was read."""

    task: Task


def serve_dying(connection: Connection) -> None:
    """In place of `serve_segment`: it is ready, unless it leaves before that, and dies before the k-th unit as the script says of
    token k."""
    script, work = connection.recv()
    if script.leaves:
        return
    connection.send(None)
    for k in range(UNITS):
        _suffer(script, k)
        if k not in work.done:
            connection.send(Unit(Task(k)))
    connection.send(None)


def say_who(connection: Connection) -> None:
    """Its process, process group and session."""
    connection.send((os.getpid(), os.getpgrp(), os.getsid(0)))


def echo(connection: Connection) -> None:
    """Sends one message back."""
    connection.send(connection.recv())


def hang_up(connection: Connection) -> None:
    """Closes the pipe and stays, as a device's library may that hangs while the interpreter goes down."""
    connection.recv()
    connection.close()
    signal.pause()
