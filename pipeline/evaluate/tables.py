"""Small labelled files, row by row: named columns, and where each row stands."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import Input, Rows
from pipeline.errors import InputError
from pipeline.progress.reporters import count_text
from pipeline.source.columnar import check_unique
from pipeline.source.delimited import csv_rows
from pipeline.source.discover import discover
from pipeline.source.read import read_segment
from pipeline.source.records import KEEP_PREFIX, Extraction, InputFile, Piece, Segment, UnitPolicy
from pipeline.source.schema import inspect
from pipeline.storage.inputs import open_input

MOST_SHOWN = 5
"""Bad rows that a message names."""

CAPS = UnitPolicy(rows=16_384, text_bytes=32 << 20, vector_bytes=1 << 30)


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `values` has the columns that were asked for."""

    place: str  # file and row
    values: dict[str, Any]
    problem: str = ""  # of its text; "" for none


def read_rows(asked: Input, unquoted: Collection[str] = ()) -> Iterator[Row]:
    """All rows of the files, with the text under its column's name (made by a template: under "text") and the kept columns.

    unquoted: formats, csv or tsv, in which quotation marks are text. Raises InputError for a file that can't be read or lacks a
    column.
    """
    text = asked.text or "text"
    files = discover(asked)
    plain = [file for file in files if file.format in unquoted]
    for file in plain:
        yield from _unquoted(file, (asked.text, *asked.keep) if asked.text else asked.keep)
    rest = [file for file in files if file not in plain]
    if rest:
        extraction = inspect(rest, asked, Rows(), ())
        for file in rest:
            yield from _extracted(file, text, extraction)


def _extracted(file: InputFile, text: str, extraction: Extraction) -> Iterator[Row]:
    piece = Piece(file, "bytes", 0, file.size)
    measure = "byte" if file.format == "jsonl" and file.compression == "none" else "row"
    for unit in read_segment(Segment((piece,)), extraction, CAPS, CAPS.rows):
        for row in unit.rows.to_pylist():
            values = {name: row[KEEP_PREFIX + name] for name, _ in extraction.keep} | {text: row["text"]}
            problem = f"column {text!r}: {row['reason']}" if row["kind"] is not None else ""
            yield Row(f"{file.uri}, {measure} {row['position']:,}", values, problem)


def _unquoted(file: InputFile, names: Sequence[str]) -> Iterator[Row]:
    with open_input(file.uri, file.version) as stream:
        rows = csv_rows(stream, file, ",", CAPS.text_bytes, quotes=False)
        header = next(rows, [])
        missing = [name for name in names if name not in header]
        if missing:
            raise InputError(f"{file.uri}: no column {missing[0]!r}; there are {', '.join(map(repr, header))}")
        for name in names:
            check_unique(file, name, header)
        for number, fields in enumerate(rows):
            place = f"{file.uri}, row {number:,}"
            if len(fields) != len(header):
                raise InputError(f"{place}: {len(fields)} fields, but the header names {len(header)}")
            values: dict[str, Any] = dict(zip(header, fields, strict=True))
            yield Row(place, values, next(filter(None, (_not_text(name, values[name]) for name in names)), ""))


def _not_text(name: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"column {name!r} holds bytes that are not UTF-8"
    most = Rows().max_text_bytes
    return f"column {name!r} holds {size:,} bytes; at most {most:,} are taken" if size > most else ""


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

    def add(self, row: Row, problem: str) -> None:
        """One more."""
        self._count += 1
        if len(self._shown) < MOST_SHOWN:
            self._shown.append(f"\n  {row.place}: {problem}")

    def refuse(self) -> None:
        """Raises InputError where there was one."""
        if self._count:
            more = f"\n  and {self._count - MOST_SHOWN:,} more" if self._count > MOST_SHOWN else ""
            raise InputError(
                f"{self._section}: {count_text(self._count, 'row')} can't be used{''.join(self._shown)}{more}"
            )
