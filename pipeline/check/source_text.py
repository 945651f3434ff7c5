"""A row's id and text out of a raw source row, by the rules the spec documents."""

import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pipeline.check.source_rows import RawRow


def columns_of(text: Mapping[str, Any], id_column: str | None) -> list[str]:
    """Top-level columns that text and id are made of."""
    paths = [text["column"]] if text["column"] else _fields(text["template"] or "{text}")
    paths += [id_column] if id_column else []
    return sorted({part for path in paths for part in (path, path.split(".")[0])})


def id_of(raw: RawRow, column: str) -> int | str | None:
    """The row's id, as found."""
    value = _decoded(_dig(raw.values, column))
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def text_of(raw: RawRow, text: Mapping[str, Any]) -> str | None:
    """The row's text before the prompt; None where it has none."""
    if raw.values is None:
        return None
    if text["template"]:
        return _filled(text["template"], raw.values)
    value = _decoded(_dig(raw.values, text["column"] or "text"))
    return value if isinstance(value, str) else None


def folder_values(uri: str) -> dict[str, str]:
    """Columns that `key=value` folders of a file's path stand for."""
    parts = (part.partition("=") for part in uri.split("/")[:-1])
    return {unquote(key): unquote(value) for key, separator, value in parts if key and separator}


def with_folders(raw: RawRow, folders: Mapping[str, str]) -> RawRow:
    """The row with what its path's folders say, where the file itself has no such column."""
    return raw if raw.values is None or not folders else replace(raw, values={**folders, **raw.values})


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _filled(template: str, values: Mapping[str, Any]) -> str | None:
    """The template with its columns; None when one of them is null."""
    parts: list[str] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name:
            value = _decoded(_dig(values, name))
            if value is None:
                return None
            parts.append(_written(value))
    return "".join(parts)


def _written(value: Any) -> str:
    """Numbers and booleans as Arrow writes them (`1.0` as `1`), whatever the format they come from."""
    if isinstance(value, bool | float):
        return str(pa.scalar(value).cast(pa.string()))
    return str(value)


def _decoded(value: Any) -> Any:
    """Binary columns hold text too."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _dig(values: Mapping[str, Any] | None, path: str) -> Any:
    """`a.b` inside nested columns; a column whose own name holds the dot goes first."""
    if values is None or path in values:
        return None if values is None else values[path]
    head, dot, rest = path.partition(".")
    inner = values.get(head)
    return _dig(inner, rest) if dot and isinstance(inner, Mapping) else None
