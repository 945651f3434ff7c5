"""The documented form of a snapshot's records, as far as they are read here, and where one departs from it.

Looked at once, before anything is made of a record: a damaged one is told of by the place in it, and what reads it
afterwards may rely on it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeAlias

SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True, slots=True)
class Many:
    """A list, every item of one form."""

    form: "Form"
    least: int = 0


Form: TypeAlias = "dict[str, Any] | Many | tuple[Any, ...] | re.Pattern[str] | type | UnionType"
"""An object with at least these keys · a list · a list of as many items · text in full · a type, numbers from 0 on."""

_DUE: dict[Any, str] = {
    str: "text",
    int: "a number from 0 on",
    bool: "true or false",
    str | None: "text or null",
    int | None: "a number from 0 on or null",
}
_MEASURE = re.compile("rows|bytes")

ENTRY: Form = {
    "version": int,
    "base": int,
    "oldest": int,
    "spec": re.compile("[0-9a-f]{32}"),  # part of a key
    "recipe": str,
    "limit": int | None,
    "manifest": {
        "key": re.compile(r"_embedpipe/manifest/[0-9]+-[0-9a-f]{64}\.parquet"),
        "bytes": int,
        "rows": int,
        "sha256": str,
    },
    "files": int,
    "rows": int,
    "bytes": int,
    "units": int,
    "rows_in": int,
    "rows_quarantined": int,
    "failed": {},
    "facts": {},
}
SPEC: Form = {
    "recipe": {
        "model": {"files": Many((str, str)), "dimensions": int},
        "text": {"column": str | None, "template": str | None},
        "reader": {"format": str, "csv_delimiter": str, "max_text_bytes": int},
        "prompt": str,
        "task": str | None,
        "max_tokens": int,
        "precision": re.compile("gated|exact"),
        "outputs": Many({"dimensions": int, "normalized": bool}, least=1),
    },
    "layout": {
        "id": {"column": str | None, "type": str},
        "keep": Many((str, str)),
        "partition_by": Many(str),
        "vector_type": str,
    },
    "limit": int | None,
}
UNIT: Form = {
    "unit": str,
    "segment": str,
    "k": int,
    "eof": bool,
    "pieces": Many({"uri": str, "version": str, "measure": _MEASURE, "start": int, "stop": int, "last": bool}, least=1),
    "spans": Many({"uri": str, "version": str, "measure": _MEASURE, "start": int, "stop": int}),
    "rows_in": int,
    "rows_out": int,
    "rows_quarantined": int,
    "quarantine": str,
    "digest": str,
    "slices": Many(
        {
            "file": re.compile(r"data/[^\0]+"),
            "file_bytes": int,
            "file_rows": int,
            "sha256": str,
            "first_row": int,
            "rows": int,
        }
    ),
}
"""A row of the manifest."""


def fault(value: object, form: Form) -> str:
    """Where `value` departs from `form` first, and how; "" where it doesn't."""
    return next(_faults(value, form, ""), "")


def _faults(value: object, form: Form, place: str) -> Iterator[str]:
    if isinstance(form, dict):
        if not isinstance(value, dict):
            yield _told(place, value, "an object")
            return
        for key, inner in form.items():
            at = f"{place}.{key}" if place else key
            if key in value:
                yield from _faults(value[key], inner, at)
            else:
                yield f"{at} is missing"
    elif isinstance(form, Many | tuple):
        yield from _faults_of_items(value, form, place)
    elif isinstance(form, re.Pattern):
        if not isinstance(value, str) or not form.fullmatch(value):
            yield _told(place, value, f"text like {form.pattern}")
    else:
        no_number = isinstance(value, bool) and form is not bool  # though to Python it is one
        if no_number or not isinstance(value, form) or (isinstance(value, int) and value < 0):
            yield _told(place, value, _DUE[form])


def _faults_of_items(value: object, form: "Many | tuple[Any, ...]", place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield _told(place, value, "a list")
        return
    forms = form if isinstance(form, tuple) else (form.form,) * max(len(value), form.least)
    if len(forms) != len(value):
        yield f"{place} has {len(value)} items, where {len(forms)} are due"
        return
    for index, (item, inner) in enumerate(zip(value, forms, strict=True)):
        yield from _faults(item, inner, f"{place}[{index}]")


def _told(place: str, value: object, due: str) -> str:
    return f"{place or 'it'} is {repr(value)[:SHOWN]}, where {due} is due"
