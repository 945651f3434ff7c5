"""Columns that take more memory decoded than as they lie in a file: dictionaries and views, where many rows share one
long value. Small files can stand for terabytes of text in this way; they are decoded a few rows at a time. So are rows
far longer than most of their file, since batches are cut by the average."""

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.source.extract import BATCH_BYTES, is_text

LARGE_BYTES = 16 * BATCH_BYTES
"""A column of a batch with more text than this is cut by the lengths of its values: Arrow's plain strings end at 2 GiB."""

LARGE = (pa.large_string(), pa.large_binary())
VIEWS = (pa.string_view(), pa.binary_view())
VIEW_INTS = 4  # a view is 16 bytes; the first four are the value's length


class Dictionaries:
    """The dictionaries of a Parquet file's text columns. Sizes in its footer are those of the file with each value there
    once, so that they don't tell what a batch of rows takes."""

    def __init__(self, stream: BinaryIO, parquet: pq.ParquetFile, names: Sequence[str]) -> None:
        # From the schema: pyarrow ends the process over what a damaged footer may say of a single column chunk.
        columns = map(parquet.schema.column, range(len(parquet.schema)))
        self._names = [c.path for c in columns if c.path in names and c.physical_type == "BYTE_ARRAY"]
        needed = {name.split(".")[0] for name in names} | set(names)
        self.stay = any(pa.types.is_dictionary(field.type) for field in parquet.schema_arrow if field.name in needed)
        """Whether any of the needed columns is a dictionary in Arrow too."""
        self._file = pq.ParquetFile(stream, metadata=parquet.metadata, read_dictionary=self._names, pre_buffer=False)

    def longest(self, group: int) -> int | None:
        """Bytes of the longest value in a dictionary of the row group; 0 where it has none. None where a value may have any
        length all the same: in an encoding that Arrow makes no dictionary of, which are those that write differences."""
        try:
            row = next(self._file.iter_batches(1, row_groups=[group], columns=self._names, use_threads=False), None)
        except (pa.ArrowException, OSError, ValueError, MemoryError):
            return None  # or for damage, which is for the reader to tell of
        return max(map(_longest, row.columns), default=0) if row is not None else 0


def cut_expanded(values: Mapping[str, pa.Array], rows: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of rows that are about 4 MiB decoded, or one row; all of them where nothing expands or is large."""
    sizes = np.zeros(rows, np.int64)
    for array in values.values():
        sizes += _expanded_sizes(array)
    ends, start = np.cumsum(sizes), 0
    while start < rows:
        room = BATCH_BYTES + (ends[start - 1] if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
        yield start, stop
        start = stop


def cut(array: pa.Array, start: int, stop: int) -> pa.Array:
    """Rows [start, stop). Those out of a large buffer in memory of their own: what lies beyond its first 2 GiB can't become
    Arrow's plain strings, however little of it a slice shows."""
    part = array.slice(start, stop - start)
    copied = array.type in LARGE and array.get_total_buffer_size() > LARGE_BYTES
    return pa.concat_arrays([part]) if copied else part


def _longest(array: pa.Array) -> int:
    if pa.types.is_struct(array.type):
        return max(map(_longest, array.flatten()), default=0)
    return int(_lengths(array.dictionary).max(initial=0)) if pa.types.is_dictionary(array.type) else 0


def _expanded_sizes(array: pa.Array) -> npt.NDArray[np.int64] | int:
    """Bytes of each value once decoded; 0 for columns that lie in memory as they are, and aren't large."""
    if pa.types.is_dictionary(array.type) and is_text(array.type):
        picked = pa.array(_lengths(array.dictionary)).take(array.indices)
        return np.asarray(picked.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    large = is_text(array.type) and array.nbytes > LARGE_BYTES
    return _lengths(array) if large or array.type in VIEWS else 0


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.int64)
    if values.type not in VIEWS:
        return np.asarray(pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    # pyarrow has no function for the length of a view; what stands where a value is null is no length
    views = np.frombuffer(values.buffers()[1], np.int32).reshape(-1, VIEW_INTS)
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid, views[values.offset : values.offset + len(values), 0], 0).astype(np.int64)
