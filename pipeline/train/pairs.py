"""Labelled pairs of texts, read whole and judged row by row before anything is computed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import Input, Rows
from pipeline.config.training import Pairs
from pipeline.errors import InputError
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
class LabelledPairs:
    """Equally long: the first texts, the second ones, and 1 where the two belong together, 0 where they don't."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: tuple[int, ...]
    left_out: int = 0  # rows whose score is neither

    @property
    def positive(self) -> int:
        """Pairs that belong together."""
        return sum(self.labels)


@dataclass(frozen=True, slots=True)
class _Row:
    place: str  # file and row
    values: dict[str, Any]  # by column
    problem: str = ""


def read_pairs(source: Pairs, section: str) -> LabelledPairs:
    """All pairs of a source. `section`: its place in the config, for messages.

    Raises InputError naming file and row for texts that are missing or empty and labels that are neither 0 nor 1 (with
    `positive_from`: no numbers); also where nothing is left, or all of it has one label.
    """
    bad: list[str] = []
    found: list[tuple[str, str, int]] = []
    left_out = 0
    for row in _rows(source):
        if any(str(row.values[name]) != value for name, value in source.only.items()):
            continue
        problem = row.problem or _problem(row.values, source)
        if problem:
            bad.append(f"{row.place}: {problem}")
            continue
        label = _label(float(row.values[source.label]), source)
        if label is None:
            left_out += 1
        else:
            found.append((row.values[source.first], row.values[source.second], label))
    if bad:
        raise InputError(_listed(bad, section))
    pairs = LabelledPairs(*_columns(found), left_out)
    _check_both_labels(pairs, source, section)
    return pairs


def _columns(rows: Sequence[tuple[str, str, int]]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows), tuple(row[2] for row in rows)


def _rows(source: Pairs) -> Iterator[_Row]:
    kept = tuple(dict.fromkeys((source.second, source.label, *source.only)))
    asked = Input(paths=source.paths, format=source.format, text=source.first, keep=kept)
    files = discover(asked)
    plain = [file for file in files if file.format in ("csv", "tsv")] if not source.quotes else []
    for file in plain:
        yield from _unquoted(file, (source.first, *kept))
    others = [file for file in files if file not in plain]
    if others:
        extraction = inspect(others, asked, Rows(), ())
        for file in others:
            yield from _extracted(file, source.first, extraction)


def _extracted(file: InputFile, text: str, extraction: Extraction) -> Iterator[_Row]:
    piece = Piece(file, "bytes", 0, file.size)
    measure = "byte" if file.format == "jsonl" and file.compression == "none" else "row"
    for unit in read_segment(Segment((piece,)), extraction, CAPS, CAPS.rows):
        for row in unit.rows.to_pylist():
            values = {name: row[KEEP_PREFIX + name] for name, _ in extraction.keep} | {text: row["text"]}
            problem = f"column {text!r}: {row['reason']}" if row["kind"] is not None else ""
            yield _Row(f"{file.uri}, {measure} {row['position']:,}", values, problem)


def _unquoted(file: InputFile, names: Sequence[str]) -> Iterator[_Row]:
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
            yield _Row(place, values)


def _problem(values: dict[str, Any], source: Pairs) -> str:
    """What is wrong with a row; "" for nothing."""
    for name in (source.first, source.second):
        text = values[name]
        if not isinstance(text, str):
            return f"column {name!r} holds {_shown(text)}; expected text"
        if not text.strip():
            return f"column {name!r} is empty; expected text"
    label = values[source.label]
    try:
        number = math.nan if label is None else float(label)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        return f"column {source.label!r} holds {_shown(label)}; expected a number"
    if source.positive_from is None and number not in (0.0, 1.0):
        return f"column {source.label!r} holds {_shown(label)}; expected 0 or 1 (for scores set positive_from and negative_to)"
    return ""


def _label(score: float, source: Pairs) -> int | None:
    if source.positive_from is None or source.negative_to is None:
        return int(score)
    return 1 if score >= source.positive_from else 0 if score <= source.negative_to else None


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _listed(bad: Sequence[str], section: str) -> str:
    more = f"\n  and {len(bad) - MOST_SHOWN:,} more" if len(bad) > MOST_SHOWN else ""
    return f"{section}: {len(bad):,} rows can't be used\n  " + "\n  ".join(bad[:MOST_SHOWN]) + more


def _check_both_labels(pairs: LabelledPairs, source: Pairs, section: str) -> None:
    total = len(pairs.labels)
    if 0 < pairs.positive < total:
        return
    of = f" of {source.only}" if source.only else ""
    beside = f"; {pairs.left_out:,} have a score in between" if pairs.left_out else ""
    raise InputError(
        f"{section}: {pairs.positive:,} pairs{of} have label 1 and {total - pairs.positive:,} have 0{beside}. Both are needed, "
        "to learn from and to measure by"
    )
