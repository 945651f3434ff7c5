"""Small labelled files, row by row: named columns, and where each row stands.

Lines are read here, not as a job reads its input: a job gives each column one type and says which of its settings would keep a
row aside; here each value is judged for itself, and there are no such settings.
"""

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

from pipeline.config.schema import Input, Rows
from pipeline.errors import InputError
from pipeline.progress.reporters import count_text
from pipeline.source.columnar import check_unique, missing_column
from pipeline.source.delimited import csv_rows
from pipeline.source.discover import COMPRESSIONS, SUFFIXES, UNREADABLE, discover
from pipeline.source.extract import REASONS, folder_values
from pipeline.source.read import read_segment
from pipeline.source.records import KEEP_PREFIX, InputFile, Piece, Segment, UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.streams import blocks, decompressed, lines, one_line
from pipeline.source.text_lines import MISSING, parse_object
from pipeline.storage.inputs import expand, open_input

MOST_SHOWN = 5
"""Bad rows that a message names."""

MOST_BYTES = Rows().max_text_bytes
LONGEST_LINE = 4 * MOST_BYTES
CAPS = UnitPolicy(rows=16_384, text_bytes=32 << 20, vector_bytes=1 << 30)

TOLD = REASONS | {"oversize": f"the text is longer than {MOST_BYTES:,} bytes"}

COUNTED = "counted from 0, without header and blank lines"
"""What a row's number is, beside the line's that an editor shows."""

WITH_COLUMNS = tuple(suffix for suffix, kind in SUFFIXES.items() if kind != "text")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `values` has the columns that were asked for."""

    uri: str
    by: Literal["line", "row"]  # what `number` counts: lines from 1, rows as `COUNTED` says
    number: int
    values: dict[str, Any]
    problem: str = ""  # why it can't be read; "" for nothing

    @property
    def place(self) -> str:
        """File and row."""
        return f"{self.uri}, {self.by} {self.number:,}"


def read_rows(asked: Input, unquoted: Collection[str] = ()) -> Iterator[Row]:
    """All rows of the files, with the text under its column's name (made by a template: under "text") and the kept columns.

    unquoted: formats, csv or tsv, in which quotation marks are text. Raises InputError for a file that can't be read or lacks a
    column, and where there is no row at all.
    """
    files = _files(asked)
    names = tuple(dict.fromkeys((asked.text, *asked.keep) if asked.text else asked.keep))
    keys: dict[str, None] = {}  # of all objects
    rows = 0
    for file in files:
        if file.format == "jsonl":
            found = _objects(file, names, keys)
        elif file.format in ("csv", "tsv"):
            found = _delimited(file, names, unquoted)
        else:
            found = _columnar(file, files, asked)
        for row in found:
            rows += 1
            yield row
    if not rows:
        raise InputError(f"{files[0].uri}: there is no row in it, nor in any other file of the set")
    for name in names if keys else ():
        if name not in keys and name.partition(".")[0] not in keys:
            raise missing_column(next(file for file in files if file.format == "jsonl"), name, list(keys))


def _files(asked: Input) -> list[InputFile]:
    if asked.format == "auto":
        for found in expand(asked.paths):
            name = PurePosixPath(found.uri.lower())
            name = name.with_suffix("") if name.suffix in COMPRESSIONS else name
            if name.suffix not in (*WITH_COLUMNS, *UNREADABLE):
                raise InputError(
                    f"{found.uri}: the name does not tell a format with columns; name only files ending in "
                    f"{', '.join(sorted(WITH_COLUMNS))} (.gz and .zst for lines)"
                )
    return discover(asked)


def _columnar(file: InputFile, files: Sequence[InputFile], asked: Input) -> Iterator[Row]:
    """Of Parquet and Arrow; with the file's own types, where it has rows."""
    columnar = [other for other in files if other.format in ("parquet", "arrow") and other != file]
    extraction = inspect([file, *columnar], asked, Rows(), ())
    text = asked.text or "text"
    piece = Piece(file, "bytes", 0, file.size)
    for unit in read_segment(Segment((piece,)), extraction, CAPS, CAPS.rows):
        for row in unit.rows.to_pylist():
            values = {name: row[KEEP_PREFIX + name] for name, _ in extraction.keep} | {text: row["text"]}
            problem = f"column {text!r}: {TOLD[row['kind']]}" if row["kind"] is not None else ""
            yield Row(file.uri, "row", row["position"], values, problem)


