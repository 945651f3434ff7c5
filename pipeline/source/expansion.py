"""Columns that take more memory decoded than as they lie in a file: dictionaries and views, where many rows share one
long value. Small files can stand for terabytes of text in this way; they are decoded a few rows at a time."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.source.extract import BATCH_BYTES, is_text

VIEWS = (pa.string_view(), pa.binary_view())
VIEW_INTS = 4  # a view is 16 bytes; the first four are the value's length


def encoded_columns(metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """Those of the columns that hold text in dictionaries: to be read as such, since sizes in the footer are those of
    the dictionaries, and a batch of them decoded could have any size."""
    found: set[str] = set()
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in names and column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
                found.add(column.path_in_schema)
    return sorted(found)


def cut_expanded(values: Mapping[str, pa.Array], rows: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of rows that are about 4 MiB decoded, or one row; all of them where nothing expands."""
    sizes = np.zeros(rows, np.int64)
    for array in values.values():
        sizes += _expanded_sizes(array)
    ends, start = np.cumsum(sizes), 0
    while start < rows:
        room = BATCH_BYTES + (ends[start - 1] if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
        yield start, stop
        start = stop


def _expanded_sizes(array: pa.Array) -> npt.NDArray[np.int64] | int:
    """Bytes of each value once decoded; 0 for columns that lie in memory as they are."""
    if pa.types.is_dictionary(array.type) and is_text(array.type) and len(array.dictionary):
        values = array.dictionary
        sizes = _view_sizes(values) if values.type in VIEWS else _lengths(values)
        picked = pa.array(sizes).take(array.indices)
        return np.asarray(picked.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return _view_sizes(array) if array.type in VIEWS else 0


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.int64)
    return np.asarray(pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False), np.int64)


def _view_sizes(array: pa.Array) -> npt.NDArray[np.int64]:
    """pyarrow has no function for the length of a view. What stands where a value is null is no length."""
    views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, VIEW_INTS)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid, views[array.offset : array.offset + len(array), 0], 0).astype(np.int64)
