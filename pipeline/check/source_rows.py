"""Raw rows of source files, read here by plain means: pyarrow for columnar files, json, csv, and lines for the rest."""

import csv
import gzip
import io
import json
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
_GZIP, _ZSTD, _BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as found. `values` is None for a line that can't be understood: still a row."""

    row: int  # number in the file, from 0
    offset: int  # where its line starts in the (inflated) file; -1 for columnar formats and CSV
    values: Mapping[str, Any] | None


def kind_of(uri: str, configured: str) -> Kind | None:
    """The format of a file: the configured one, or by its name; None when the name says nothing."""
    if configured != "auto":
        return cast(Kind, configured)
    parts = uri.rsplit("/", 1)[-1].lower().split(".")
    while parts[-1] in ("gz", "gzip", "zst", "zstd"):
        parts.pop()
    return _BY_SUFFIX.get(parts[-1])


def count_rows(file: BinaryIO, kind: Kind, delimiter: str) -> int:
    """Rows of a whole file. Memory: one line, or one record batch."""
    if kind == "parquet":
        return int(pq.ParquetFile(file).metadata.num_rows)
    if kind == "arrow":
        return sum(batch.num_rows for batch in _batches(file))
    if kind in ("csv", "tsv"):
        return sum(1 for _ in _csv(_inflated(file), "\t" if kind == "tsv" else delimiter))
    lines = (line for _, line in _lines(_inflated(file)))
    return sum(1 for line in lines if kind == "text" or line.strip())


def read_rows(file: BinaryIO, kind: Kind, delimiter: str, columns: list[str]) -> Iterator[RawRow]:
    """Every row of a file, with at least the top-level `columns` (those the file has)."""
    if kind == "parquet":
        parquet = pq.ParquetFile(file)
        wanted = [name for name in columns if name in parquet.schema_arrow.names]
        yield from _numbered(parquet.iter_batches(_BATCH_ROWS, columns=wanted))
    elif kind == "arrow":
        yield from _numbered(_batches(file))
    elif kind in ("csv", "tsv"):
        for row, values in enumerate(_csv(_inflated(file), "\t" if kind == "tsv" else delimiter)):
            yield RawRow(row, -1, values)
    else:
        row = 0
        for offset, line in _lines(_inflated(file)):
            if kind == "text":
                yield RawRow(row, offset, _text(line))
            elif line.strip():
                yield RawRow(row, offset, _json(line))
            else:
                continue
            row += 1


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[RawRow]:
    row = 0
    for batch in batches:
        for values in batch.to_pylist():
            yield RawRow(row, -1, values)
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


def _inflated(file: BinaryIO) -> BinaryIO:
    """The file's own bytes, whatever its name says about compression."""
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return cast(BinaryIO, gzip.open(file, "rb"))
    if magic == _ZSTD:
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    return file


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its end) of each line; only `\\n` ends one, the last may lack it."""
    offset = 0
    for line in io.BufferedReader(cast(io.RawIOBase, _Raw(file)), 1 << 20):
        start, body = offset, line.removesuffix(b"\n").removesuffix(b"\r")
        offset += len(line)
        if start == 0 and body.startswith(_BOM):
            body = body.removeprefix(_BOM)
            if line == _BOM:
                continue  # nothing but a mark
        yield start, body


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


def _csv(file: BinaryIO, delimiter: str) -> Iterator[dict[str, Any]]:
    """Rows after the header, as RFC 4180 has them; blank lines are none."""
    text = io.TextIOWrapper(
        io.BufferedReader(_Raw(file), 1 << 20), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    csv.field_size_limit(1 << 30)
    yield from csv.DictReader(text, delimiter=delimiter)


def _text(line: bytes) -> dict[str, Any] | None:
    try:
        return {"text": line.decode()}
    except UnicodeDecodeError:
        return None


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