def _objects(file: InputFile, names: Sequence[str], keys: dict[str, None]) -> Iterator[Row]:
    """Of JSONL. `keys` is given what the objects have."""
    folders = folder_values(file)
    with open_input(file.uri, file.version) as stream:
        found = lines(blocks(decompressed(stream, file), file), 0, LONGEST_LINE)
        for number, (_, _, data, whole) in enumerate(found, 1):
            if whole and not data.strip():
                continue
            row, problem = _parsed(data) if whole else ({}, f"the line is longer than {LONGEST_LINE:,} bytes")
            keys |= dict.fromkeys((*row, *folders) if row else ())
            values = {name: folders.get(name) if (value := _reach(row, name)) is MISSING else value for name in names}
            problem = problem or _problem(values, "half of a surrogate pair, which UTF-8 can't express")
            yield Row(file.uri, "line", number, values, problem)


def _parsed(data: bytes) -> tuple[dict[str, Any], str]:
    """A line's object, and what is wrong with it."""
    try:
        row = parse_object(data)
    except UnicodeDecodeError:
        return {}, REASONS["invalid_utf8"]
    return (row, "") if row is not None else ({}, "the line is not a JSON object; expected one on each line")


def _reach(row: object, name: str) -> object:
    """A value by its name; `a.b` reaches into nested ones."""
    if not isinstance(row, dict):
        return MISSING
    if name in row:
        return row[name]
    first, dot, rest = name.partition(".")
    return _reach(row.get(first), rest) if dot else MISSING


def _delimited(file: InputFile, names: Sequence[str], unquoted: Collection[str]) -> Iterator[Row]:
    """Of CSV and TSV: all values are text."""
    folders = folder_values(file)
    with open_input(file.uri, file.version) as stream:
        rows = _fields(stream, file, unquoted)
        header = next(rows, None)
        if header is None:
            return
        for name in names:
            check_unique(file, name, header)
            if name not in header and name not in folders:
                raise missing_column(file, name, header)
        for number, fields in enumerate(rows):
            if len(fields) != len(header):
                raise InputError(
                    f"{file.uri}, row {number:,} ({COUNTED}): {len(fields)} fields, but the header names {len(header)}"
                )
            found = folders | dict(zip(header, fields, strict=True))
            values = {name: found[name] for name in names}
            yield Row(file.uri, "row", number, values, _problem(values, "bytes that are not UTF-8"))


def _fields(stream: BinaryIO, file: InputFile, unquoted: Collection[str]) -> Iterator[list[str]]:
    """The header and the rows. Where quoting goes wrong it is told what can be done about it here."""
    number = -1
    try:
        for fields in csv_rows(stream, file, ",", LONGEST_LINE, quotes=file.format not in unquoted):
            yield fields
            number += 1
    except InputError as error:
        if not isinstance(error.__cause__, csv.Error):
            raise
        place = f"row {number:,} ({COUNTED})" if number >= 0 else "the header"
        besides = "" if unquoted else ", or set `quotes: false` where they are text"
        raise InputError(
            f"{file.uri}, {place}: {one_line(error.__cause__)}; check its quotation marks{besides}"
        ) from error.__cause__


def _problem(values: dict[str, Any], not_utf8: str) -> str:
    """What makes a row's text one that can't be embedded; "" for nothing."""
    for name, value in values.items():
        if not isinstance(value, str):
            continue
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return f"column {name!r} holds {not_utf8}"
        if size > MOST_BYTES:
            return f"column {name!r} holds {size:,} bytes; at most {MOST_BYTES:,} are taken"
    return ""


def shown(value: object) -> str:
    """A value in a message: not too long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


class BadRows:
    """Counts rows that can't be used, and keeps the first few to be named."""

    def __init__(self, section: str) -> None:
        """section: the source's place in the config."""
        self._section, self._count = section, 0
        self._shown: list[str] = []
        self._counted = ""

    def add(self, row: Row, problem: str) -> None:
        """One more."""
        self._count += 1
        if len(self._shown) < MOST_SHOWN:
            self._shown.append(f"\n  {row.place}: {problem}")
            self._counted = f" ({COUNTED})" if row.by == "row" else self._counted

    def refuse(self) -> None:
        """Raises InputError where there was one."""
        if self._count:
            more = f"\n  and {self._count - MOST_SHOWN:,} more" if self._count > MOST_SHOWN else ""
            found = count_text(self._count, "row")
            raise InputError(f"{self._section}: {found} can't be used{self._counted}{''.join(self._shown)}{more}")
