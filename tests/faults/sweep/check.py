"""What is wrong with a finished output. Goes by docs/design.md and the oracle, through nothing of the program."""

import functools
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from faults import oracle
from faults.leftovers import leftovers, manifest_units
from faults.sweep.job import Expected


@dataclass
class Findings:
    """Counts, and everything wrong in words."""

    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    mispaired: int = 0  # of another text, in another partition, or of no source
    leftovers: int = 0
    wrong: list[str] = field(default_factory=list)


class _Glance:
    """An output at one moment, when nobody writes to it: listed once, each key read once."""

    def __init__(self, output: oracle.Reader) -> None:
        self._keys = output.keys()
        self.read = functools.cache(output.read)

    def keys(self) -> list[str]:
        return self._keys


def check(root: str, model: str, expected: Expected, *, collected: bool, settled: bool) -> Findings:
    """Judge an output after a clean run. `collected`: after `gc` too. `settled`: no request was outstanding."""
    output = _Glance(oracle.reader(root))
    findings = Findings()
    entry = oracle.newest(output)
    if entry is None:
        findings.lost = len(expected.texts)
        findings.wrong.append("nothing is published")
        return findings
    try:
        rows = oracle.rows(output, entry)
    except oracle.UNREADABLE as error:
        findings.lost = len(expected.texts)
        findings.wrong.append(f"the head can't be read: {error!r}")
        return findings
    _add(findings, "the head", oracle.judge(rows, expected.texts, model, expected.kept))
    units = manifest_units(output, entry)
    _check_folders(findings, output, units, expected.folders)
    _check_aside(findings, output, entry, units, expected.aside)
    keys = output.keys()
    if "_SUCCESS" in keys and settled:
        found = [row for key in keys if key.startswith("data/") for row in _rows(output, key)]
        _add(findings, "a glob of data/", oracle.judge(found, expected.texts, model, expected.kept))
        if _file(output, "_SUCCESS")["version"] != entry["version"]:
            findings.wrong.append("_SUCCESS names another version than the head's")
    elif settled:
        findings.wrong.append("_SUCCESS does not stand after a clean run")
    if collected:
        left = leftovers(output)
        findings.leftovers = len(left)
        findings.wrong.extend(f"left: {key}" for key in left)
    return findings


def check_moment(root: str, model: str, editions: Iterable[Expected]) -> list[str]:
    """What is wrong at a moment when a run has just died or given up: a reader must see one of the editions, whole, and
    `_SUCCESS` may stand only where a glob of data/ gives just that."""
    output = _Glance(oracle.reader(root))
    keys = output.keys()
    marked = "_SUCCESS" in keys
    entry = oracle.newest(output)
    if entry is None:
        return ["_SUCCESS stands, and nothing is published"] if marked else []
    try:
        rows = oracle.rows(output, entry)
    except oracle.UNREADABLE as error:
        return [f"a reader can't read the head: {error!r}"]
    wrong = []
    if not any(oracle.judge(rows, edition.texts, model, edition.kept).right for edition in editions):
        wrong.append(f"a reader sees version {entry['version']}, which is no edition of the source: {rows}")
    files = {part["file"] for unit in manifest_units(output, entry) for part in unit["slices"]}
    if marked and files != {key for key in keys if key.startswith("data/")}:
        wrong.append("_SUCCESS stands, and data/ holds other files than the head's")
    return wrong


def _add(findings: Findings, where: str, verdict: oracle.Verdict) -> None:
    findings.rows = max(findings.rows, verdict.rows)
    findings.lost += len(verdict.lost)
    findings.duplicated += len(verdict.doubled)
    findings.mispaired += len(verdict.mispaired) + len(verdict.foreign)
    if not verdict.right:
        findings.wrong.append(f"{where}: {verdict}")


def _check_folders(
    findings: Findings, output: oracle.Reader, units: Iterable[Mapping[str, Any]], folders: Mapping[str, str]
) -> None:
    for key in {part["file"] for unit in units for part in unit["slices"]}:
        folder = key.removeprefix("data/").rpartition("/")[0]
        strangers = [row.id for row in _rows(output, key) if folders.get(row.id) != folder]
        if strangers:
            findings.mispaired += len(strangers)
            findings.wrong.append(f"{key}: rows of another partition: {strangers}")


def _check_aside(
    findings: Findings,
    output: oracle.Reader,
    entry: Mapping[str, Any],
    units: Iterable[Mapping[str, Any]],
    aside: frozenset[str],
) -> None:
    found: list[str] = []
    for key in sorted({unit["quarantine"] for unit in units if unit["quarantine"]}):
        data = output.read(key)
        if data is None:
            findings.wrong.append(f"gone: {key}, which the head names")
            continue
        found.extend(pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)["id"].to_pylist())
    findings.lost += len(aside - set(found))
    findings.duplicated += len(found) - len(set(found))
    if sorted(found) != sorted(aside) or entry["rows_quarantined"] != len(aside):
        findings.wrong.append(f"kept aside: {found} and {entry['rows_quarantined']} told of, expected {sorted(aside)}")


def _rows(output: oracle.Reader, key: str) -> list[oracle.Row]:
    return oracle.rows_of(output.read(key) or b"")


def _file(output: oracle.Reader, key: str) -> dict[str, Any]:
    return dict(json.loads(output.read(key) or b"{}"))
