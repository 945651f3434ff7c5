"""Byte streams of line formats: decompressed, without a byte-order mark, cut into lines at `\\n` and nowhere else."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.source.records import InputFile

BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


def decompressed(stream: BinaryIO, file: InputFile) -> BinaryIO:
    """The stream's plain bytes; several gzip members or zstd frames are read one after the other."""
    if file.compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if file.compression == "zstd":
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"))
    return stream


def blocks(stream: BinaryIO, file: InputFile) -> Iterator[bytes]:
    """The stream in blocks. Raises InputError where compressed data ends early or is damaged."""
    read = 0
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
            raise InputError(
                f"{file.uri}: the {file.compression} stream is damaged or cut off after {read:,} inflated bytes ({error}); "
                "restore or replace the file"
            ) from error
        except OSError as error:
            if isinstance(error, InputError) or file.compression == "none":
                raise
            raise InputError(
                f"{file.uri}: the {file.compression} stream is damaged after {read:,} inflated bytes ({error})"
            ) from error
        if not block:
            return
        read += len(block)
        yield bytes(block)


def lines(source: Iterator[bytes], start: int, longest: int) -> Iterator[tuple[int, int, bytes, bool]]:
    """(offset, offset of the next line, bytes without the line end, whole) of each line.

    A line longer than `longest` comes as its beginning with `whole` false; the rest of it is passed over, so that one
    endless line takes bounded memory.
    """
    offset, begin = start, start
    kept = bytearray()
    for block in source:
        position = 0
        while (end := block.find(b"\n", position)) >= 0:
            kept += block[position : min(end, position + longest + 1 - min(len(kept), longest + 1))]
            following = offset + end + 1
            yield _line(begin, following, kept, following - begin - 1 <= longest)
            kept = bytearray()
            begin, position = following, end + 1
        kept += block[position : position + max(0, longest + 1 - len(kept))]
        offset += len(block)
    if offset > begin:
        yield _line(begin, offset, kept, offset - begin <= longest)


def _line(begin: int, following: int, kept: bytearray, whole: bool) -> tuple[int, int, bytes, bool]:
    data = bytes(kept)
    if begin == 0:
        data = data.removeprefix(BOM)
    return begin, following, data.removesuffix(b"\r") if whole else data, whole


def range_lines(
    stream: BinaryIO, file: InputFile, start: int, stop: int, longest: int
) -> Iterator[tuple[int, int, bytes, bool]]:
    """Lines that start in bytes [start, stop) of an uncompressed file."""
    begin = max(0, start - 1)  # a line starts at `start` exactly when the byte before it is a line end
    stream.seek(begin)
    for line in lines(blocks(stream, file), begin, longest):
        if line[0] >= stop:
            return
        if line[0] >= start:
            yield line
