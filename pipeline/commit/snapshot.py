"""Snapshots: reading the log, and publishing the next entry by one conditional create."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.commit.keys import LOG, log_key, manifest_key, parse_log_version, spec_key
from pipeline.commit.manifest import ManifestUnit, data_files, decode_manifest, encode_manifest
from pipeline.commit.records import FileRef, LogEntry, parsed
from pipeline.commit.success import clear_success
from pipeline.errors import CommitError, Overtaken, VerificationError
from pipeline.spec import Spec, read_spec
from pipeline.storage.create import create
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A log entry and the units it publishes."""

    entry: LogEntry
    units: tuple[ManifestUnit, ...]

    @property
    def files(self) -> dict[str, FileRef]:
        """The data files, by key."""
        return data_files(self.units)


def list_versions(store: Store) -> list[int]:
    """Versions in the log, ascending, from one listing."""
    numbers = (parse_log_version(entry.key) for entry in store.list(LOG))
    return sorted(number for number in numbers if number is not None)


def newest_version(store: Store) -> int:
    """The last version in the log; 0 while nothing is published."""
    return max(list_versions(store), default=0)


def read_entry(store: Store, version: int) -> LogEntry | None:
    """The log entry of a version."""
    key = log_key(version)
    data = store.get(key)
    return None if data is None else parsed(store.root, key, data, LogEntry.from_json)


def read_stored_spec(store: Store, spec_id: str) -> Spec:
    """The spec with that identity. Raises VerificationError when what stands there is another one, or nothing."""
    key = spec_key(spec_id)
    document = store.get(key)
    if document is None:
        raise VerificationError(
            f"{store.root}/{key} is gone, which says what the snapshot is made of: something outside embedpipe deleted it. "
            "Restore it, or write the job's result to another output.path"
        )
    spec = parsed(store.root, key, document, read_spec)
    if spec.spec_id != spec_id:
        raise VerificationError(
            f"{store.root}/{key} describes another spec: something outside embedpipe has changed it"
        )
    return spec


def read_snapshot(store: Store, version: int) -> Snapshot | None:
    """A snapshot, or None when its entry or its manifest is not (or no longer) there.

    Raises VerificationError when the manifest's bytes are not those the entry names.
    """
    entry = read_entry(store, version)
    if entry is None:
        return None
    data = store.get(entry.manifest.key)
    if data is None:
        return None
    found = hashlib.sha256(data).hexdigest()
    if found != entry.manifest.sha256:
        raise VerificationError(
            f"{store.root}/{entry.manifest.key}: sha256 is {found}, the log says {entry.manifest.sha256}: something outside "
            "embedpipe has changed or damaged it. Restore it, or write the job's result to another output.path"
        )
    return Snapshot(entry, parsed(store.root, entry.manifest.key, data, decode_manifest))


def read_head(store: Store) -> Snapshot | None:
    """The newest snapshot; None when nothing was published.

    A reader may be overtaken: a manifest that is gone means the head has moved on, so the log is read again.
    """
    last_seen = -1
    while True:
        versions = list_versions(store)
        if not versions:
            return None
        snapshot = read_snapshot(store, versions[-1])
        if snapshot is not None:
            return snapshot
        if versions[-1] == last_seen:
            raise VerificationError(
                f"{store.root}: snapshot {last_seen} has lost its manifest although it is the newest: something outside "
                "embedpipe deleted it. Restore it, or write the job's result to another output.path"
            )
        last_seen = versions[-1]


def check_assembled(units: Sequence[ManifestUnit]) -> None:
    """Each unit once, each with exactly its rows in its slices, and no two units on the same rows of a file."""
    seen: set[str] = set()
    taken: dict[str, list[tuple[int, int]]] = {}
    for unit in units:
        if unit.unit in seen:
            raise CommitError(f"unit {unit.unit} is twice in the manifest about to be published")
        seen.add(unit.unit)
        rows = sum(part.rows for part in unit.slices)
        if rows != unit.rows_out:
            raise CommitError(f"unit {unit.unit} has {unit.rows_out} rows, but its slices hold {rows}")
        for part in unit.slices:
            taken.setdefault(part.file.key, []).append((part.first_row, part.rows))
    for file in data_files(units).values():
        end = 0
        for first, rows in sorted(taken[file.key]):
            if first != end:
                raise CommitError(
                    f"{file.key}: rows {min(first, end)} to {max(first, end)} belong to no unit or to two"
                )
            end += rows
        if end != file.rows:
            raise CommitError(f"{file.key}: has {file.rows} rows, its units hold {end}")


def publish(
    store: Store,
    spec: Spec,
    base: LogEntry | None,
    units: Sequence[ManifestUnit],
    *,
    retain: int,
    failed: dict[str, str],
    facts: dict[str, Any],
) -> LogEntry:
    """Publish `units` as the version after `base`. Raises Overtaken when that version is somebody else's."""
    check_assembled(units)
    version = base.version + 1 if base else 1
    create(store, spec_key(spec.spec_id), spec.document())
    manifest = encode_manifest(units)
    sha256 = hashlib.sha256(manifest).hexdigest()
    reference = FileRef(manifest_key(version, sha256), len(manifest), len(units), sha256)
    create(store, reference.key, manifest)
    files = data_files(units)
    entry = LogEntry(
        version=version,
        base=version - 1,
        oldest=max(base.oldest if base else 1, version - retain + 1),
        spec=spec.spec_id,
        recipe=spec.recipe_id,
        limit=spec.limit,
        manifest=reference,
        files=len(files),
        rows=sum(file.rows for file in files.values()),
        bytes=sum(file.bytes for file in files.values()),
        units=len(units),
        rows_in=sum(unit.rows_in for unit in units),
        rows_quarantined=sum(unit.rows_quarantined for unit in units),
        failed=failed,
        facts=facts,
    )
    clear_success(store)
    created = create(store, log_key(version), entry.to_json())
    if not created.ours:
        raise Overtaken(f"{store.root}: version {version} was published by another run while this one assembled")
    return entry


def republish(store: Store, head: Snapshot, retain: int) -> Snapshot:
    """Publish the head's units once more, as the next version: what a dead run left for that version becomes garbage.

    Raises Overtaken when that version is somebody else's.
    """
    entry = publish(
        store,
        read_stored_spec(store, head.entry.spec),
        head.entry,
        head.units,
        retain=retain,
        failed=head.entry.failed,
        facts=head.entry.facts,
    )
    return Snapshot(entry, head.units)
