"""Assemble: staged parts and what is kept of older files → one data file, checked and put once."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CommitError, Overtaken, VerificationError
from pipeline.sink.records import DataFilePlan
from pipeline.sink.schema import Layout, writer_options
from pipeline.storage.store import Store


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

    Memory: the file being made plus one source file. Raises Overtaken when a source is gone: only a newer snapshot
    makes sources deletable.
    """
    schema = layout.file_schema()
    buffer = io.BytesIO()
    group = layout.row_group_rows()
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(buffer, schema, **writer_options(schema)) as writer:
        opened: tuple[str, pa.Table] | None = None
        for part in plan.slices:
            if opened is None or opened[0] != part.key:
                opened = (part.key, _read(store, part.key, part.sha256, schema))
            waiting.append(opened[1].slice(part.first_row, part.rows))
            rows += part.rows
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


def _read(store: Store, key: str, sha256: str, schema: pa.Schema) -> pa.Table:
    data = store.get(key)
    if data is None:
        raise Overtaken(f"{store.root}/{key} is gone: another run has published what it held")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise damaged(store, key, f"sha256 is {found}, its record says {sha256}")
    # Not `read_table`: its threads may outlive a short command and abort the process at its exit.
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    table = file.read(columns=schema.names, use_threads=False).select(schema.names)
    return pa.Table.from_arrays(table.columns, schema=schema)
