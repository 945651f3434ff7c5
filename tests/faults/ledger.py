"""What the soak has proved so far: counts, added up over any number of sittings, for each part and version of its code."""

import ast
import datetime
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "docs" / "reliability.json"


def _files(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"pipeline/{folder}/{name}.py" for name in names.split())


PACKAGE = ("pipeline/**/*.py",)
APART = (
    "pipeline/evaluate/**/*.py",  # scores models; no job runs it
    "pipeline/train/**/*.py",
    *_files("config", "evaluation pairs training"),
    "pipeline/encode/**/*.py",  # which numbers a vector has: tests of parity, and the gate, see to that; here they are scripted
    *_files("quality", "neighbours settings"),  # what cheaper settings would cost
    *_files("flow", "demand preflight speed metrics"),  # estimates and counters
    *_files("cli", "card config evaluate files plan sample status train"),
    *_files("export", "card"),
    "pipeline/sample.py",
)
"""What no part exercises, or what can't change what is published, kept, deleted or told of it."""

ENCODE = _files("encode", "blame settings")
"""Of `APART` what decides whether a text, a model or a machine is at fault, and what a job is."""

COLUMNS = _files("source", "columnar delimited expansion")
"""Readers of formats with columns; all that the parts of `LINES` read is JSONL."""

LINES = ("chaos", "poison")

PROTOCOL = (
    "pipeline/errors.py",  # what is tried again, and what a run ends with
    "pipeline/spec.py",  # identities: what counts as the same work
    "pipeline/commit/**/*.py",  # the records, and who may delete what
    "pipeline/plan/**/*.py",  # what is pending
    *_files("source", "records segments"),  # which pieces are a unit
    *_files("storage", "create faults probe retry store uri"),
    *_files("sink", "assemble records part"),
    *_files(
        "flow",
        "acks context encoding ending engine failures gate_watch isolate job lookup maintenance planning publishing reading",
    ),
    *_files("flow", "refusals rejected signals staging supervisor unit"),
)
"""What the simulation runs of the program: the code that decides what is published, kept and deleted."""

PARTS = ("simulation", "sweep", "chaos", "poison", "store", "corpus", "ground", "repeats", "security")

BOOKS = ("faults.ledger", "faults.report", "faults.soak")
"""Modules that only keep count."""


@dataclass(frozen=True)
class Chunk:
    """What one call of a part's `soak(first, seconds)` did."""

    next: int  # where the next call begins: a seed or case number
    counts: Mapping[str, int]  # added up by name; what must be 0 is counted too


@cache
def code_of(part: str) -> tuple[Path, ...]:
    """The files a part proves, and those it proves them with: of another version of either nothing was proved."""
    if part == "simulation":
        return (*_found(PROTOCOL), *apparatus(part))
    idle = COLUMNS if part in LINES else ()
    return (*sorted({*_found(PACKAGE)} - {*_found((*APART, *idle))} | {*_found(ENCODE)}), *apparatus(part))


def _found(patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def apparatus(part: str) -> list[Path]:
    """The part's modules below tests/faults and what they import of others: what does the damage, and what judges."""
    folder = ROOT / "tests/faults"
    todo = [path for path in (folder / part).glob("*.py") if not path.stem.startswith("test_")]
    if part == "repeats":
        todo += (path for path in folder.glob("*/test_*.py") if "mark.ray" in path.read_text())
    todo += (folder / "hooks.py", *(folder / "site").glob("*.py"))
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += (module for name in _imported(path) if (module := _module(name)) is not None)
    return sorted(found)


def _module(name: str) -> Path | None:
    """Where a module of the proof lies; None for a name in one, a folder, and what only keeps count."""
    path = (ROOT / "tests" / name.replace(".", "/")).with_suffix(".py")
    return path if path.exists() and name not in BOOKS else None


def _imported(path: Path) -> Iterator[str]:
    """Modules of the proof that a file imports or, as `python -m` and hooks do, names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "faults":
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("faults."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\bfaults\.[a-z_.]+[a-z]", node.value)


def version_of(part: str) -> str:
    """12 hexadecimal characters of `code_of`, as it is now."""
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
