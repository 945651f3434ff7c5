"""Collection: deleting what nobody refers to and nobody ever will. No clock, no lease: ages are never looked at.

Everything is judged from one listing of the log, and each condition, once true, stays true, so anybody may collect at
any time beside live runs. Log entries, unit records and specs are never deleted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.commit.keys import (
    ASSEMBLY,
    ATTEMPT,
    DATA,
    MANIFEST,
    PART,
    QUARANTINE,
    UnitFile,
    parse_data_base,
    parse_leading_number,
    parse_unit_file,
    unit_key,
)
from pipeline.commit.records import PieceRef, UnitRecord
from pipeline.commit.snapshot import Snapshot, list_versions, read_entry, read_snapshot
from pipeline.commit.success import clear_success
from pipeline.commit.units import Fetch, fetch_in_threads, list_generations, read_rulings, retire_unit
from pipeline.storage.store import Store

Lookup = Callable[[str], str | None]
"""The version a source URI has now; None when it is gone."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be deleted, and the units to be retired first."""

    retire: tuple[UnitRecord, ...]  # rulings to supersede: their parts become deletable by it
    keys: tuple[str, ...]  # deletable now, those of the units in `retire` included


@dataclass(frozen=True, slots=True)
class _View:
    """The kept snapshots, from one listing of the log."""

    head: Snapshot
    kept: tuple[Snapshot, ...]
    past_specs: frozenset[str]  # of entries before the head


def find_garbage(store: Store, lookup: Lookup, fetch: Fetch = fetch_in_threads) -> Garbage:
    """Judge everything below the output. Nothing published yet: only staged files can be garbage."""
    parts = [file for entry in store.list(PART) if (file := parse_unit_file(entry.key))]
    quarantines = [file for entry in store.list(QUARANTINE) if (file := parse_unit_file(entry.key))]
    attempts = [file for entry in store.list(ATTEMPT) if (file := parse_unit_file(entry.key))]
    generations = list_generations(store)
    rulings = read_rulings(store, {file.unit for file in (*parts, *quarantines)}, generations, fetch)
    view = _read_view(store)
    retire = tuple(_retirable(view, parts, rulings, lookup))
    superseded = {record.unit: record.generation for record in retire}
    keys = [file.key for file in parts if _part_is_garbage(store, file, generations, rulings, superseded)]
    keys.extend(file.key for file in quarantines if _is_unnamed(store, file, generations, rulings))
    keys.extend(file.key for file in attempts if generations.get(file.unit, -1) >= file.generation)
    if view is not None:
        keys.extend(_unpublished(store, view))
    return Garbage(retire, tuple(keys))


def collect(store: Store, garbage: Garbage) -> None:
    """Retire, then delete. `_SUCCESS` goes first where data files are among the keys."""
    for record in garbage.retire:
        retire_unit(store, record, record.generation + 1)
    if any(key.startswith(DATA) for key in garbage.keys):
        clear_success(store)
    if garbage.keys:
        store.delete(garbage.keys)


def has_leftovers(store: Store, head: Snapshot) -> bool:
    """Whether files made for a next version that never came lie about; publishing once more makes them deletable."""
    version = head.entry.version
    kept = head.files.keys()
    return (
        any(parse_data_base(entry.key) == version and entry.key not in kept for entry in store.list(DATA))
        or any(parse_leading_number(entry.key, ASSEMBLY) == version for entry in store.list(ASSEMBLY))
        or any((parse_leading_number(entry.key, MANIFEST) or 0) > version for entry in store.list(MANIFEST))
    )


def _read_view(store: Store) -> _View | None:
    versions = list_versions(store)
    if not versions or (head := read_snapshot(store, versions[-1])) is None:
        return None
    older = [read_snapshot(store, version) for version in versions if head.entry.oldest <= version < versions[-1]]
    specs = [entry.spec for version in versions[:-1] if (entry := read_entry(store, version))]
    kept = (*(snapshot for snapshot in older if snapshot is not None), head)
    return _View(head, kept, frozenset(specs))


def _retirable(
    view: _View | None, parts: list[UnitFile], rulings: dict[str, UnitRecord], lookup: Lookup
) -> Iterator[UnitRecord]:
    """Rulings whose staged rows nobody will need: published already, of another spec, or of a source that moved on."""
    covered = {(unit.unit, unit.generation) for unit in view.head.units} if view else set()
    versions: dict[str, str | None] = {}
    for unit in sorted({file.unit for file in parts}):
        record = rulings.get(unit)
        if record is None or record.state != "done":
            continue
        replaced = view is not None and record.spec != view.head.entry.spec and record.spec in view.past_specs
        if (unit, record.generation) in covered or replaced or _moved_on(record.pieces, lookup, versions):
            yield record


def _moved_on(pieces: tuple[PieceRef, ...], lookup: Lookup, versions: dict[str, str | None]) -> bool:
    """Whether a source file is gone or has another version; looked up after the record was seen."""
    for piece in pieces:
        if piece.uri not in versions:
            versions[piece.uri] = lookup(piece.uri)
    return any(versions[piece.uri] != piece.version for piece in pieces)


def _part_is_garbage(
    store: Store,
    file: UnitFile,
    generations: dict[str, int],
    rulings: dict[str, UnitRecord],
    superseded: dict[str, int],
) -> bool:
    if generations.get(file.unit, -1) > file.generation or superseded.get(file.unit, -1) >= file.generation:
        return True
    return _is_unnamed(store, file, generations, rulings)


def _is_unnamed(store: Store, file: UnitFile, generations: dict[str, int], rulings: dict[str, UnitRecord]) -> bool:
    """Whether the record of the file's own generation is there and names another file, or none."""
    if generations.get(file.unit, -1) < file.generation:
        return False  # no record yet: it may still be committed
    record = rulings.get(file.unit)
    if record is not None and record.generation != file.generation:
        data = store.get(unit_key(file.unit, file.generation))
        record = None if data is None else UnitRecord.from_json(data)
    if record is None:
        return False
    return all(named is None or named.key != file.key for named in (record.part, record.quarantine))


def _unpublished(store: Store, view: _View) -> Iterator[str]:
    """Data files, manifests and assembly records that no kept entry can need."""
    version = view.head.entry.version
    files = {key for snapshot in view.kept for key in snapshot.files}
    manifests = {snapshot.entry.manifest.key for snapshot in view.kept}
    for entry in store.list(DATA):
        base = parse_data_base(entry.key)
        if base is not None and base < version and entry.key not in files:
            yield entry.key
    for entry in store.list(MANIFEST):
        number = parse_leading_number(entry.key, MANIFEST)
        if number is not None and number <= version and entry.key not in manifests:
            yield entry.key
    for entry in store.list(ASSEMBLY):
        number = parse_leading_number(entry.key, ASSEMBLY)
        if number is not None and number < version:
            yield entry.key
