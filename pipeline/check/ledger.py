"""The records of a snapshot, read here from their documented form alone: JSON log entry, spec, Parquet manifest.

Nothing of the room that writes them is used, so a mistake made there can't hide itself here.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.check.form import ENTRY, SPEC, UNIT, Form, fault
from pipeline.check.report import Findings
from pipeline.errors import InputError, VerificationError
from pipeline.storage.store import Store

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow says of a damaged Parquet file; the last where a name in it is not UTF-8."""

_LOG = "_embedpipe/log/"
_LOG_NAME = re.compile(r"^_embedpipe/log/(\d{20})\.json$")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A data file as the manifest describes it."""

    key: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class UnitSlice:
    """Rows [first_row, first_row + rows) of a data file; they belong to the unit at `unit` in `Ledger.units`."""

    unit: int
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Log entry, manifest rows and spec of one version, as plain JSON-like values."""

    version: int
    entry: Mapping[str, Any]
    units: tuple[Mapping[str, Any], ...]  # manifest rows
    recipe: Mapping[str, Any]
    layout: Mapping[str, Any]
    files: Mapping[str, FileFacts]  # by key
    slices: Mapping[str, tuple[UnitSlice, ...]]  # by key, ordered by first_row

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.recipe["outputs"][0]["dimensions"])

    @property
    def normalized(self) -> bool:
        """Whether vectors are unit vectors."""
        return bool(self.recipe["outputs"][0]["normalized"])

    @property
    def partition_by(self) -> tuple[str, ...]:
        """Columns that stand in the path."""
        return tuple(self.layout["partition_by"])


def newest_version(store: Store) -> int:
    """The newest version in the log. Raises InputError when nothing was published."""
    versions = [int(match[1]) for entry in store.list(_LOG) if (match := _LOG_NAME.match(entry.key))]
    if not versions:
        raise InputError(f"{store.root}: nothing has been published here, so there is nothing to verify")
    return max(versions)


def read_ledger(store: Store, version: int, findings: Findings) -> Ledger | None:
    """Read and cross-check the records of a version; None when manifest or spec can't be used: gone, unreadable, or
    another than the log names. What such a one says of the data would be held against the data.

    Notes faults of the checks `log`, `manifest` and `spec`. Raises VerificationError for a log entry or spec that is
    not readable at all, or not of its form: nothing else can be said then.
    """
    entry = _read_entry(store, version, findings)
    units = _read_manifest(store, entry, findings)
    if units is None:
        return None
    spec = _read_spec(store, entry, findings)
    if spec is None:
        return None
    files: dict[str, FileFacts] = {}
    slices: dict[str, list[UnitSlice]] = {}
    for index, unit in enumerate(units):
        for part in unit["slices"]:
            facts = FileFacts(part["file"], part["file_bytes"], part["file_rows"], part["sha256"])
            if files.setdefault(facts.key, facts) != facts:
                findings.add("manifest", f"unit {unit['unit']} describes {facts.key} in another way than earlier units")
            slices.setdefault(facts.key, []).append(UnitSlice(index, part["first_row"], part["rows"]))
    ordered = {key: tuple(sorted(parts, key=lambda part: part.first_row)) for key, parts in slices.items()}
    return Ledger(version, entry, units, spec["recipe"], spec["layout"], files, ordered)


def _read_entry(store: Store, version: int, findings: Findings) -> dict[str, Any]:
    key = f"{_LOG}{version:020d}.json"
    entry = _object(store, key, ENTRY)
    if entry["version"] != version:
        findings.add("log", f"{key} says version {entry['version']}")
    if entry["base"] != version - 1:
        findings.add("log", f"{key} was made from version {entry['base']}, not from {version - 1}")
    if not 1 <= entry["oldest"] <= version:
        findings.add("log", f"{key} keeps versions from {entry['oldest']} on")
    return entry


def _read_manifest(store: Store, entry: Mapping[str, Any], findings: Findings) -> tuple[dict[str, Any], ...] | None:
    reference = entry["manifest"]
    data = store.get(reference["key"])
    if data is None:
        findings.add("manifest", f"{reference['key']} is not there")
        return None
    if len(data) != reference["bytes"]:
        findings.add("manifest", f"{reference['key']} has {len(data)} bytes, the log says {reference['bytes']}")
    if hashlib.sha256(data).hexdigest() != reference["sha256"]:
        findings.add("manifest", f"{reference['key']} has another sha256 than the log says")
        return None
    try:
        rows = pq.read_table(io.BytesIO(data), page_checksum_verification=True).to_pylist()
    except UNREADABLE as error:
        findings.add("manifest", f"{reference['key']} can't be read: {error}")
        return None
    for index, row in enumerate(rows):
        if wrong := fault(row, UNIT):
            findings.add("manifest", f"{reference['key']}, row {index}: {wrong}")
            return None
    if len(rows) != reference["rows"]:
        findings.add("manifest", f"{reference['key']} lists {len(rows)} units, the log says {reference['rows']}")
    return tuple(rows)


def _read_spec(store: Store, entry: Mapping[str, Any], findings: Findings) -> dict[str, Any] | None:
    """The spec document; None when its hashes are not those the log entry names."""
    key = f"_embedpipe/spec/{entry['spec']}.json"
    spec = _object(store, key, SPEC)
    recipe_id = canonical_digest(spec["recipe"])[:32]
    spec_id = canonical_digest({"recipe": recipe_id, "layout": spec["layout"], "limit": spec["limit"]})[:32]
    if spec_id != entry["spec"]:
        findings.add("spec", f"{key} hashes to {spec_id}")
    if recipe_id != entry["recipe"]:
        findings.add("spec", f"{key} holds recipe {recipe_id}, the log says {entry['recipe']}")
    return None if findings.counts["spec"] else spec


def canonical_digest(value: object) -> str:
    """sha256 of the JSON text with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _object(store: Store, key: str, form: Form) -> dict[str, Any]:
    """The JSON object under a key. Raises VerificationError when it is none, or not of that form."""
    data = store.get(key)
    if data is None:
        raise VerificationError(f"{store.root}/{key} is not there; something outside embedpipe deleted it")
    try:
        value: dict[str, Any] = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair can be neither hashed nor looked up
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{store.root}/{key} is not JSON ({error}); it was changed from outside") from error
    if wrong := fault(value, form):
        raise VerificationError(f"{store.root}/{key}: {wrong}; it was changed from outside")
    return value
