"""CSV and TSV: read from the beginning, since a line end inside quotes can't be told from one between rows.

Every column is text: CSV has no types, and "00123" is an id, not a number. Rows are those of Python's `csv` module:
`\\n`, `\\r\\n` and a lone `\\r` end one outside of quotes, and blank lines are none.
"""

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.source.columnar import check_unique, missing_column
from pipeline.source.extract import BATCH_BYTES, BATCH_ROWS, Columns, folder_columns, needed_paths
from pipeline.source.records import Extraction, InputFile, Piece
from pipeline.source.streams import BLOCK_BYTES, MOST_BLANK, blocks, decompressed, one_line

LEAST_LONGEST = 1 << 17
"""Characters that a line may have at least, however little of it may be text."""

FIELD_BYTES = 64
"""What a field takes in memory beside its characters: a file of a million empty columns is a small one."""

SHARED_BYTES = 9
"""What one of no or one character takes: Python has each of those once."""

ROW_BYTES = 256 << 20
"""What a row may take in memory at least, by its characters and fields. Neither lines nor fields bound it: many short ones of
both can be quoted into one row. Commas count as ends of fields wherever they stand, so that a text of many takes up to 24 bytes
a character here: one of 8 MiB passes, whatever is in it."""

MOST_COLUMNS = 2_000_000


class _Blocks(io.RawIOBase):
    """Checked blocks as a raw stream."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(next(self._source, b""))
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def read_delimited(stream: BinaryIO, piece: Piece, extraction: Extraction) -> Iterator[Columns]:
    """Batches of a CSV or TSV file. Raises InputError naming the row that has too few or too many fields."""
    file = piece.file
    found = csv_rows(stream, file, extraction.csv_delimiter, 4 * extraction.max_text_bytes)
    header = next(found, None)
    if header is None:
        return
    names = needed_paths(extraction)
    number, batch, size = 0, [], 0
    for fields in found:
        if len(fields) != len(header):
            raise InputError(f"{file.uri}, row {number:,}: {len(fields)} fields, but the header names {len(header)}")
        batch.append(fields)
        size += sum(map(len, fields)) + FIELD_BYTES * len(fields)
        number += 1
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield _columns(batch, number, header, names, file)
            batch, size = [], 0
    if batch:
        yield _columns(batch, number, header, names, file)


def csv_rows(
    stream: BinaryIO, file: InputFile, delimiter: str, longest: int, *, quotes: bool = True
) -> Iterator[list[str]]:
    """The header, then every row that isn't blank. Bytes that aren't UTF-8 stand as lone surrogates: which rows have
    them is for `extract`. Raises InputError naming the row that isn't CSV, or has a line or a field beyond `longest`.

    quotes: False where a quotation mark is one like any other character.
    """
    raw = cast(io.RawIOBase, _Blocks(blocks(decompressed(stream, file), file)))
    buffered = io.BufferedReader(raw, BLOCK_BYTES)
    text = io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="")
    longest = max(longest, LEAST_LONGEST)
    csv.field_size_limit(longest)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    delimiter = "\t" if file.format == "tsv" else delimiter
    lines = _Lines(text, longest, delimiter)
    rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    number, blank, fields = -1, 0, []
    try:
        for fields in rows:
            lines.taken = 0
            if number < 0 and len(fields) > MOST_COLUMNS:
                raise csv.Error(f"more than {MOST_COLUMNS:,} columns")
            if fields:
                yield fields
                number, blank = number + 1, 0
                continue
            blank += 1
            if blank > MOST_BLANK:
                raise csv.Error(f"more than {MOST_BLANK:,} blank lines in a row")
    except csv.Error as error:
        del rows, fields  # the error may be kept, and what it was raised in with it: a row of 256 MiB
        place = f"row {number:,}" if number >= 0 else "the header"
        raise InputError(f"{file.uri}, {place}: {one_line(error)}; check quotes and input.csv_delimiter") from error


class _Lines:
    """Lines, so that neither one without end nor a row of lines without end comes into memory whole. `taken`: bytes that the
    lines of a row take once they are fields, at most; set to 0 by who has its row."""

    def __init__(self, text: io.TextIOWrapper, longest: int, delimiter: str) -> None:
        self._text, self._longest, self._delimiter = text, longest, delimiter
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        read, longest, delimiter = self._text.readline, self._longest, self._delimiter
        most = max(ROW_BYTES, 2 * longest)
        while line := read(longest + 1):
            size = len(line)
            if size > longest:
                raise csv.Error(
                    f"a line is longer than {longest:,} characters, the larger of {LEAST_LONGEST:,} and four times "
                    "rows.max_text_bytes, so that the end of its row isn't looked for"
                )
            self.taken += size
            if ends := line.count(delimiter):
                longer = (size - ends) // (2 if line.isascii() else 1)  # letters beyond ASCII aren't shared
                self.taken += SHARED_BYTES * ends + FIELD_BYTES * (longer if longer < ends else ends)
            if self.taken > most:
                raise csv.Error(
                    f"its row takes more than {most:,} bytes, a character counted as one and a field as up to "
                    f"{FIELD_BYTES + SHARED_BYTES} more, so that its end isn't looked for"
                )
            yield line


def _columns(batch: list[list[str]], stop: int, header: list[str], names: tuple[str, ...], file: InputFile) -> Columns:
    n = len(batch)
    values = folder_columns(file, names, n)
    for name in names:
        check_unique(file, name, header)
        if name in header:
            index = header.index(name)
            values[name] = pa.array([row[index].encode("utf-8", "surrogateescape") for row in batch], pa.binary())
        elif name not in values:
            raise missing_column(file, name, header)
    return Columns(
        pa.array(range(stop - n, stop), pa.int64()), pa.array(range(stop - n + 1, stop + 1), pa.int64()), values
    )
