"""The manifest: every unit of a snapshot, where its rows came from and in which files they lie. One Parquet file."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commit.records import FileRef, PieceRef
from pipeline.errors import CommitError
from pipeline.source.records import Span


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


def encode_manifest(units: Iterable[ManifestUnit]) -> bytes:
    """The manifest file of `units`, in the order given: the same units give the same bytes."""
    table = pa.Table.from_pylist([_row(unit) for unit in units], schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def decode_manifest(data: bytes) -> tuple[ManifestUnit, ...]:
    """Read a manifest file. Raises CommitError when its columns aren't those of a manifest."""
    # Not `read_table`: its threads may outlive a short command and abort the process at its exit.
    table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read(use_threads=False)
    if not table.schema.equals(SCHEMA):
        raise CommitError("the manifest has other columns than this version writes; use the version that published it")
    return tuple(_unit(row) for row in table.to_pylist())


def data_files(units: Sequence[ManifestUnit]) -> dict[str, FileRef]:
    """The data files of a snapshot by key, in the order of its units."""
    return {part.file.key: part.file for unit in units for part in unit.slices}


def _row(unit: ManifestUnit) -> dict[str, object]:
    row = {name: getattr(unit, name) for name in SCHEMA.names}
    row["pieces"] = [asdict(piece) for piece in unit.pieces]
    row["spans"] = [asdict(span) for span in unit.spans]
    row["slices"] = [
        {
            "file": part.file.key,
            "file_bytes": part.file.bytes,
            "file_rows": part.file.rows,
            "sha256": part.file.sha256,
            "first_row": part.first_row,
            "rows": part.rows,
        }
        for part in unit.slices
    ]
    return row


def _unit(row: dict[str, object]) -> ManifestUnit:
    values = dict(row)
    values["pieces"] = tuple(PieceRef(**piece) for piece in row["pieces"])  # type: ignore[attr-defined]
    values["spans"] = tuple(Span(**span) for span in row["spans"])  # type: ignore[attr-defined]
    values["slices"] = tuple(
        FileSlice(
            FileRef(part["file"], part["file_bytes"], part["file_rows"], part["sha256"]),
            part["first_row"],
            part["rows"],
        )
        for part in row["slices"]  # type: ignore[attr-defined]
    )
    return ManifestUnit(**values)  # type: ignore[arg-type]
