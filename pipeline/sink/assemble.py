"""Assemble: staged parts and what is kept of older files → one data file, checked and put once."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CommitError, Overtaken, StorageError, VerificationError
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.sink.schema import Layout, writer_options
from pipeline.storage.store import Store

READERS = 16
"""Files that are fetched at once: a staged one is often small, and on an object store each is a request. 0: none but the next."""

AHEAD_BYTES = 32 << 20
"""What is fetched at once, but for a single file that is larger."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A finished data file in memory."""

    data: bytes
    sha256: str
    rows: int


def write_data_file(
    store: Store, plan: DataFilePlan, layout: Layout, after_slice: Callable[[], None] = lambda: None
) -> DataFile:
    """Read the slices of `plan` one after the other and write them into one file.

    Memory: the file being made, a row group of it, and `AHEAD_BYTES` of source files or the largest one, as bytes and as columns.
    Raises Overtaken when a source is gone: only a newer snapshot makes sources deletable.
    """
    schema = layout.file_schema()
    buffer = io.BytesIO()
    group = layout.row_group_rows()
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(buffer, schema, **writer_options(schema)) as writer:
        for table in _read(store, plan.slices, schema):
            waiting.append(table)
            rows += table.num_rows
            after_slice()
            if sum(table.num_rows for table in waiting) >= group:
                writer.write_table(pa.concat_tables(waiting), row_group_size=group)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=group)
    data = buffer.getvalue()
    found = pq.read_metadata(io.BytesIO(data)).num_rows
    if not found == rows == plan.rows:
        raise CommitError(f"a data file was to hold {plan.rows} rows; {rows} were read and {found} written")
    return DataFile(data, hashlib.sha256(data).hexdigest(), rows)


def damaged(store: Store, key: str, how: str) -> VerificationError:
    """The error for a stored file that isn't as it was written. `how`: what tells."""
    return VerificationError(
        f"{store.root}/{key}: {how}: the file was changed or damaged since it was written. Nothing is published. Restore it; "
        "or, for a file below _embedpipe/part or one that no snapshot has yet, give up what is staged with `embedpipe gc "
        "--abandon` and run again"
    )


def check_there(store: Store, key: str, end: int, error: Exception | None = None) -> None:
    """Raises Overtaken where a file is gone, VerificationError where it ends before byte `end`. `error`: of whoever read it."""
    size = store.size(key)
    if size is None:
        raise Overtaken(f"{store.root}/{key} is gone: another run has published what it held") from error
    if size < end:
        raise damaged(store, key, f"{size:,} bytes, its record says more") from error


def _read(store: Store, slices: Sequence[SourceSlice], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each slice. They share no memory with the file they were read from: that is let go of before the next."""
    files = [list(of_one) for _, of_one in groupby(slices, key=lambda part: (part.key, part.start))]
    for of_one, data in zip(files, _fetched(store, [of_one[0] for of_one in files]), strict=True):
        table = _table(data, schema)
        for part in of_one:
            whole = part.first_row == 0 and part.rows == table.num_rows
            yield table if whole else table.take(np.arange(part.first_row, part.first_row + part.rows))
        del table, data


def _fetched(store: Store, files: Iterable[SourceSlice]) -> Iterator[bytes]:
    """The bytes of each file, checked."""
    fetch = partial(_fetch, store)
    if not READERS:
        yield from map(fetch, files)
        return
    with ThreadPoolExecutor(READERS, "fetch") as pool:
        for batch in _batches(files):
            yield from pool.map(fetch, batch)


def _batches(files: Iterable[SourceSlice]) -> Iterator[list[SourceSlice]]:
    """Runs of files that are fetched at once."""
    batch: list[SourceSlice] = []
    for file in files:
        if batch and (len(batch) == READERS or sum(one.file_bytes for one in batch) + file.file_bytes > AHEAD_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _fetch(store: Store, part: SourceSlice) -> bytes:
    try:
        data = store.get_range(part.key, part.start, part.file_bytes)
    except StorageError as error:
        check_there(store, part.key, part.start + part.file_bytes, error)
        raise
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        raise damaged(store, part.key, f"sha256 is {found}, its record says {part.sha256}")
    return data


def _table(data: bytes, schema: pa.Schema) -> pa.Table:
    # Not `read_table`: its threads may outlive a short command and abort the process at its exit.
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    table = file.read(columns=schema.names, use_threads=False).select(schema.names)
    return pa.Table.from_arrays(table.columns, schema=schema)
