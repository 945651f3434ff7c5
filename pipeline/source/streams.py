"""Byte streams of line formats: decompressed, without a byte-order mark, cut into lines at `\\n` and nowhere else."""

import gzip
import itertools
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.source.records import InputFile

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 1024  # by which a file's kind is told
SAID = 300  # characters of what a library says that a message quotes
MOST_BLANK = 1_000_000
"""Blank lines in a row, of which a packed file may hold any number: whoever looks for a row behind them would look for hours."""
BOM = b"\xef\xbb\xbf"
# Of most files the first that fits: a mark, or how zeros stand beside the first character.
ENCODINGS = {
    rb"\xff\xfe\0\0|\0\0\xfe\xff": "UTF-32",
    rb"\xff\xfe|\xfe\xff": "UTF-16",
    rb"[^\0]\0\0\0": "UTF-32LE",
    rb"\0\0\0[^\0]": "UTF-32BE",
}
FEW_ZEROS = 8
"""So many may stand on one side of their neighbours by chance, or in the fields of one odd line."""
FOREIGN = {
    rb"PK\x03\x04": "a zip archive",
    rb"\xfd7zXZ\0": "xz data",
    rb"BZh[1-9]1AY&SY": "bzip2 data",
    rb"\x04\x22\x4d\x18": "lz4 data",
    rb"PAR1\x15": "a Parquet file",
    rb"ARROW1\0": "an Arrow file",
    rb"ORC[\0-\x08\x0e-\x1f]": "an ORC file",  # not a line, or a column, of that name
    rb"Obj\x01": "an Avro file",
    rb"%PDF-": "a PDF document",
    rb"(?s:.{257})ustar(?:\0|  \0)": "a tar archive",
}
MAGIC = {
    rb"\x1f\x8b": ("gzip", ".gz"),
    # A frame, or one to pass over, which some writers put first.
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": ("zstd", ".zst"),
}


def check_not_empty(file: InputFile) -> None:
    """Raise InputError for a file of 0 bytes that can't be one of its kind: what wrote it must have failed. An empty file
    of plain lines has no rows, and that's all."""
    if file.size == 0 and (file.compression != "none" or file.format in ("parquet", "arrow")):
        kind = file.format if file.compression == "none" else file.compression
        raise InputError(f"{file.uri}: is empty: 0 bytes are no {kind} file; restore, replace or remove the file")


def one_line(error: object) -> str:
    """What a library said of a file, or a type that stands in it: on one line, without the control characters it may quote,
    and not at length."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = said if len(said) <= SAID else f"{said[:SAID]}…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in said)


def decompressed(stream: BinaryIO, file: InputFile) -> BinaryIO:
    """The stream's plain bytes, from its beginning; several gzip members or zstd frames are read one after the other."""
    check_not_empty(file)
    if file.compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if file.compression == "zstd":
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"))
    return stream


def blocks(stream: BinaryIO, file: InputFile, start: int = 0) -> Iterator[bytes]:
    """The stream in blocks, from byte `start` on. Raises InputError where compressed data ends early or is damaged, and for
    a file that isn't what its name says. Only its head tells that, so who starts behind it looks there first; else just the
    reader of the head would refuse, and all others read rubbish."""
    if start:
        _check_head(stream.read(HEAD_BYTES), file)
        stream.seek(start)
    read = 0
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
            raise InputError(
                f"{file.uri}: the {file.compression} stream is damaged or cut off between {_place(read)} ({one_line(error)}); "
                "restore or replace the file"
            ) from error
        except OSError as error:
            if isinstance(error, InputError) or file.compression == "none":
                raise
            raise InputError(
                f"{file.uri}: the {file.compression} stream is damaged between {_place(read)} ({one_line(error)}); restore "
                "or replace the file"
            ) from error
        if not block:
            return
        if start == read == 0:
            _check_head(block[:HEAD_BYTES], file)
        read += len(block)
        yield bytes(block)


def _place(read: int) -> str:
    """Where a block failed: what of it could be inflated is lost with the error."""
    return f"inflated bytes {read:,} and {read + BLOCK_BYTES:,}"


def _check_head(head: bytes, file: InputFile) -> None:
    """Binary files tell themselves by their magic number, UTF-16 and UTF-32 by their mark or by the zeros beside letters; as
    lines of UTF-8 they would be rows of rubbish."""
    for magic, (name, suffix) in MAGIC.items():
        if re.match(magic, head):
            wrong = f"but its name doesn't end in {suffix}; rename it"
            if file.compression != "none":
                wrong = f"packed once more with {file.compression}; unpack it once"
            raise InputError(f"{file.uri}: holds {name} data, {wrong}")
    for pattern, name in FOREIGN.items():
        if re.match(pattern, head):
            raise InputError(
                f"{file.uri}: is {name}, not lines of text; unpack it, name it by its format, or leave it out"
            )
    told = (name for pattern, name in ENCODINGS.items() if re.match(pattern, head, re.DOTALL))
    if encoding := next(told, _unmarked(head)):
        raise InputError(
            f"{file.uri}, byte 0: the file is {encoding}, not UTF-8; convert it: iconv -f {encoding} -t UTF-8"
        )


def _unmarked(head: bytes) -> str | None:
    """UTF-16 without a mark, which kind. In any script zeros stand beside spaces, digits and line ends, in Latin beside nearly
    every letter, and always on the same side. Text in UTF-8 has hardly any, and those on both sides."""
    pairs, sides = len(head) // 2, {"UTF-16BE": head[0::2].count(0), "UTF-16LE": head[1::2].count(0)}
    for name, zeros in sides.items():
        many = 2 * zeros > pairs or (zeros >= FEW_ZEROS and 10 * zeros > pairs)
        if zeros > 1 and many and 10 * (sum(sides.values()) - zeros) <= zeros:
            return name
    return None


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
    """Lines that start in bytes [start, stop) of an uncompressed file. Nothing is read after the last one of them."""
    if start == 0:
        source, begin = blocks(stream, file), 0
    else:  # a line starts at `start` exactly when the byte before it is a line end
        source, begin = _from_next_line(blocks(stream, file, start - 1), start - 1, stop)
    if begin >= stop:
        return
    for line in lines(source, begin, longest):
        yield line
        if line[1] >= stop:
            return


def _from_next_line(source: Iterator[bytes], offset: int, stop: int) -> tuple[Iterator[bytes], int]:
    """The rest of the stream from the next line on, and where that begins: at `stop` or later if none begins before.

    The search ends at `stop`, or one endless line would be read to its end by every range that lies within.
    """
    for block in source:
        end = block.find(b"\n")
        if end >= 0:
            return itertools.chain([block[end + 1 :]], source), offset + end + 1
        offset += len(block)
        if offset >= stop:
            break
    return iter(()), max(offset, stop)
