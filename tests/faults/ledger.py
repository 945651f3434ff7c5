"""What the soak has proved so far: counts, added up over any number of sittings, for each part and version of its code."""

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


def _files(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"pipeline/{folder}/{name}.py" for name in names.split())


PROTOCOL = (
    "pipeline/errors.py",  # what is tried again, and what a run ends with
    "pipeline/spec.py",  # identities: what counts as the same work
    "pipeline/commit/**/*.py",  # the records, and who may delete what
    "pipeline/plan/**/*.py",  # what is pending
    *_files("storage", "create local object object_store open probe retry s3 direct faults store"),  # conditional creates
    *_files("sink", "assemble part records"),  # what parts and data files hold
    *_files("flow", "acks context encoding engine gate_watch isolate job maintenance planning publishing reading rejected"),
    *_files("flow", "refusals signals staging supervisor unit"),
)  # fmt: skip
"""The code that decides what is published, kept and deleted."""

TEXTS = ("pipeline/text/**/*.py", "pipeline/flow/replica.py")  # which vector and hash are a row's
SINK = ("pipeline/sink/**/*.py",)  # layout, partitions, duplicate ids
STORAGE = ("pipeline/storage/**/*.py",)  # also sources and pinned reads
SOURCE = ("pipeline/source/**/*.py",)  # one reader per format
RAY = _files(
    "flow", "cluster desk losses memory_limit ray_engine read_apart throwaway watchdog"
)  # what dies and hangs on a cluster
SERIAL = _files("flow", "overlap serial watchdog")  # what does without one
GATE = ("pipeline/quality/gate.py",)  # what a text may do before anything is encoded
CLUSTER_JOBS = (*PROTOCOL, *TEXTS, *SINK, *RAY, *_files("flow", "summary"), *_files("cli", "app run terminal"))
"""Whole jobs on Ray, to their exit code."""

CODE: Mapping[str, tuple[str, ...]] = {
    "simulation": PROTOCOL,
    "sweep": (*PROTOCOL, *TEXTS, *SINK, *STORAGE, *SERIAL),  # whole jobs, without Ray
    "chaos": CLUSTER_JOBS,
    "poison": (*PROTOCOL, *TEXTS, *RAY, *SERIAL, *GATE),  # both engines
    "store": (*PROTOCOL, *TEXTS, *SINK, *STORAGE, *SERIAL),  # whole jobs, without Ray
    "corpus": (*SOURCE, *TEXTS, *_files("storage", "faults generic inputs pinned s3 uri glob")),  # bytes to rows
    "ground": (*PROTOCOL, *TEXTS, *SOURCE, *STORAGE, *SERIAL, "pipeline/model/**/*.py", *_files("flow", "status summary")),
    "repeats": (*CLUSTER_JOBS, *GATE, *_files("flow", "exposure")),  # of chaos, poison, ground and security what runs on Ray
    "security": (
        "pipeline/model/**/*.py",  # code in models
        "pipeline/config/**/*.py",  # code and URLs in configs
        "pipeline/commit/**/*.py",  # what stands in records
        *STORAGE, *SOURCE, *SINK,  # names, URLs, secrets in messages
        *_files("flow", "cluster exposure submit"),  # what is open to others
        "pipeline/progress/**/*.py", *_files("cli", "app logs"),  # secrets in events, logs and last words
    ),
}  # fmt: skip
"""Part → the code it exercises. Another version of that has to prove itself anew; other code can't undo what was proved."""


@dataclass(frozen=True)
class Chunk:
    """What one call of a part's `soak(first, seconds)` did."""

    next: int  # where the next call begins: a seed or case number
    counts: Mapping[str, int]  # added up by name; what must be 0 is counted too


def code_of(part: str) -> list[Path]:
    """The files a part proves."""
    return sorted({path for pattern in CODE[part] for path in ROOT.glob(pattern)})


def version_of(part: str) -> str:
    """12 hexadecimal characters of the code a part proves, as it is now."""
    digest = hashlib.sha256()
    for path in code_of(part):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def load() -> dict[str, Any]:
    """The ledger: part → version → lane → {"next", "at", "seconds", "counts"}."""
    return dict(json.loads(LEDGER.read_text())) if LEDGER.exists() else {}


def add(part: str, version: str, chunk: Chunk, seconds: float, lane: int = 0) -> None:
    """Add what a call did. Written whole and renamed: a soak may be killed at any moment; and others may go on beside it.

    version: that of the code when the call began. Of others the last one stays, to be shown until this one has more to say.
    """
    with _locked():
        ledger = load()
        versions = ledger.setdefault(part, {})
        entry = versions.setdefault(version, {}).setdefault(str(lane), {"next": 0, "seconds": 0, "counts": {}})
        entry["next"] = chunk.next
        entry["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry["seconds"] = round(entry["seconds"] + seconds, 1)
        for name, count in chunk.counts.items():
            entry["counts"][name] = entry["counts"].get(name, 0) + count
        for old in sorted(versions.keys() - {version}, key=lambda one: _last(versions[one]))[:-1]:
            del versions[old]
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


def begin(part: str, version: str, lane: int = 0) -> int:
    """Where a lane of a part goes on."""
    return int(load().get(part, {}).get(version, {}).get(str(lane), {}).get("next", 0))


def newest(part: str) -> str:
    """The present version, if anything was counted for it, or the last one for which something was; "" when there's none."""
    versions = load().get(part, {})
    present = version_of(part)
    return present if present in versions else max(versions, key=lambda one: _last(versions[one]), default="")


def seconds(part: str, version: str) -> float:
    """How long a version was at it, over all lanes."""
    return float(sum(entry["seconds"] for entry in load().get(part, {}).get(version, {}).values()))


def counts(part: str, version: str | None = None) -> dict[str, int]:
    """What is counted of a part, by default of its present version, over all its lanes."""
    total: dict[str, int] = {}
    for entry in load().get(part, {}).get(version or version_of(part), {}).values():
        for count, number in entry["counts"].items():
            total[count] = total.get(count, 0) + number
    return total


def _last(lanes: Mapping[str, Mapping[str, Any]]) -> str:
    """When a version was last added to."""
    return max(entry["at"] for entry in lanes.values())
