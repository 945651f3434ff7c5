"""`column=value` folders: encoding that every reader decodes to the value it was, or a refusal.

Readers guess types from the text of a folder name, so a string like "007" would come back as the number 7, and "2024-1-5" as
a date; such values are refused. What DuckDB, pyarrow and Polars guess was found out by trying. Spark guesses too, and takes
"2024-01" for a day: months are too common to be refused for that, so it has to be told the column's type.
Anything but letters, digits, `-`, `_` and `.` is percent-encoded, so no value can leave the folder.
"""

import datetime
import re
from collections.abc import Sequence
from urllib.parse import quote

from pipeline.errors import InputError

NULL = "__HIVE_DEFAULT_PARTITION__"
MAX_FOLDER_BYTES = 255  # what file systems allow for one name

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,37}")
"""As every reader prints it: without a plus, without zeros in front. Polars fails on those of more digits."""
_OTHER_BASE = re.compile(r"0(?:x[0-9a-f][0-9a-f_]*|b[01][01_]*)", re.IGNORECASE)
_DATE = re.compile(r"[+-]?([0-9]+)([-/.])([0-9]{1,2})\2([0-9]{1,4})(?:[T ][0-9][0-9:.+Z -]*)?", re.IGNORECASE)
_RUN_TOGETHER = re.compile(r"[0-9]{8}T[0-9]{4,}|[+-]?[0-9]{4}([-/.])[0-9]{2}\1[0-9]{2}[0-9:.]{3,}", re.IGNORECASE)
"""Timestamps without what stands between their parts; Polars begins to read them, and fails."""
_NAMED_DATE = re.compile(r"-?epoch", re.IGNORECASE)
_TIME = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-5]?[0-9](?::[0-5]?[0-9](?:\.[0-9]*)?)?")


def folder_of(columns: Sequence[str], values: Sequence[object]) -> str:
    """`a=1/b=x/` for one combination of values. Raises InputError for a value that would not come back as it was."""
    for name in columns:
        if quote(name, safe="") != name:
            raise InputError(
                f"partition column {name!r}: some readers would see {quote(name, safe='')!r}; rename it to letters, digits, `_`"
            )
    return "".join(
        f"{quote(name, safe='')}={_encode(name, value)}/" for name, value in zip(columns, values, strict=True)
    )


def _encode(column: str, value: object) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | datetime.date):
        return quote(str(value), safe="")
    if not isinstance(value, str):
        raise InputError(f"partition column {column!r}: values of type {type(value).__name__} can't name a folder")
    if value in ("", ".", "..", NULL) or "\0" in value:
        raise InputError(
            f"partition column {column!r}: the value {value!r} can't name a folder; leave it out or replace it"
        )
    taken_for = _taken_for(value)
    if taken_for is not None:
        raise InputError(
            f"partition column {column!r}: readers would turn the text {value!r} into a {taken_for}; "
            f"partition by another column, or make it a {taken_for} or another text at the source"
        )
    encoded = quote(value, safe="")
    if len(encoded) > MAX_FOLDER_BYTES - len(quote(column, safe="")) - 1:
        raise InputError(f"partition column {column!r}: the value {value[:40]!r}… is too long for a folder name")
    return encoded


def _taken_for(value: str) -> str | None:
    """What a reader that guesses would take the text for, where that prints differently; blanks around it hide nothing from
    some of them."""
    guesses = {"number": _is_number, "date": _is_date, "time": _is_time, "boolean": _is_boolean}
    return next((kind for kind, is_kind in guesses.items() if is_kind(value)), None)


def _is_number(value: str) -> bool:
    if _WHOLE_NUMBER.fullmatch(value):
        return False
    try:
        float(value)  # digits of other scripts are, too: Polars fails on them
    except ValueError:
        return _OTHER_BASE.fullmatch(value.strip()) is not None
    return True


def _is_date(value: str) -> bool:
    text = value.strip()
    if _NAMED_DATE.fullmatch(text) or _RUN_TOGETHER.fullmatch(text):
        return True
    parts = _DATE.fullmatch(text)
    if parts is None or _prints_as(value):
        return False
    first, month, last = (int(parts[group]) for group in (1, 3, 4))
    return month <= 12 and (first <= 31 or last <= 31)


def _prints_as(value: str) -> bool:
    """Whether it is the date or time that every reader prints just so. With an offset it isn't: some convert it to UTC."""
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        return False
    return moment.tzinfo is None and value in (str(moment), str(moment.date()))


def _is_time(value: str) -> bool:
    return _TIME.fullmatch(value.strip()) is not None


def _is_boolean(value: str) -> bool:
    return value.lower() in ("true", "false") and not value.islower()
