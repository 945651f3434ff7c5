"""What throw-away processes run in tests: they end, hang and answer as they are told."""

import os
import signal
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Script:
    """As much of a job's context as `isolate` asks for, and what texts do to the process that encodes them."""

    folder: str  # where deaths are counted
    deaths: dict[int, tuple[int, int]] = field(default_factory=dict)  # token id → (signal, how often); 0: exit code 3
    dimensions: int = 2
    unit_timeout_s: float = 60


def serve_scripted(connection: Connection) -> None:
    """In place of `serve_texts`: the vector of a text is its first token id, twice."""
    script, _ = connection.recv()
    connection.send(("cpu", "float32", {}))
    while True:
        try:
            token_ids, offsets = connection.recv()
        except EOFError:
            return
        for token in token_ids.tolist():
            _suffer(script, token)
        connection.send(np.repeat(token_ids[offsets[:-1]].astype(np.float32)[:, None], script.dimensions, axis=1))


def _suffer(script: Script, token: int) -> None:
    number, times = script.deaths.get(token, (0, 0))
    died = Path(script.folder, f"{token}.deaths")
    before = len(died.read_bytes()) if died.exists() else 0
    if before < times:
        died.write_bytes(b"x" * (before + 1))
        if number == 0:
            os._exit(3)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)  # what was started in the background ignores SIGINT
        os.kill(os.getpid(), number)


def serve_dying(connection: Connection) -> None:
    """In place of `serve_segment`: it is ready, and dies as the script says of token 0."""
    script, _ = connection.recv()
    connection.send(None)
    _suffer(script, 0)


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
