"""Duplicate ids over a whole snapshot, counted by 64-bit hashes."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.faults import translated

MAX_ROWS = 250_000_000
"""Hashes of so many rows lie in memory, 2 GB; of more they go through files."""

Hashes = npt.NDArray[np.uint64]


def count_duplicates(ids: Iterable[pa.ChunkedArray], rows: int) -> int:
    """Rows whose id an earlier row had. Two different ids share a hash about once in 10^19 pairs: among a hundred
    million rows the count is exact with a probability of 99.97%, and it is never too low.

    ids: of about `rows` rows. For more than `MAX_ROWS` of them the folder for temporary files has to take 8 bytes a row; raises
    StorageError where it can't.
    """
    hashes = (_hash(chunk) for chunk in ids)
    shares = -(-rows // MAX_ROWS)
    if shares <= 1:
        return _count(np.concatenate([np.zeros(0, np.uint64), *hashes]))
    with tempfile.TemporaryDirectory(prefix="embedpipe-ids-") as folder, translated("counting duplicate ids", folder):
        return sum(_count(share) for share in _shared_out(hashes, shares, Path(folder)))


def _shared_out(hashes: Iterable[Hashes], shares: int, folder: Path) -> Iterator[Hashes]:
    """The same hashes, equal ones in one share, by way of a file for each."""
    paths = [folder / str(number) for number in range(shares)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for some in hashes:
            share = some % np.uint64(shares)
            for number, file in enumerate(files):
                file.write(some[share == number].tobytes())
    for path in paths:
        yield np.fromfile(path, np.uint64)


def _count(hashes: Hashes) -> int:
    return len(hashes) - len(np.unique(hashes))


def _hash(ids: pa.ChunkedArray) -> Hashes:
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy()).astype(np.int64).view(np.uint64)
    seen = pc.unique(ids)
    digests = [int.from_bytes(hashlib.blake2b(v.encode(), digest_size=8).digest(), "little") for v in seen.to_pylist()]
    table = np.array(digests, dtype=np.uint64)
    found: Hashes = table[pc.index_in(ids, seen).to_numpy()]
    return found
