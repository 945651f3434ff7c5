"""Parts: the staged rows of one unit, a Parquet file for each partition folder, checked before anybody can see them.

A part is written into memory, re-opened and compared with what was to be staged; only then is it put, whole, under a
name that is never used twice. A stream to an object store could publish half a file.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import EncodeError, InputError
from pipeline.sink.partition import folder_of
from pipeline.sink.records import FolderRows
from pipeline.sink.schema import EMBEDDING, Layout, writer_options
from pipeline.source.records import KEEP_PREFIX


@dataclass(frozen=True, slots=True)
class Part:
    """Parquet files in memory, one after the other, checked."""

    data: bytes
    sha256: str
    rows: int
    folders: tuple[FolderRows, ...]


def rows_digest(ids: pa.ChunkedArray, text_hashes: pa.ChunkedArray) -> str:
    """sha256 over (id, text hash) of rows in order: what pairs a row with its text from reading to staging."""
    hasher = hashlib.sha256()
    for row_id, text_hash in zip(ids.to_pylist(), text_hashes.to_pylist(), strict=True):
        name = str(row_id)
        hasher.update(f"{len(name)}:{name}{text_hash};".encode())
    return hasher.hexdigest()


def build_part(rows: pa.Table, vectors: npt.NDArray[np.float32], layout: Layout) -> Part | None:
    """Rows (as `Prepared.rows`) and the vectors of their unique texts, float32 [unique, dim] → a part; None without rows.

    Rows of a partition folder are a file of their own, ordered as they were read: who assembles a folder reads nothing else.
    Raises InputError for a partition value no folder can hold, EncodeError when the file read back is not what was written.
    """
    if rows.num_rows == 0:
        return None
    rows, by_folder = _by_folder(rows, layout.partition_by)
    table = _table(rows, vectors, layout)
    part, folders, first = bytearray(), [], 0
    for folder, count in by_folder.items():
        its_rows = table.slice(first, count)
        data = _parquet(its_rows, layout)
        _check(data, its_rows)
        folders.append(FolderRows(folder, count, len(part), len(data), hashlib.sha256(data).hexdigest()))
        part += data
        first += count
    whole = bytes(part)
    return Part(whole, hashlib.sha256(whole).hexdigest(), table.num_rows, tuple(folders))


def _parquet(table: pa.Table, layout: Layout) -> bytes:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, **writer_options(table.schema)) as writer:
        writer.write_table(table, row_group_size=layout.row_group_rows())
    return buffer.getvalue()


def _by_folder(rows: pa.Table, partition_by: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Rows ordered by partition folder, and how many each has, in that order."""
    if not partition_by:
        return rows, {"": rows.num_rows}
    columns = [_values(name, rows[KEEP_PREFIX + name]) for name in partition_by]
    names: dict[tuple[object, ...], str] = {}
    by_row: list[str] = []
    for values in zip(*columns, strict=True):
        if values not in names:
            names[values] = _folder(partition_by, values, rows, len(by_row))
        by_row.append(names[values])
    order = sorted(range(rows.num_rows), key=by_row.__getitem__)
    return rows.take(pa.array(order)), dict(Counter(by_row[row] for row in order))


def _folder(partition_by: Sequence[str], values: tuple[object, ...], rows: pa.Table, row: int) -> str:
    """The folder of a row. Raises InputError with its place: it is to be found among millions."""
    try:
        return folder_of(partition_by, values)
    except InputError as error:
        position, name = rows["position"][row].as_py(), rows["id"][row].as_py()
        raise InputError(f"position {position:,}, id {name!r}: {error.message}") from error


def _values(name: str, column: pa.ChunkedArray) -> list[object]:
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError, LookupError) as error:  # or its time zone is none
        raise InputError(
            f"partition column {name!r}: a date or time can't name a folder ({error}): it lies outside of the years 1 to 9999, "
            "or its time zone is unknown. Mend it at the source, or partition by another column"
        ) from error


def _table(rows: pa.Table, vectors: npt.NDArray[np.float32], layout: Layout) -> pa.Table:
    schema = layout.file_schema()
    taken = vectors[rows["vector"].to_numpy()]
    if taken.shape[1] != layout.dimensions:
        raise EncodeError(f"vectors have {taken.shape[1]} dimensions, the spec says {layout.dimensions}")
    flat = pa.array(taken.reshape(-1))
    kind = schema.field(EMBEDDING).type
    if pa.types.is_fixed_size_list(kind):
        embedding = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    else:
        starts = np.arange(len(taken) + 1, dtype=np.int32) * np.int32(layout.dimensions)
        embedding = pa.ListArray.from_arrays(pa.array(starts), flat, type=kind)
    columns = []
    for field in schema:
        if field.name == EMBEDDING:
            columns.append(pa.chunked_array([embedding]))
        elif KEEP_PREFIX + field.name in rows.column_names:
            columns.append(rows[KEEP_PREFIX + field.name])
        else:
            columns.append(rows[field.name])
    return pa.Table.from_arrays(columns, schema=schema)


def _check(data: bytes, table: pa.Table) -> None:
    """What a reader will find is what was meant: rows, columns, digest, finite vectors, bit for bit."""
    found = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read(use_threads=False)
    if found.num_rows != table.num_rows or found.schema.names != table.schema.names:
        raise EncodeError(
            f"a staged part reads back with {found.num_rows} rows instead of {table.num_rows}, or other columns"
        )
    if rows_digest(found["id"], found["text_hash"]) != rows_digest(table["id"], table["text_hash"]):
        raise EncodeError("a staged part reads back with other ids or text hashes than were written")
    written, read = (pc.list_flatten(part[EMBEDDING]).to_numpy() for part in (table, found))
    if not np.isfinite(read).all():
        raise EncodeError("a staged part holds a vector with NaN or infinity")
    if not np.array_equal(written, read):
        raise EncodeError("a staged part reads back with other vectors than were written")


QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),  # row number in the file, or byte offset of its line
        pa.field("id", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),
    ]
)


def build_quarantine(rejected: pa.Table, uris: Sequence[str]) -> Part | None:
    """Rejected rows (as `Prepared.rejected`) → a quarantine file; None without any."""
    if rejected.num_rows == 0:
        return None
    places = pa.array([uris[index] for index in rejected["file"].to_pylist()], pa.string())
    columns = [
        places,
        *(rejected[name].cast(QUARANTINE_SCHEMA.field(name).type) for name in QUARANTINE_SCHEMA.names[1:]),
    ]
    table = pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **writer_options(QUARANTINE_SCHEMA))
    data = buffer.getvalue()
    return Part(data, hashlib.sha256(data).hexdigest(), table.num_rows, ())
