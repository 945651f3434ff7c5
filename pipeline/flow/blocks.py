"""Units as Ray Data carries them from step to step: a row each, so that nothing can split, merge or reorder them.

A unit's vectors are most of it, and lie beside the rest as they are: Ray's own copy into shared memory is the only one, and the
next step reads them there. Pickled with the rest they'd be copied three times more, while a GPU stands still.
"""

import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.flow.unit import EncodedUnit

SCHEMA = pa.schema({"unit": pa.large_binary(), "vectors": pa.large_binary()})


def block_of(units: Sequence[object]) -> pa.Table:
    """Rows of `SCHEMA`: units on their way, what is to be read, or acknowledgements."""
    nothing = np.empty((0, 0), np.float32)
    vectors = [unit.vectors if isinstance(unit, EncodedUnit) else nothing for unit in units]
    rest = [replace(unit, vectors=unit.vectors[:0]) if isinstance(unit, EncodedUnit) else unit for unit in units]
    pickled = pa.array([pickle.dumps(one, protocol=5) for one in rest], pa.large_binary())
    return pa.table([pickled, _as_they_are(vectors)], schema=SCHEMA)


def units_of(block: pa.Table) -> Iterator[object]:
    """What `block_of` was given. Vectors can't be written to: they lie in the block."""
    for pickled, vectors in zip(_buffers(block["unit"]), _buffers(block["vectors"]), strict=True):
        unit = pickle.loads(pickled)
        if isinstance(unit, EncodedUnit) and vectors.size:
            unit = replace(unit, vectors=np.frombuffer(vectors, np.float32).reshape(-1, unit.vectors.shape[1]))
        yield unit


def _buffers(column: pa.ChunkedArray) -> Iterator[pa.Buffer]:
    """Each value where it lies; a scalar's would be a copy of it."""
    for chunk in filter(len, column.chunks):
        _, ends, data = chunk.buffers()
        places = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        for start, stop in itertools.pairwise(places):
            yield pa.py_buffer(b"") if data is None else data.slice(start, stop - start)


def _as_they_are(vectors: Sequence[npt.NDArray[np.float32]]) -> pa.Array:
    """Binary values over the same memory, where there is one."""
    if len(vectors) != 1:
        return pa.array([one.tobytes() for one in vectors], pa.large_binary())
    data = np.ascontiguousarray(vectors[0]).reshape(-1)
    ends = np.array([0, data.nbytes], np.int64)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(ends), pa.py_buffer(data)])
