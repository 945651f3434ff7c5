"""The manifest: every unit of a snapshot, where its rows came from and in which files they lie. One Parquet file."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, islice, pairwise
from operator import attrgetter
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.commit.records import FileRef, PieceRef
from pipeline.errors import RefusedError
from pipeline.source.records import Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Rows of a unit in a data file."""

    file: FileRef
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class ManifestUnit:
    """One done unit of a snapshot."""

    unit: str
    generation: int
    segment: str
    k: int
    eof: bool
    pieces: tuple[PieceRef, ...]
    spans: tuple[Span, ...]
    rows_in: int
    rows_out: int
    rows_quarantined: int
    quarantine: str  # key, or ""
    digest: str
    device: str
    dtype: str
    gate: str  # JSON
    slices: tuple[FileSlice, ...]


_PIECE = pa.struct(
    [
        ("uri", pa.string()),
        ("version", pa.string()),
        ("measure", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("last", pa.bool_()),
    ]
)
_SPAN = pa.struct(
    [
        ("uri", pa.string()),
        ("version", pa.string()),
        ("measure", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
    ]
)
_SLICE = pa.struct(
    [
        ("file", pa.string()),
        ("file_bytes", pa.int64()),
        ("file_rows", pa.int64()),
        ("sha256", pa.string()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("generation", pa.int32()),
        ("segment", pa.string()),
        ("k", pa.int32()),
        ("eof", pa.bool_()),
        ("pieces", pa.list_(_PIECE)),
        ("spans", pa.list_(_SPAN)),
        ("rows_in", pa.int64()),
        ("rows_out", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("quarantine", pa.string()),
        ("digest", pa.string()),
        ("device", pa.string()),
        ("dtype", pa.string()),
        ("gate", pa.string()),
        ("slices", pa.list_(_SLICE)),
    ]
)


_NESTED: dict[str, tuple[str, ...]] = {
    "pieces": ("uri", "version", "measure", "start", "stop", "last"),
    "spans": ("uri", "version", "measure", "start", "stop"),
    "slices": ("file.key", "file.bytes", "file.rows", "file.sha256", "first_row", "rows"),
}
"""Where the fields of a nested column's structs come from, in their order."""

_AT_ONCE = 65_536
"""Units that are columns and objects at the same time."""


def encode_manifest(units: Iterable[ManifestUnit]) -> bytes:
    """The manifest file of `units`, in the order given: the same units give the same bytes."""
    left = iter(units)
    tables = [SCHEMA.empty_table()]
    while some := list(islice(left, _AT_ONCE)):
        columns = [
            _nest([getattr(unit, field.name) for unit in some], field)
            if field.name in _NESTED
            else pa.array([getattr(unit, field.name) for unit in some], field.type)
            for field in SCHEMA
        ]
        tables.append(pa.table(columns, schema=SCHEMA))
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def decode_manifest(data: bytes) -> tuple[ManifestUnit, ...]:
    """Read a manifest file. Raises RefusedError when its columns aren't those of a manifest."""
    # Not `read_table`: its threads may outlive a short command and abort the process at its exit.
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    if not file.schema_arrow.equals(SCHEMA):
        raise RefusedError("the manifest has other columns than this version writes; use the version that published it")
    make = _Makers()
    units: list[ManifestUnit] = []
    for batch in file.iter_batches(_AT_ONCE, use_threads=False):
        columns = [
            _unnest(batch[field.name], getattr(make, field.name))
            if field.name in _NESTED
            else batch[field.name].to_pylist()
            for field in SCHEMA
        ]
        units.extend(map(ManifestUnit, *columns))
    return tuple(units)


def data_files(units: Sequence[ManifestUnit]) -> dict[str, FileRef]:
    """The data files of a snapshot by key, in the order of its units."""
    return {part.file.key: part.file for unit in units for part in unit.slices}


def _nest(values: Sequence[Sequence[object]], field: pa.Field) -> pa.ListArray:
    """A list of structs for each unit, from its dataclasses."""
    kind = field.type.value_type
    rows = [*map(attrgetter(*_NESTED[field.name]), chain.from_iterable(values))]
    columns = zip(*rows, strict=True) if rows else [()] * kind.num_fields
    structs = pa.StructArray.from_arrays(
        [pa.array(column, part.type) for column, part in zip(columns, kind, strict=True)], fields=list(kind)
    )
    starts = pa.array([0, *accumulate(map(len, values))], pa.int32())
    return pa.ListArray.from_arrays(starts, structs, type=field.type)


def _unnest(lists: pa.ListArray, make: Callable[..., T]) -> Iterator[tuple[T, ...]]:
    """The other way round: `make` is given the values of a struct's fields."""
    made = list(map(make, *(column.to_pylist() for column in lists.flatten().flatten())))
    starts = [0, *accumulate(pc.list_value_length(lists).to_pylist())]
    return (tuple(made[start:stop]) for start, stop in pairwise(starts))


class _Makers:
    """Makes what units hold. Units share pieces and files, so each of those is made once."""

    def __init__(self) -> None:
        self.pieces, self._file = cache(PieceRef), cache(FileRef)
        self.spans = Span

    def slices(self, key: str, size: int, of_rows: int, sha256: str, first_row: int, rows: int) -> FileSlice:
        return FileSlice(self._file(key, size, of_rows, sha256), first_row, rows)
