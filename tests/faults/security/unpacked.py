"""What a file holds once it is unpacked: a secret in a compressed page or stream is written all the same."""

import io
import zipfile
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

MOST_BYTES = 64 << 20
"""Of one stream or archive; beyond it nothing is looked at."""

DEEPEST = 4
"""Packed things in packed things; a bomb that unpacks to itself would have no end."""

GZIP, ZSTD, PARQUET, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04"
"""What they begin with."""


def readings(data: bytes, depth: int = DEEPEST) -> Iterator[bytes]:
    """The bytes as they are; then what is in them, whatever it is packed in."""
    yield data
    if depth:
        for inner in _unpack(data):
            yield from readings(inner, depth - 1)


def _unpack(data: bytes) -> Iterator[bytes]:
    if data.startswith(GZIP):
        yield _inflated(data)
    elif data.startswith(ZSTD):
        yield _read_zstd(data)
    elif data.startswith(ZIP):
        yield from _members(data)
    elif data.startswith(PARQUET) and data.endswith(PARQUET):
        yield from _parquet(data)


def _inflated(data: bytes) -> bytes:
    """All members, as far as they can be inflated."""
    found = b""
    while data and len(found) < MOST_BYTES:
        stream = zlib.decompressobj(31)  # of gzip
        try:
            found += stream.decompress(data, MOST_BYTES - len(found))
        except zlib.error:
            break
        data = stream.unused_data
    return found


def _read_zstd(data: bytes) -> bytes:
    """As far as it can be read."""
    found = b""
    stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
    try:
        while len(found) < MOST_BYTES and (block := stream.read(1 << 20)):
            found += block
    except OSError:
        pass
    return found


def _members(data: bytes) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    yield file.read(MOST_BYTES)
    except zipfile.BadZipFile:
        return


def _parquet(data: bytes) -> Iterator[bytes]:
    """Metadata of file, schema and fields, and every string of every column. Raises where a file can't be read: nobody knows what
    it holds."""
    file = pq.ParquetFile(io.BytesIO(data))
    yield from _pairs(file.metadata.metadata)
    yield str(file.schema).encode()  # names
    for field in file.schema_arrow:
        yield from _pairs(field.metadata)
    for batch in file.iter_batches(use_threads=False):
        for column in batch.columns:
            for strings in _strings(column):
                values = (
                    value if isinstance(value, bytes) else value.encode() for value in strings.drop_null().to_pylist()
                )
                yield b"\n".join(values)


def _pairs(metadata: dict[bytes, bytes] | None) -> Iterator[bytes]:
    for key, value in (metadata or {}).items():
        yield key + b"\n" + value


def _strings(column: pa.Array) -> Iterator[pa.Array]:
    """The arrays of text or bytes that a column is made of, however deep."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _strings(column.storage)
    elif pa.types.is_dictionary(kind):
        yield from _strings(column.dictionary)
    elif pa.types.is_map(kind):
        yield from (part for half in (column.keys, column.items) for part in _strings(half))
    elif pa.types.is_struct(kind):
        yield from (part for field in column.flatten() for part in _strings(field))
    elif pa.types.is_nested(kind):
        yield from _strings(column.flatten())
    elif any(is_one(kind) for is_one in _TEXTUAL):
        yield column


_TEXTUAL = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
)  # fmt: skip
