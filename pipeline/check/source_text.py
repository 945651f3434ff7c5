"""A row's id and text out of a raw source row, by the rules the spec documents."""

import string
from collections.abc import Mapping
from typing import Any

from pipeline.check.source_rows import RawRow


def columns_of(text: Mapping[str, Any], id_column: str | None) -> list[str]:
    """Top-level columns that text and id are made of."""
    paths = [text["column"]] if text["column"] else _fields(text["template"] or "{text}")
    paths += [id_column] if id_column else []
    return sorted({part for path in paths for part in (path, path.split(".")[0])})


def id_of(raw: RawRow, column: str) -> int | str | None:
    """The row's id, as found."""
    value = _dig(raw.values, column)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def text_of(raw: RawRow, text: Mapping[str, Any]) -> str | None:
    """The row's text before the prompt; None where it has none."""
    if raw.values is None:
        return None
    if text["template"]:
        return _filled(text["template"], raw.values)
    value = _dig(raw.values, text["column"] or "text")
    return value if isinstance(value, str) else None


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _filled(template: str, values: Mapping[str, Any]) -> str | None:
    parts: list[str] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        value = _dig(values, name)
        parts.append("" if value is None else str(value))
    return "".join(parts)


def _dig(values: Mapping[str, Any] | None, path: str) -> Any:
    """`a.b` inside nested columns; a column whose own name holds the dot goes first."""
    if values is None or path in values:
        return None if values is None else values[path]
    head, dot, rest = path.partition(".")
    inner = values.get(head)
    return _dig(inner, rest) if dot and isinstance(inner, Mapping) else None
