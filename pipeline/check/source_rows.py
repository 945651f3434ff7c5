"""Raw rows of source files, read here by plain means: pyarrow for columnar files, json, csv, and lines for the rest."""

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

Kind = Literal["parquet", "arrow", "jsonl", "csv", "tsv", "text"]

_BY_SUFFIX: dict[str, Kind] = {
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "txt": "text",
    "text": "text",
}
UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, zlib.error, csv.Error)
"""What is said of a damaged file, by whoever reads its format."""

BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
"""How a frame begins, and one that readers pass over: some writers put one of those first."""
_BATCH_ROWS = 1024
LONGEST = 32 << 20
"""Bytes of a line beyond which it is a row that nobody reads, where a job doesn't say."""

_CSV_LONGEST, _CSV_ROW, _CSV_FIELD, _CSV_PLACE = 1 << 17, 512 << 20, 64, 9
"""Of CSV: the characters that a line may have at least; the bytes that a row may take, twice as many as a run lets it; what a
field takes beside its characters, and its place among the others."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as found. `values` is None for a line that can't be understood, or is too long to be: still a row."""

    row: int  # number in the file, from 0
    offset: int  # where its line starts in the (inflated) file; -1 for columnar formats and CSV
    values: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Window:
    """Rows [start, stop) by number, or the lines that begin at byte offsets [start, stop) of the (inflated) file."""

    measure: Literal["rows", "bytes"]
    start: int
    stop: int


def kind_of(uri: str, configured: str) -> Kind | None:
    """The format of a file: the configured one, or by its name; None when the name says nothing."""
    if configured != "auto":
        return cast(Kind, configured)
    parts = uri.rsplit("/", 1)[-1].lower().split(".")
    while parts[-1] in ("gz", "gzip", "zst", "zstd"):
        parts.pop()
    return _BY_SUFFIX.get(parts[-1])


def count_rows(file: BinaryIO, kind: Kind, delimiter: str, longest: int = LONGEST) -> int:
    """Rows of a whole file. Memory: one line, of which no more than `longest` bytes are kept, or one record batch."""
    if kind == "parquet":
        return int(pq.ParquetFile(file).metadata.num_rows)
    if kind == "arrow":
        return sum(batch.num_rows for batch in _batches(file))
    if kind in ("csv", "tsv"):
        return sum(1 for _ in _csv(_inflated(file), "\t" if kind == "tsv" else delimiter, longest))
    lines = (line for _, line in _lines(_inflated(file), longest))
    return sum(1 for line in lines if kind == "text" or line is None or line.strip())


def read_rows(
    file: BinaryIO, kind: Kind, delimiter: str, columns: list[str], window: Window | None = None, longest: int = LONGEST
) -> Iterator[RawRow]:
    """Rows of a file, with at least the top-level `columns` (those the file has), in file order; of a line longer than
    `longest` bytes only that it is there.

    With a window at least its rows; parts of the file outside are skipped where the format allows it.
    """
    if kind == "parquet":
        yield from _parquet_rows(pq.ParquetFile(file), columns, window)
    elif kind == "arrow":
        yield from _arrow_rows(file, columns)
    elif kind in ("csv", "tsv"):
        for row, values in enumerate(_csv(_inflated(file), "\t" if kind == "tsv" else delimiter, longest)):
            if window is not None and window.measure == "rows" and row >= window.stop:
                return
            yield RawRow(row, -1, values)
    else:
        yield from _line_rows(file, kind, window, longest)


def _parquet_rows(parquet: pq.ParquetFile, columns: list[str], window: Window | None) -> Iterator[RawRow]:
    wanted = [name for name in columns if name in parquet.schema_arrow.names]
    if not wanted:  # all of them are in the names of folders, and Arrow gives no rows for no columns
        rows = range(parquet.metadata.num_rows)
        yield from (RawRow(row, -1, {}) for row in (rows[window.start : window.stop] if window else rows))
        return
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        stop = first + parquet.metadata.row_group(group).num_rows
        if window is None or (first < window.stop and window.start < stop):
            row = first
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted):
                yield from _numbered(batch, row)
                row += batch.num_rows
        first = stop


def _arrow_rows(file: BinaryIO, columns: list[str]) -> Iterator[RawRow]:
    """Other columns may hold what Python has no values for: dates beyond the year 9999, zones that nobody knows."""
    first = 0
    for batch in _batches(file):
        wanted = [at for at, name in enumerate(batch.schema.names) if name in columns]
        if wanted:
            yield from _numbered(batch.select(wanted), first)
        else:  # Arrow gives no rows for no columns
            yield from (RawRow(first + at, -1, {}) for at in range(batch.num_rows))
        first += batch.num_rows


def _numbered(batch: pa.RecordBatch, first: int) -> Iterator[RawRow]:
    plain = pa.RecordBatch.from_arrays([_as_written(column) for column in batch.columns], batch.schema.names)
    return (RawRow(first + at, -1, values) for at, values in enumerate(plain.to_pylist()))


