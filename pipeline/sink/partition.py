"""`column=value` folders: encoding that every reader decodes to the value it was, or a refusal.

Readers guess types from the text of a folder name, so a string like "007" would come back as the number 7; such values
are refused. Anything but letters, digits, `-`, `_` and `.` is percent-encoded, so no value can leave the folder.
"""

import datetime
import math
from collections.abc import Sequence
from urllib.parse import quote

from pipeline.errors import InputError

NULL = "__HIVE_DEFAULT_PARTITION__"
MAX_FOLDER_BYTES = 255  # what file systems allow for one name


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
    if _read_as_number(value):
        raise InputError(
            f"partition column {column!r}: readers would turn the text {value!r} into a number; "
            "partition by another column, or make it a number at the source"
        )
    encoded = quote(value, safe="")
    if len(encoded) > MAX_FOLDER_BYTES - len(quote(column, safe="")) - 1:
        raise InputError(f"partition column {column!r}: the value {value[:40]!r}… is too long for a folder name")
    return encoded


def _read_as_number(value: str) -> bool:
    """Whether a reader that guesses would take the text for a number that prints differently."""
    try:
        number = float(value)
    except ValueError:
        return False
    return not math.isfinite(number) or str(int(number)) != value
