"""Collection: deleting what nobody refers to and nobody ever will. No clock, no lease: ages are never looked at.

Everything is judged from one listing of the log, and each condition, once true, stays true, so anybody may collect at
any time beside live runs. Log entries, unit records and specs are never deleted.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.commit.keys import (
    ASSEMBLY,
    ATTEMPT,
    DATA,
    MANIFEST,
    PART,
    PROBE,
    QUARANTINE,
    UnitFile,
    parse_assembly_base,
    parse_data_base,
    parse_manifest_version,
)
from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import AttemptNote, PieceRef, UnitRecord, parsed, tiles
from pipeline.commit.snapshot import Snapshot, list_versions, read_entry, read_snapshot
from pipeline.commit.success import clear_success
from pipeline.commit.units import (
    RETRY,
    Fetch,
    fetch_many,
    list_generations,
    list_unit_files,
    open_request,
    read_rulings,
    read_unit,
    retire_unit,
)
from pipeline.errors import InputError
from pipeline.storage.store import Store

Lookup = Callable[[str], str | None]
"""The version a source URI has now; None when it is gone. Raises InputError for one that may not be looked at."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """A unit to be retired, and the generation of the record that says so."""

    unit: UnitRecord | AttemptNote
    generation: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be deleted, and the units to be retired first."""

    retire: tuple[Retirement, ...]  # what is staged of them becomes deletable by it
    keys: tuple[str, ...]  # deletable then, those of the units in `retire` included


@dataclass(frozen=True, slots=True)
class _View:
    """The kept snapshots, from one listing of the log."""

    head: Snapshot
    kept: tuple[Snapshot, ...]
    earlier: tuple[int, ...]  # versions before the head


def find_garbage(store: Store, lookup: Lookup, fetch: Fetch = fetch_many, *, abandon: bool = False) -> Garbage:
    """Judge everything below the output. Nothing published yet: only staged files can be garbage.

    abandon: what is staged or in flight and no snapshot has is given up too; a run going on does it again.
    """
    parts = list_unit_files(store, PART)
    quarantines = list_unit_files(store, QUARANTINE)
    attempts = list_unit_files(store, ATTEMPT)
    generations = list_generations(store)
    unruled = [file for file in attempts if generations.get(file.unit, -1) < file.generation]
    rulings = read_rulings(store, {file.unit for file in (*parts, *quarantines, *unruled)}, generations, fetch)
    # Read after the listings: what is not ruled by now may be ruled in the meantime, and then retiring it changes nothing.
    notes = _read_notes(store, unruled, fetch)
    view = _read_view(store)
    needless = _Needless(store, view, lookup, rulings, abandon=abandon)
    staged = [
        record
        for unit in sorted({file.unit for file in (*parts, *quarantines)})
        if (record := rulings.get(unit)) is not None and (record.part is not None or not needless.has(unit))
    ]
    retire = [
        Retirement(note, generations.get(note.unit, -1) + 1, needless.request(note))
        for note in notes
        if needless.begun(note)
    ]
    retire.extend(
        Retirement(record, record.generation + 1, needless.request(record))
        for record in staged
        if record.state == "done" and needless.committed(record)
    )
    retired = {retirement.unit.unit: retirement.generation for retirement in retire}
    unnamed = _Unnamed(store, generations, rulings, retired)
    keys = [file.key for file in parts if unnamed.part(file)]
    keys.extend(file.key for file in quarantines if unnamed.quarantine(file))
    keys.extend(file.key for file in attempts if unnamed.attempt(file))
    keys.extend(_ends_without_beginning(attempts))
    keys.extend(entry.key for entry in store.list(PROBE))
    if view is not None:
        keys.extend(_unpublished(store, view))
    return Garbage(tuple(retire), tuple(keys))


def collect(store: Store, garbage: Garbage) -> None:
    """Retire, then delete. `_SUCCESS` goes first where data files are among the keys."""
    needed = set()
    for retirement in garbage.retire:
        standing = retire_unit(store, retirement.unit, retirement.generation, retirement.reason)
        # Somebody may have committed at that very generation: then what the record names is no garbage.
        needed |= {named.key for named in (standing.part, standing.quarantine) if named is not None}
    keys = [key for key in garbage.keys if key not in needed]
    if any(key.startswith(DATA) for key in keys):
        clear_success(store)
    if keys:
        store.delete(keys)


