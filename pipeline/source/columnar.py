"""Parquet and Arrow IPC: row groups as streams of the needed columns."""

import difflib
from collections.abc import Iterator, Sequence, Set
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.source.extract import Columns, folder_columns, needed_paths
from pipeline.source.records import Extraction, InputFile, Piece

BATCH_ROWS = 2048


def read_columnar(stream: BinaryIO, piece: Piece, extraction: Extraction) -> Iterator[Columns]:
    """Batches of rows [start, stop) of a Parquet or Arrow file. Raises InputError naming file and row group."""
    names = needed_paths(extraction)
    if piece.start == piece.stop:
        return
    read = _parquet if piece.file.format == "parquet" else _arrow
    for first, batch in read(stream, piece, names):
        n = batch.num_rows
        position = pa.array(range(first, first + n), pa.int64())
        yield Columns(position, pc.add(position, 1), _values(batch, piece.file, names))


def _parquet(stream: BinaryIO, piece: Piece, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    file = piece.file
    with _failing(file, "the footer"):
        parquet = pq.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True)
    present = set(parquet.schema_arrow.names)
    columns = [name for name in names if name in present or name.split(".")[0] in present]
    first = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if piece.start <= first < piece.stop:
            start = first
            with _failing(file, f"row group {group}"):
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                    yield start, batch
                    start += batch.num_rows
            if start != first + rows:
                raise InputError(f"{file.uri}: row group {group} gave {start - first} rows, its footer says {rows}")
        first += rows


def _arrow(stream: BinaryIO, piece: Piece, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    first = 0
    with _failing(piece.file, "the footer"):
        reader = open_arrow(stream, {name.split(".")[0] for name in names} | set(names))
    for index in range(reader.num_record_batches):
        with _failing(piece.file, f"record batch {index}"):
            batch = reader.get_batch(index)
        if piece.start <= first < piece.stop:
            for offset in range(0, batch.num_rows, BATCH_ROWS):
                yield first + offset, batch.slice(offset, BATCH_ROWS)
        first += batch.num_rows


def open_arrow(stream: BinaryIO, columns: Set[str]) -> pa.ipc.RecordBatchFileReader:
    """An Arrow IPC file from which only these of its columns are read; its first one where it has none of them."""
    schema = pa.ipc.open_file(pa.PythonFile(stream, mode="r")).schema
    wanted = [index for index, name in enumerate(schema.names) if name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=wanted or [0] * bool(schema.names), use_threads=False)
    return pa.ipc.open_file(pa.PythonFile(stream, mode="r"), options=options)


class _failing:  # noqa: N801  (reads as a word)
    """Turns what pyarrow raises on damaged files into an InputError with the place."""

    def __init__(self, file: InputFile, place: str) -> None:
        self.file, self.place = file, place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | ValueError) and not isinstance(error, InputError):
            raise InputError(
                f"{self.file.uri}: {self.place} can't be read: {error}; restore or replace the file"
            ) from error


def _values(batch: pa.RecordBatch, file: InputFile, names: Sequence[str]) -> dict[str, pa.Array]:
    values = folder_columns(file, names, batch.num_rows)
    for name in names:
        array = _reach(batch, name)
        if array is not None:
            values[name] = array
        elif name not in values:
            raise missing_column(file, name, batch.schema.names)
    return values


def _reach(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column by its name, or `a.b` inside a struct."""
    if name in batch.schema.names:
        return batch.column(name)
    head, *rest = name.split(".")
    if head not in batch.schema.names:
        return None
    array = batch.column(head)
    for part in rest:
        if not pa.types.is_struct(array.type) or part not in [field.name for field in array.type]:
            return None
        array = pc.struct_field(array, part)
    return array


def missing_column(file: InputFile, name: str, present: Sequence[str]) -> InputError:
    """The error for a column that a file doesn't have."""
    near = difflib.get_close_matches(name, present, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, present[:12]))}"
    return InputError(f"{file.uri}: there is no column {name!r}; {hint}")
