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

ENOUGH_BYTES = 1 << 30
"""A text for which less doesn't suffice may be a healthy one: a forward pass holds several tensors of a text's tokens, and one
of 8,192 tokens by 4,096 values takes 128 MiB."""

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def limit_memory() -> int | None:
    """From now on this process gets little more than what is free at this moment; how many bytes more that is. None: there is
    no limit, since that can't be told, or the system has none (other than Linux)."""
    with contextlib.suppress(ImportError, OSError, ValueError, LookupError):
        import resource

        taken = _field("self/status", "VmData:")
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = min(most for most in (taken + room_bytes(), soft, hard) if most != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        return limit - taken
    return None


def room_bytes() -> int:
    """What this process may still take: of the machine, or of its container where that is less."""
    total, free = _field("meminfo", "MemTotal:"), _field("meminfo", "MemAvailable:")
    for most, used, statistics, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max", or another kind of control groups
            limit = int((CGROUP / most).read_text())
            if limit < total:
                taken = int((CGROUP / used).read_text()) - _cached_bytes(CGROUP / statistics, prefix)
                total, free = limit, min(free, limit - max(0, taken))
    return max(AT_LEAST_BYTES, int(free - SPARED * total))


def _cached_bytes(statistics: Path, prefix: str) -> int:
    """Pages of files that a control group's use counts in; reading and writing fills all there is with them, and the system
    takes them back for whoever needs memory. `MemAvailable` has left them out already."""
    with contextlib.suppress(OSError, ValueError):  # then all of its use counts
        fields = dict(line.split(maxsplit=1) for line in statistics.read_text().splitlines())
        return sum(int(fields.get(f"{prefix}{name}", 0)) for name in ("inactive_file", "active_file"))
    return 0


def _field(file: str, name: str) -> int:
    """A line of a file below /proc, `Name:  n kB`, in bytes."""
    lines = (PROC / file).read_text(encoding="ascii", errors="replace").splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(name)]
    return int(value) * 1024
