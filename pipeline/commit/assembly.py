"""Assemblies: which files the next snapshot is made of, and the commit of each of them.

A head file whose units are all kept stays by reference. Everything else, new units and what is kept of a file that
lost some, is laid out anew: partition folder by partition folder, in the order of the units but for those of one older
file, which stay together so that it is read once; cut at the target size.
The layout is a pure function of its inputs, so drivers working from the same base make the same files and share them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.commit.keys import assembly_key
from pipeline.commit.manifest import FileSlice, ManifestUnit
from pipeline.commit.records import AssemblyRecord, UnitRecord, parsed
from pipeline.errors import CommitError
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.spec import canonical_json, digest
from pipeline.storage.create import create
from pipeline.storage.store import Store

WRITER_VERSION = 3
"""Raised whenever this program would cut or write data files in another way."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The files to write on top of `base` (0: nothing published yet)."""

    base: int
    id: str
    files: tuple[DataFilePlan, ...]


def plan_assembly(
    base: int,
    kept: Sequence[ManifestUnit],
    dropped: Iterable[ManifestUnit],
    added: Sequence[UnitRecord],
    target_bytes: int,
    layout: Mapping[str, object],
) -> Assembly:
    """Lay out what must be written. `layout`: whatever else decides a file's bytes (spec, Parquet settings)."""
    broken = {part.file.key for unit in dropped for part in unit.slices}
    by_folder: dict[str, list[_Placed]] = {}
    for unit in kept:
        for part in unit.slices:
            if part.file.key in broken:
                file = part.file
                size = file.bytes * part.rows // max(1, file.rows)
                source = SourceSlice(unit.unit, file.key, 0, file.bytes, file.sha256, part.first_row, part.rows, size)
                by_folder.setdefault(_folder(file.key), []).append((unit_order(unit), source))
    for record in added:
        if record.part is not None:
            for group in record.folders:
                source = SourceSlice(
                    record.unit, record.part.key, group.start, group.bytes, group.sha256, 0, group.rows, group.bytes
                )
                by_folder.setdefault(group.folder, []).append((unit_order(record), source))
    files: list[DataFilePlan] = []
    for folder in sorted(by_folder):
        ordered = _ordered(by_folder[folder])
        first = len(files)
        files.extend(DataFilePlan(first + i, folder, run) for i, run in enumerate(_cut(ordered, target_bytes)))
    identity = {
        "base": base,
        "units": sorted([[u.unit, u.generation] for u in kept] + [[u.unit, u.generation] for u in added]),
        "files": [[f.folder, *([s.unit, s.first_row, s.rows] for s in f.slices)] for f in files],
        "target_bytes": target_bytes,
        "writer": WRITER_VERSION,
        "layout": dict(layout),
    }
    return Assembly(base, digest(identity)[:32], tuple(files))


_Placed = tuple[tuple[object, ...], SourceSlice]
"""A slice and the order of its unit."""


def _ordered(slices: Sequence[_Placed]) -> list[SourceSlice]:
    """In the order of the units, but those of one file beside each other, where the first of them stands."""
    first: dict[str, tuple[object, ...]] = {}
    for order, source in slices:
        first[source.key] = min(first.get(source.key, order), order)
    return [source for _, source in sorted(slices, key=lambda placed: (first[placed[1].key], placed[1].key, placed[0]))]


def unit_order(unit: ManifestUnit | UnitRecord) -> tuple[object, ...]:
    """Sort key: units in the order of the input's files, and within one in the order of its rows."""
    first = unit.pieces[0]
    return (first.uri, first.start, unit.k, unit.unit)


def _cut(slices: Sequence[SourceSlice], target_bytes: int) -> list[tuple[SourceSlice, ...]]:
    """Runs of slices of about `target_bytes` each; a slice is never cut."""
    runs: list[tuple[SourceSlice, ...]] = []
    run: list[SourceSlice] = []
    size = 0
    for part in slices:
        if run and size + part.bytes > target_bytes:
            runs.append(tuple(run))
            run, size = [], 0
        run.append(part)
        size += part.bytes
    return [*runs, tuple(run)] if run else runs


def _folder(key: str) -> str:
    """The partition folder of a data file's key: "" or `column=value/…/`."""
    return key.removeprefix("data/").rpartition("/")[0] + "/" if key.count("/") > 1 else ""


def read_assembled(store: Store, base: int, assembly: str, k: int) -> AssemblyRecord | None:
    """The record of a data file somebody has already made for this assembly."""
    key = assembly_key(base, assembly, k)
    data = store.get(key)
    return None if data is None else parsed(store.root, key, data, AssemblyRecord.from_json)


def commit_file(store: Store, record: AssemblyRecord) -> AssemblyRecord:
    """Commit a data file; gives the record that stands, ours or that of a driver who was quicker."""
    key = assembly_key(record.base, record.assembly, record.k)
    created = create(store, key, record.to_json())
    standing = parsed(store.root, key, created.value, AssemblyRecord.from_json)
    if standing.slices != record.slices:
        raise CommitError(
            f"assembly {record.base}-{record.assembly}, file {record.k}: two drivers laid it out differently"
        )
    return standing


def assembled_units(
    assembly: Assembly, records: Sequence[AssemblyRecord], kept: Sequence[ManifestUnit], added: Sequence[UnitRecord]
) -> list[ManifestUnit]:
    """The units of the new snapshot with where their rows lie now, in unit order."""
    rewritten: dict[str, list[FileSlice]] = {}
    replaced = {source.key for file in assembly.files for source in file.slices}
    for record in records:
        for part in record.slices:
            rewritten.setdefault(part.unit, []).append(FileSlice(record.file, part.first_row, part.rows))
    units = [_moved(unit, rewritten.get(unit.unit, []), replaced) for unit in kept]
    units.extend(_published(record, rewritten.get(record.unit, [])) for record in added)
    return sorted(units, key=unit_order)


def _moved(unit: ManifestUnit, rewritten: Sequence[FileSlice], replaced: set[str]) -> ManifestUnit:
    if not rewritten:
        return unit
    stay = [part for part in unit.slices if part.file.key not in replaced]
    values = {name: getattr(unit, name) for name in unit.__slots__}
    return ManifestUnit(**{**values, "slices": (*stay, *rewritten)})


def _published(record: UnitRecord, slices: Sequence[FileSlice]) -> ManifestUnit:
    return ManifestUnit(
        unit=record.unit,
        generation=record.generation,
        segment=record.segment,
        k=record.k,
        eof=record.eof,
        pieces=record.pieces,
        spans=record.spans,
        rows_in=record.rows_in,
        rows_out=record.rows_out,
        rows_quarantined=record.rows_quarantined,
        quarantine=record.quarantine.key if record.quarantine else "",
        digest=record.digest,
        device=record.device,
        dtype=record.dtype,
        gate=canonical_json(record.gate).decode() if record.gate else "",
        slices=tuple(slices),
    )
