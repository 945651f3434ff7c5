"""Small labelled files, row by row: named columns, and where each row stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import Input, Rows
from pipeline.errors import InputError
from pipeline.progress.reporters import count_text
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


def read_rows(asked: Input, *, quotes: bool) -> Iterator[Row]:
    """All rows of the files, with the text under its column's name (made by a template: under "text") and the kept columns.

    quotes: see `Pairs.quotes`. Raises InputError for a file that can't be read or lacks a column.
    """
    text = asked.text or "text"
    files = discover(asked)
    plain = [file for file in files if file.format in ("csv", "tsv")] if not quotes else []
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
        for number, fields in enumerate(rows):
            place = f"{file.uri}, row {number:,}"
            if len(fields) != len(header):
                raise InputError(f"{place}: {len(fields)} fields, but the header names {len(header)}")
            values: dict[str, Any] = dict(zip(header, fields, strict=True))
            yield Row(place, values)


def shown(value: object) -> str:
    """A value in a message: not too long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def refusal(bad: Sequence[str], section: str) -> InputError:
    """An error that names the first of some bad rows, each of them `place: problem`. section: its place in the config."""
    more = f"\n  and {len(bad) - MOST_SHOWN:,} more" if len(bad) > MOST_SHOWN else ""
    return InputError(
        f"{section}: {count_text(len(bad), 'row')} can't be used\n  " + "\n  ".join(bad[:MOST_SHOWN]) + more
    )
