"""Processes of a running job, as Linux describes them: who they are, and how much memory they hold."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

ROLES = {
    "encode worker": r"ray::.*EncodeActor",
    "read worker": r"ray::.*_read",
    "stage worker": r"ray::.*_stage",
}
"""Titles that Ray gives its workers while they work."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process."""

    id: int
    title: str
    own_bytes: int  # anonymous memory now
    shared_bytes: int  # of Ray's object store, mapped now


def descendants(root: int) -> list[Process]:
    """`root` and all processes below it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    family = {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return [found for child in sorted(family) if (found := _describe(child)) is not None]


def role_of(process: Process, root: int) -> str:
    """What the process does for the job; "" for those of Ray itself and idle ones."""
    if process.id == root:
        return "driver"
    return next((role for role, title in ROLES.items() if re.match(title, process.title)), "")


def kill(root: int, role: str) -> int:
    """SIGKILL every process of a role below `root`; how many there were."""
    found = [process for process in descendants(root) if role_of(process, root) == role]
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.id, 9)
    return len(found)


def _describe(process: int) -> Process | None:
    folder = Path("/proc", str(process))
    try:
        title = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        status = (folder / "status").read_text()
    except OSError:
        return None
    return Process(process, title, _kilobytes(status, "RssAnon") << 10, _kilobytes(status, "RssShmem") << 10)


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else 0
