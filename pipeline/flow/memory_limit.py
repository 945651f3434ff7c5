"""A limit on a process's memory, so that what would take the machine's last fails there and nowhere else.

Without it the system ends whichever process it likes, and a Ray node's guard ends Ray's own workers, though it is their
throw-away child that has grown.
"""

import contextlib
from pathlib import Path

SPARED = 0.1
"""Share of the machine's memory that is left to others; Ray's guard acts when 5% are left."""

AT_LEAST_BYTES = 256 << 20
"""What one text may take in any case."""

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def limit_memory() -> None:
    """From now on this process gets little more than what is free at this moment. Does nothing where that can't be told, or
    where the system has no such limit (other than Linux)."""
    with contextlib.suppress(ImportError, OSError, ValueError, LookupError):
        import resource

        limit = _field("self/status", "VmData:") + room_bytes()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def room_bytes() -> int:
    """What this process may still take: of the machine, or of its container where that is less."""
    total, free = _field("meminfo", "MemTotal:"), _field("meminfo", "MemAvailable:")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max", or another kind of control groups
            limit = int((CGROUP / most).read_text())
            if limit < total:
                total, free = limit, min(free, limit - int((CGROUP / used).read_text()))
    return max(AT_LEAST_BYTES, int(free - SPARED * total))


def _field(file: str, name: str) -> int:
    """A line of a file below /proc, `Name:  n kB`, in bytes."""
    lines = (PROC / file).read_text(encoding="ascii", errors="replace").splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(name)]
    return int(value) * 1024
