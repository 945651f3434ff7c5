"""Signals to processes of one cluster and its jobs, and to nobody else's.

Each carries the cluster's name in its environment; or, where Ray has written a title over that, its log lies in the cluster's
folder.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARK = "FAULTS_CLUSTER"


@dataclass(frozen=True)
class Process:
    """A process at one moment."""

    id: int
    parent: int
    title: str


def family(cluster: str) -> list[Process]:
    """All living processes of a cluster and its jobs."""
    return [found for path in Path("/proc").glob("[0-9]*") if (found := _describe(path, cluster)) is not None]


def strike(process: int, cluster: str, number: signal.Signals) -> bool:
    """Send a signal, if it is a process of that cluster; whether it was."""
    if _describe(Path("/proc", str(process)), cluster) is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
        return True
    return False


def gone(process: int) -> bool:
    """Whether a process has ended, reaped or not."""
    state = _state(process)
    return state is None or state[0] in "ZX"


def parent_of(process: int) -> int | None:
    """Its parent's id."""
    state = _state(process)
    return None if state is None else int(state[1])


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Look again and again; whether the condition came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)  # between two looks
    return True


def _state(process: int) -> list[str] | None:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _describe(path: Path, cluster: str) -> Process | None:
    try:
        title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        if not _marked(path, cluster) and not (title.startswith("ray::") and _logs_to(path, cluster)):
            return None
    except OSError:
        return None
    state = _state(int(path.name))
    return None if state is None or state[0] in "ZX" else Process(int(path.name), int(state[1]), title)


def _marked(path: Path, cluster: str) -> bool:
    return f"{MARK}={cluster}".encode() in (path / "environ").read_bytes().split(b"\0")


def _logs_to(path: Path, cluster: str) -> bool:
    return any(cluster in file.readlink().parts for file in (path / "fd").iterdir())