def list_unpublished(store: Store, head: Snapshot) -> Iterator[str]:
    """Files made for the next version. They may be a live run's; publishing once more makes them deletable, and overtakes
    that run."""
    version, kept = head.entry.version, head.files.keys()
    for entry in store.list(DATA):
        if parse_data_base(entry.key) == version and entry.key not in kept:
            yield entry.key
    for entry in store.list(ASSEMBLY):
        if parse_assembly_base(entry.key) == version:
            yield entry.key
    for entry in store.list(MANIFEST):
        if (parse_manifest_version(entry.key) or 0) > version:
            yield entry.key


def _read_notes(store: Store, unruled: Iterable[UnitFile], fetch: Fetch) -> list[AttemptNote]:
    """The note that was planned last of each unit with attempts at a generation without a record."""
    keys = sorted(file.key for file in unruled if not file.key.endswith(".end"))
    found = zip(keys, fetch(store.get, keys), strict=True)
    notes = [parsed(store.root, key, data, AttemptNote.from_json) for key, data in found if data is not None]
    return list({note.unit: note for note in sorted(notes, key=lambda note: note.base)}.values())


def _read_view(store: Store) -> _View | None:
    """None where nothing is published, or not all of what is kept can be read: then nothing is judged by it."""
    versions = list_versions(store)
    head = read_snapshot(store, versions[-1]) if versions else None
    if head is None:
        return None
    older = [read_snapshot(store, version) for version in range(head.entry.oldest, head.entry.version)]
    kept = [snapshot for snapshot in older if snapshot is not None]
    return _View(head, (*kept, head), tuple(versions[:-1])) if len(kept) == len(older) else None


class _Needless:
    """Which units nobody will need what is staged of them."""

    def __init__(
        self, store: Store, view: _View | None, lookup: Lookup, rulings: dict[str, UnitRecord], *, abandon: bool
    ) -> None:
        self._store, self._view, self._lookup, self._abandon = store, view, lookup, abandon
        self._rulings = rulings
        units = view.head.units if view else ()
        self._published = {unit.unit: unit for unit in units}
        self._pieces = {_place(piece) for unit in units for piece in unit.pieces}
        self._whole = frozenset(_whole_files(piece for unit in units for piece in unit.pieces))
        self._versions: dict[str, str | None] = {}
        self._specs: list[tuple[int, str]] | None = None  # of the versions before the head

    def has(self, unit: str) -> bool:
        """Whether the head has it, from whatever generation."""
        return unit in self._published

    def committed(self, record: UnitRecord) -> bool:
        """Of a unit that is done: the head has its rows, or nobody will publish them."""
        published = self._published.get(record.unit)
        return (published is not None and published.generation >= record.generation) or self.begun(record)

    def begun(self, unit: UnitRecord | AttemptNote) -> bool:
        """Of one that the head doesn't have: given up, of a spec that was replaced, of a source that moved on, or with
        rows that the head has all the same."""
        return (
            self._abandon
            or self._is_replaced(unit)
            or self._is_published(unit)
            or _moved_on(unit.pieces, self._lookup, self._versions)
        )

    def _is_published(self, unit: UnitRecord | AttemptNote) -> bool:
        """By another generation, unless the unit is to be worked anew for the sake of its quarantined rows; or by units cut
        otherwise."""
        if self._view is None or unit.spec != self._view.head.entry.spec:
            return False
        published = self._published.get(unit.unit)
        if published is not None:
            return not _is_to_be_redone(published, self._rulings.get(unit.unit))
        # A unit that was planned on this very head is wanted in spite of what the head has. Of a group of small files one of
        # which can't be read, the head has the others, each on its own. A file whose footer a plan was refused was cut otherwise.
        entry = self._view.head.entry
        return unit.base < entry.version and all(
            _place(piece) in self._pieces or (piece.uri, piece.version) in self._whole or piece.uri in entry.failed
            for piece in unit.pieces
        )

    def request(self, unit: UnitRecord | AttemptNote) -> str:
        """What its `retired` record asks for: the request for another try outlives what was made of it, and also a
        publication that is just under way, of the rows it is about."""
        ruling, published = self._rulings.get(unit.unit), self._published.get(unit.unit)
        return open_request(self._store, ruling, published.generation if published else -1)

    def _is_replaced(self, unit: UnitRecord | AttemptNote) -> bool:
        """Whether its spec was published since it was planned, and another one after that. A run may go back to a spec
        that was replaced long ago, so that alone says nothing."""
        if self._view is None or unit.spec == self._view.head.entry.spec:
            return False
        if self._specs is None:
            entries = [read_entry(self._store, version) for version in self._view.earlier]
            self._specs = [(entry.version, entry.spec) for entry in entries if entry is not None]
        return any(version >= unit.base and spec == unit.spec for version, spec in self._specs)


