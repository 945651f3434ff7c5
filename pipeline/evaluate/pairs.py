"""Pairs of texts with a label or a score, read whole and judged row by row before anything is computed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.config.pairs import Pairs, ScoredPairs, TextPairs
from pipeline.config.schema import Input
from pipeline.errors import InputError
from pipeline.evaluate.tables import BadRows, Row, read_rows, shown
from pipeline.progress.reporters import count_text

MOST_VALUES = 8
"""Of a column that a message names."""


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

    @property
    def texts(self) -> Iterator[tuple[str, str]]:
        """Both of each."""
        return zip(self.first, self.second, strict=True)


@dataclass(frozen=True, slots=True)
class RatedPairs:
    """Equally long: the first texts, the second ones, and how similar people find them."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]


def read_pairs(source: Pairs, section: str) -> LabelledPairs:
    """All pairs of a source. `section`: its place in the config, for messages.

    Raises InputError naming file and row for texts that are missing or empty and labels that are neither 0 nor 1 (with
    `positive_from`: no numbers); also where nothing is left, or all of it has one label.
    """
    bad = BadRows(section)
    found: list[tuple[str, str, int]] = []
    left_out = 0
    for row in _rows(source, source.label, section):
        problem = row.problem or _problem(row.values, source) or _label_problem(row.values[source.label], source)
        if problem:
            bad.add(row, problem)
            continue
        label = _label(float(row.values[source.label]), source)
        if label is None:
            left_out += 1
        else:
            found.append((row.values[source.first], row.values[source.second], label))
    bad.refuse()
    first, second, labels = (tuple(column) for column in zip(*found, strict=True)) if found else ((), (), ())
    pairs = LabelledPairs(first, second, labels, left_out)
    _check_both_labels(pairs, source, section)
    return pairs


def read_rated(source: ScoredPairs, section: str) -> RatedPairs:
    """All pairs of a source, with their scores.

    Raises InputError as `read_pairs` does, and where there are fewer than two pairs or all scores are one.
    """
    bad = BadRows(section)
    found: list[tuple[str, str, float]] = []
    for row in _rows(source, source.score, section):
        score = row.values[source.score]
        problem = row.problem or _problem(row.values, source) or _number_problem(score, source.score)
        if problem:
            bad.add(row, problem)
        else:
            found.append((row.values[source.first], row.values[source.second], float(score)))
    bad.refuse()
    if len({score for *_, score in found}) < 2:
        raise InputError(
            f"{section}: {count_text(len(found), 'pair')}{_of(source)}, all with one score; nothing correlates with that"
        )
    first, second, scores = (tuple(column) for column in zip(*found, strict=True))
    return RatedPairs(first, second, scores)


def _rows(source: TextPairs, value: str, section: str) -> Iterator[Row]:
    """Those that `only` names. Raises InputError where there is none: what it says may be spelled otherwise in the file."""
    columns = tuple(dict.fromkeys((source.second, value, *source.only)))
    asked = Input(paths=source.paths, format=source.format, text=source.first, keep=columns)
    others: dict[str, dict[str, None]] = {name: {} for name in source.only}
    found = False
    for row in read_rows(asked, () if source.quotes else ("csv", "tsv")):
        # Of a row that can't be read nobody knows whether it is one of those.
        if row.problem or all(str(row.values[name]) == wanted for name, wanted in source.only.items()):
            found = True
            yield row
            continue
        for name, known in others.items():
            if len(known) <= MOST_VALUES:
                known[shown(str(row.values[name]))] = None
    if not found:
        there = "; ".join(
            f"column {name!r} holds {', '.join([*known][:MOST_VALUES])}{', …' if len(known) > MOST_VALUES else ''}"
            for name, known in others.items()
        )
        raise InputError(f"{section}: no row of {', '.join(source.paths)} is one of {source.only}; {there}")


def _problem(values: dict[str, Any], source: TextPairs) -> str:
    """What is wrong with a row's texts; "" for nothing."""
    for name in (source.first, source.second):
        text = values[name]
        if not isinstance(text, str):
            return f"column {name!r} holds {shown(text)}; expected text"
        if not text.strip():
            return f"column {name!r} is empty; expected text"
    return ""


def _number_problem(value: object, column: str) -> str:
    try:
        number = math.nan if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return "" if math.isfinite(number) else f"column {column!r} holds {shown(value)}; expected a number"


def _label_problem(label: object, source: Pairs) -> str:
    problem = _number_problem(label, source.label)
    if problem or source.positive_from is not None or float(label) in (0.0, 1.0):  # type: ignore[arg-type]
        return problem
    return (
        f"column {source.label!r} holds {shown(label)}; expected 0 or 1 (for scores set positive_from and negative_to)"
    )


def _label(score: float, source: Pairs) -> int | None:
    if source.positive_from is None or source.negative_to is None:
        return int(score)
    return 1 if score >= source.positive_from else 0 if score <= source.negative_to else None


def _of(source: TextPairs) -> str:
    return f" of {source.only}" if source.only else ""


def _check_both_labels(pairs: LabelledPairs, source: Pairs, section: str) -> None:
    total = len(pairs.labels)
    if 0 < pairs.positive < total:
        return
    beside = f"; {pairs.left_out:,} have a score in between" if pairs.left_out else ""
    raise InputError(
        f"{section}: {pairs.positive:,} pairs{_of(source)} have label 1 and {total - pairs.positive:,} have 0{beside}. Both are "
        "needed, to learn from and to measure by"
    )