def _as_written(array: pa.Array) -> pa.Array:
    """The array with text for values, nested ones too, whose text in a template is Arrow's."""
    if pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        return pa.StructArray.from_arrays([_as_written(part) for part in array.flatten()], names, mask=array.is_null())
    if pa.types.is_dictionary(array.type):
        kind, values = array.type.value_type, array.dictionary
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):  # of which Arrow decodes no dictionary
            text = pa.types.is_string_view(kind) and _is_utf8(values)
            values = values.cast(pa.large_string() if text else pa.large_binary())
            array = pa.DictionaryArray.from_arrays(array.indices, values)
        return _as_written(array.dictionary_decode())
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array if _is_utf8(array) else array.cast(pa.large_binary())
    return array.cast(pa.string()) if _has_own_text(array.type) else array


def _is_utf8(array: pa.Array) -> bool:
    """Whether text is text: nothing holds a file's writer to it."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _has_own_text(kind: pa.DataType) -> bool:
    """Types whose values Arrow writes out in another way than Python; in a template they stand as Arrow writes them."""
    return bool(pa.types.is_floating(kind) or pa.types.is_temporal(kind) or pa.types.is_decimal(kind))


def _line_rows(file: BinaryIO, kind: Kind, window: Window | None, longest: int) -> Iterator[RawRow]:
    inflated, start = _inflated(file), 0
    if window is not None and window.measure == "bytes" and inflated is file:
        start = window.start
        file.seek(start)
    row = 0
    for offset, line in _lines(inflated, longest, start):
        place = offset if window is None or window.measure == "bytes" else row
        if window is not None and place >= window.stop:
            return
        if kind == "jsonl" and line is not None and not line.strip():
            continue
        if window is None or place >= window.start:
            read = _text if kind == "text" else _json
            yield RawRow(row, offset, None if line is None else read(line))
        row += 1


def _batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Record batches of an Arrow file, or of a stream under that name."""
    magic = file.read(6)
    file.seek(0)
    if magic != b"ARROW1":
        yield from pyarrow.ipc.open_stream(file)
        return
    reader = pyarrow.ipc.open_file(file)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def is_compressed(file: BinaryIO) -> bool:
    """Whether the content is gzip or zstd; the stream stands at its beginning afterwards."""
    magic = file.read(4)
    file.seek(0)
    return magic.startswith(_GZIP) or _ZSTD.match(magic) is not None


def _inflated(file: BinaryIO) -> BinaryIO:
    """The file's own bytes, whatever its name says about compression."""
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return cast(BinaryIO, gzip.open(file, "rb"))
    if _ZSTD.match(magic):
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    return file


def _lines(file: BinaryIO, longest: int, offset: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """(offset, line without its end) of each line from `offset` on; only `\\n` ends one, the last may lack it. None for one of
    more than `longest` bytes, which a packed file may have of any length."""
    read = io.BufferedReader(cast(io.RawIOBase, _Raw(file)), 1 << 20).readline
    while line := read(longest + 1):
        start, whole = offset, len(line) <= longest or line.endswith(b"\n")
        offset += len(line)
        if whole:
            body = line.removesuffix(b"\n").removesuffix(b"\r")
            yield start, body.removeprefix(BOM) if start == 0 else body
            continue
        while line and not line.endswith(b"\n"):
            line = read(1 << 20)
            offset += len(line)
        yield start, None


class _Raw(io.RawIOBase):
    """Any object with `read` as a raw stream, so that lines can be taken from it in one way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _csv(file: BinaryIO, delimiter: str, longest: int) -> Iterator[dict[str, Any]]:
    """Rows after the header, as RFC 4180 has them; blank lines are neither. Raises csv.Error for a row that takes far more memory
    than a run would give it: quotes can hold together any number of lines."""
    text = io.TextIOWrapper(
        io.BufferedReader(_Raw(file), 1 << 20), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    csv.field_size_limit(1 << 30)
    lines = _RowLines(text, delimiter, max(longest, _CSV_LONGEST))
    rows = (fields for fields in lines.rows() if fields)
    header = next(rows, [])
    return (dict(zip(header, fields, strict=False)) for fields in rows)


class _RowLines:
    """The lines of CSV, with a bound on each, and on those of one row together."""

    def __init__(self, text: io.TextIOWrapper, delimiter: str, longest: int) -> None:
        self._text, self._delimiter, self._longest = text, delimiter, longest
        self._taken = 0

    def rows(self) -> Iterator[list[str]]:
        for fields in csv.reader(self._lines(), delimiter=self._delimiter):
            self._taken = 0
            yield fields

    def _lines(self) -> Iterator[str]:
        most = max(_CSV_ROW, 4 * self._longest)
        while line := self._text.readline(self._longest + 1):
            fields = line.count(self._delimiter)
            self._taken += len(line) + _CSV_PLACE * fields + _CSV_FIELD * min(fields, len(line) - fields)
            if len(line) > self._longest or self._taken > most:
                raise csv.Error(
                    f"a line of more than {self._longest:,} characters, or a row that takes more than {most:,} bytes"
                )
            yield line


def _text(line: bytes) -> dict[str, Any] | None:
    try:
        return {"text": line.decode()}
    except UnicodeDecodeError:
        return None


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _finite(written: str) -> float:
    """A number of JSON, which has no NaN and no infinity, however either is written."""
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(written)
    return value