def _is_to_be_redone(published: ManifestUnit, ruling: UnitRecord | None) -> bool:
    """As the plan sees it: asked for, done since, or tried in vain."""
    if ruling is None or not published.rows_quarantined:
        return False
    return ruling.generation > published.generation and (ruling.reason == RETRY or ruling.state != "retired")


def _place(piece: PieceRef) -> tuple[str, str, int, int]:
    return (piece.uri, piece.version, piece.start, piece.stop)


def _whole_files(pieces: Iterable[PieceRef]) -> Iterator[tuple[str, str]]:
    """(URI, version) of files that are there from the beginning to the end."""
    by_file: dict[tuple[str, str], set[PieceRef]] = {}
    for piece in pieces:
        by_file.setdefault((piece.uri, piece.version), set()).add(piece)
    yield from (file for file, found in by_file.items() if tiles(found))


def _moved_on(pieces: Sequence[PieceRef], lookup: Lookup, versions: dict[str, str | None]) -> bool:
    """Whether a source file is gone or has another version; looked up after the record was seen. Nobody knows of one that
    may not be looked at any more."""
    for piece in pieces:
        if piece.uri not in versions:
            with contextlib.suppress(InputError):
                versions[piece.uri] = lookup(piece.uri)
    return any(versions.get(piece.uri, piece.version) != piece.version for piece in pieces)


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """Which files of units no record names, and none ever will."""

    store: Store
    generations: dict[str, int]  # the highest with a record, by unit, as listed
    rulings: dict[str, UnitRecord]  # the records of these, as read
    retired: dict[str, int]  # unit → generation of the record that retires it before anything is deleted

    def part(self, file: UnitFile) -> bool:
        ruling = self.rulings.get(file.unit)  # read, not only listed: a part is worth more than a listing's word
        superseded = ruling is not None and ruling.generation > file.generation
        return superseded or self.retired.get(file.unit, -1) >= file.generation or self._by_its_record(file)

    def quarantine(self, file: UnitFile) -> bool:
        return self.retired.get(file.unit) == file.generation or self._by_its_record(file)

    def attempt(self, file: UnitFile) -> bool:
        return max(self.generations.get(file.unit, -1), self.retired.get(file.unit, -1)) >= file.generation

    def _by_its_record(self, file: UnitFile) -> bool:
        """Whether the record of the file's own generation is there and names another file, or none."""
        if self.generations.get(file.unit, -1) < file.generation:
            return False  # no record yet: it may still be committed
        record = self.rulings.get(file.unit)
        if record is not None and record.generation != file.generation:
            record = read_unit(self.store, file.unit, file.generation)
        if record is None:
            return False
        return all(named is None or named.key != file.key for named in (record.part, record.quarantine))


def _ends_without_beginning(attempts: Iterable[UnitFile]) -> Iterator[str]:
    """Notes of the end of attempts that got no further than the note of their beginning: they say nothing to anybody."""
    begun = {file.attempt for file in attempts if not file.key.endswith(".end")}
    yield from (file.key for file in attempts if file.key.endswith(".end") and file.attempt not in begun)


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
        number = parse_manifest_version(entry.key)
        if number is not None and number <= version and entry.key not in manifests:
            yield entry.key
    for entry in store.list(ASSEMBLY):
        number = parse_assembly_base(entry.key)
        if number is not None and number < version:
            yield entry.key
