"""Footers: rows and bytes of every row group, read before planning so that spans are known without reading rows."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.source.columnar import UNREADABLE, is_arrow_stream, open_arrow
from pipeline.source.records import Footer, InputFile
from pipeline.storage.inputs import open_input


def read_footers(files: Sequence[InputFile]) -> dict[str, Footer]:
    """Footers of the columnar files among `files`, by URI; Arrow streams have none, and are read from their beginning.

    Nor has a file whose footer can't be read: its reader will say so, and the other files go on without it.
    """
    columnar = [file for file in files if file.format in ("parquet", "arrow")]
    if len(columnar) < 8:
        footers = [_footer(file) for file in columnar]
    else:
        with ThreadPoolExecutor(16, thread_name_prefix="footer") as pool:
            footers = list(pool.map(_footer, columnar))
    return {file.uri: footer for file, footer in zip(columnar, footers, strict=True) if footer is not None}


def _footer(file: InputFile) -> Footer | None:
    try:
        with open_input(file.uri, file.version) as stream:
            return _parquet(stream) if file.format == "parquet" else _arrow(stream, file.size)
    except (*UNREADABLE, InputError):
        return None


def _parquet(stream: BinaryIO) -> Footer:
    metadata = pq.read_metadata(stream)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    if any(group.num_rows < 0 for group in groups):
        raise ValueError("negative rows")
    return Footer(tuple(group.num_rows for group in groups), tuple(group.total_byte_size for group in groups))


def _arrow(stream: BinaryIO, size: int) -> Footer | None:
    """Record batches say their rows in their own headers; one column of each is read to get at it."""
    if is_arrow_stream(stream):
        return None
    reader = open_arrow(stream, frozenset())
    rows = []
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        batch.validate()
        rows.append(batch.num_rows)
    every = max(1, sum(rows))
    return Footer(tuple(rows), tuple(size * count // every for count in rows))
