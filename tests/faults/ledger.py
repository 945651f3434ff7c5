"""What the soak has proved so far: counts, added up over any number of sittings, for each version of the protocol's code."""

import datetime
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "docs" / "reliability.json"
PROTOCOL = (
    "pipeline/commit/*.py",
    "pipeline/plan/*.py",
    "pipeline/sink/assemble.py",
    *(f"pipeline/storage/{name}.py" for name in ("create", "local", "object_store", "probe", "retry", "s3")),
    *(
        f"pipeline/flow/{name}.py"
        for name in (
            "encoding",
            "engine",
            "isolate",
            "maintenance",
            "planning",
            "publishing",
            "reading",
            "staging",
            "supervisor",
        )
    ),
)
"""The code that decides what is published, kept and deleted. Another version of it has to prove itself anew."""


@dataclass(frozen=True)
class Chunk:
    """What one call of a part's `soak(first, seconds)` did."""

    next: int  # where the next call begins: a seed or case number
    counts: Mapping[str, int]  # added up by name; what must be 0 is counted too


def protocol_version() -> str:
    """12 hexadecimal characters of the protocol's code."""
    digest = hashlib.sha256()
    for pattern in PROTOCOL:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def load() -> dict[str, Any]:
    """The ledger: version → part → {"next", "seconds", "counts"}."""
    return dict(json.loads(LEDGER.read_text())) if LEDGER.exists() else {}


def add(part: str, chunk: Chunk, seconds: float) -> None:
    """Add what a call did. Written whole and renamed: a soak may be killed at any moment; and others may go on beside it."""
    with _locked():
        ledger = load()
        entry = ledger.setdefault(protocol_version(), {}).setdefault(part, {"next": 0, "seconds": 0, "counts": {}})
        entry["next"] = chunk.next
        entry["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry["seconds"] = round(entry["seconds"] + seconds, 1)
        for name, count in chunk.counts.items():
            entry["counts"][name] = entry["counts"].get(name, 0) + count
        temporary = LEDGER.with_suffix(".tmp")
        temporary.write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n")
        temporary.replace(LEDGER)


@contextmanager
def _locked() -> Iterator[None]:
    folder = os.open(LEDGER.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def begin(part: str) -> int:
    """Where a part goes on."""
    return int(load().get(protocol_version(), {}).get(part, {}).get("next", 0))


def counts(part: str, version: str | None = None) -> dict[str, int]:
    """What is counted of a part, over all its lanes."""
    total: dict[str, int] = {}
    for name, entry in load().get(version or protocol_version(), {}).items():
        if name.partition(".")[0] == part:
            for count, number in entry["counts"].items():
                total[count] = total.get(count, 0) + number
    return total
