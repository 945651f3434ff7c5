"""The words of the source room: files as found, pieces of them, and segments made of pieces.

A *segment* is what one read task reads: a stream of rows in file order. The reader cuts the stream into *units* by the
caps of the `UnitPolicy`; cut points depend on the rows alone, so any reader on any machine cuts at the same place.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Format = Literal["parquet", "arrow", "jsonl", "csv", "tsv", "text"]
Compression = Literal["none", "gzip", "zstd"]
Measure = Literal["rows", "bytes"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file as the listing saw it."""

    uri: str
    version: str  # identity of the content: ETag, or mtime-ctime-inode of a local file; compared, never parsed
    size: int  # bytes
    format: Format
    compression: Compression
    path: str  # below the input root, with `/`; the first half of a generated id
    folders: tuple[tuple[str, str], ...] = ()  # `key=value` folders between root and file, decoded


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet or Arrow file says of itself: rows and uncompressed bytes of each row group (record batch)."""

    rows: tuple[int, ...]
    bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A contiguous part of one file version.

    Rows [start, stop) of a columnar file, on row-group boundaries; bytes [start, stop) of an uncompressed line format,
    owning the lines that *start* in the range; a format that can only be read from its beginning (CSV, an Arrow
    stream, anything compressed) is one piece of bytes [0, size).
    """

    file: InputFile
    measure: Measure
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Pieces read one after the other by one task: usually one, several when small files share a segment."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class UnitPolicy:
    """Caps on a unit; the first one reached cuts before the row that would pass it. Part of the spec."""

    rows: int
    text_bytes: int  # UTF-8 bytes of text and kept text, and of what is kept of rejected rows
    vector_bytes: int

    def max_rows(self, dimensions: int) -> int:
        """Rows of a unit whose vectors are float32 of `dimensions`: at least 1."""
        return max(1, min(self.rows, self.vector_bytes // (4 * dimensions)))


@dataclass(frozen=True, slots=True)
class Extraction:
    """How a row's id, text and kept columns are taken out of a file. Part of the spec, types included."""

    text: str | None  # dotted path; exactly one of text and template is set (format text: column `text`)
    template: str | None
    id: str | None  # None: generated as `<path>#<row>`, or `<path>@<byte>` where rows are found by byte
    id_type: Literal["int64", "string"]
    keep: tuple[tuple[str, pa.DataType], ...]  # kept columns, `partition_by` ones included, and their output types
    csv_delimiter: str
    max_text_bytes: int
    reject: tuple[tuple[str, Literal["quarantine", "refuse"]], ...]  # per kind, see `KINDS`


@dataclass(frozen=True, slots=True)
class Span:
    """What one unit consumed of one file. `rows`: row numbers in the file; `bytes`: offsets of whole lines."""

    uri: str
    version: str
    measure: Measure
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """The k-th unit of a segment, as read."""

    k: int
    eof: bool  # the segment ends with this unit
    spans: tuple[Span, ...]
    rows: pa.Table  # columns: see `unit_schema`


KINDS = (
    "null",
    "empty",
    "invalid_utf8",
    "lone_surrogate",
    "not_a_string",
    "malformed",
    "null_id",
    "oversize",
    "not_finite",
    "duplicate_id",
)
"""Reasons a row may not be embedded; the README's table of rows that can't be embedded documents each."""

KEEP_PREFIX = "keep."


def unit_schema(extraction: Extraction) -> pa.Schema:
    """Columns of `SourceUnit.rows`: every source row is there once, in order; one that can't be embedded has a `kind`."""
    id_type = pa.int64() if extraction.id_type == "int64" else pa.string()
    return pa.schema(
        [
            pa.field("file", pa.int32(), nullable=False),  # index into the segment's pieces
            pa.field("position", pa.int64(), nullable=False),  # row number in the file, or byte offset of its line
            pa.field("id", id_type),
            pa.field("text", pa.string()),  # null where `kind` is set
            pa.field("kind", pa.string()),  # one of KINDS
            pa.field("reason", pa.string()),  # one sentence, with place
            pa.field("raw", pa.binary()),  # the row as found (text or whole line), kept for quarantine
            *(pa.field(KEEP_PREFIX + name, kind) for name, kind in extraction.keep),
        ]
    )
