"""Extraction: a file's columns → rows of `unit_schema`, each either with a text or with the reason it has none."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.source.records import Extraction, InputFile, unit_schema
from pipeline.source.streams import one_line

Objects = npt.NDArray[np.object_]

REASONS = {
    "null": "the text is null",
    "null_id": "the id is null or empty",
    "invalid_utf8": "the row holds text that is not valid UTF-8",
    "lone_surrogate": "the row holds half of a surrogate pair, which UTF-8 can't express",
    "not_a_string": "the text is not a string",
    "malformed": "the line is not a JSON object",
    "oversize": "the text is longer than rows.max_text_bytes, or its line than four times that",
}
_BEYOND = re.compile(rb"[:,\[]\s*(-?\d[\d.]{,20}[eE]\+?\d{3,6})\s*[,}\]]")
"""A number of JSON with an exponent of three digits, which is what makes it one that no 64 bits hold."""
BATCH_ROWS, BATCH_BYTES = 2048, 4 << 20
"""What readers hand on at a time, about."""

OF_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types of dictionaries' values that Arrow can't decode, and what stands for them."""

NEXT = "next"
"""Column beside `unit_schema`: where the row after this one begins."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch as a reader found it: one array per needed path, aligned with positions.

    `kinds` and `raw` are set where the reader itself had to reject a row.
    """

    position: pa.Array  # int64
    next: pa.Array  # int64
    values: Mapping[str, pa.Array]
    kinds: pa.Array | None = None  # string
    raw: pa.Array | None = None  # binary


def template_fields(template: str) -> tuple[str, ...]:
    """Columns a template names, in order."""
    return tuple(name for _, name, _, _ in string.Formatter().parse(template) if name)


def text_paths(extraction: Extraction) -> tuple[str, ...]:
    """Columns that the text is taken from."""
    if extraction.template is not None:
        return template_fields(extraction.template)
    return ("text",) if extraction.text is None else (extraction.text,)


def needed_paths(extraction: Extraction) -> tuple[str, ...]:
    """Every column a reader must provide, each once."""
    own_id = (extraction.id,) if extraction.id is not None else ()
    return tuple(dict.fromkeys((*text_paths(extraction), *own_id, *(name for name, _ in extraction.keep))))


def extract(columns: Columns, file: InputFile, index: int, by_byte: bool, extraction: Extraction) -> pa.Table:
    """Rows of one batch of a file. `index`: the file's place in the segment; `by_byte`: positions are byte offsets.

    Raises InputError for a row whose kind is refused, and for a column of another type than the extraction's.
    """
    n = len(columns.position)
    rows = _Rows(columns, file, by_byte, _objects(columns.kinds, n), _objects(columns.raw, n))
    text = _text(rows, extraction)
    ids = _ids(rows, extraction)
    keep = [_cast(rows, name, kind) for name, kind in extraction.keep]
    for row in np.flatnonzero(rows.kinds != None):  # noqa: E711  (elementwise)
        _check_verdict(rows, int(row), extraction)
    rejected = pa.array(rows.kinds, pa.string())
    reasons = pa.array([None if kind is None else REASONS[kind] for kind in rows.kinds], pa.string())
    schema = unit_schema(extraction).append(pa.field(NEXT, pa.int64()))
    arrays = [
        pa.array(np.full(n, index, np.int32)),
        columns.position,
        ids,
        _where_none(text, rows.kinds),
        rejected,
        reasons,
        pa.array(rows.raw, pa.binary()),
        *keep,
        columns.next,
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _where_none(text: pa.Array, kinds: Objects) -> pa.Array:
    """The text of rows that are not set aside, in room of their size: Arrow's `if_else` keeps as much as all of them had, and a
    unit may gather hundreds of rows of 32 MiB that are oversize."""
    return text.take(pa.array(np.arange(len(kinds)), mask=kinds != None))  # noqa: E711  (elementwise)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A batch on its way, with what is wrong with each of its rows so far."""

    columns: Columns
    file: InputFile
    by_byte: bool
    kinds: Objects
    raw: Objects

    def place(self, row: int) -> str:
        """Where a row of the batch stands."""
        return f"{self.file.uri}, {'byte' if self.by_byte else 'row'} {self.columns.position[row].as_py():,}"

    def mark(self, mask: pa.Array, kind: str) -> None:
        """Give rows a kind that have none yet."""
        for row in np.flatnonzero(mask.to_numpy(zero_copy_only=False)):
            if self.kinds[row] is None:
                self.kinds[row] = kind

    def array(self, name: str) -> pa.Array:
        """A column, dictionaries decoded."""
        return decoded(self.columns.values[name])


def decoded(array: pa.Array) -> pa.Array:
    """Without a dictionary. Polars writes its categories as dictionaries of views."""
    if not pa.types.is_dictionary(array.type):
        return array
    plain = OF_VIEWS.get(array.type.value_type)
    if plain is not None:
        array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(plain))
    return array.dictionary_decode()


def _objects(array: pa.Array | None, n: int) -> Objects:
    return np.full(n, None, object) if array is None else array.to_numpy(zero_copy_only=False).copy()


def _text(rows: _Rows, extraction: Extraction) -> pa.Array:
    if extraction.template is None:
        [name] = text_paths(extraction)
        if not is_text(rows.array(name).type):
            raise _drifted(rows, name, "text")
        text = _valid_strings(rows, name)
    else:
        text = _filled(extraction.template, rows)
    rows.mark(pc.is_null(text), "null")
    long = pc.fill_null(pc.greater(pc.binary_length(text), extraction.max_text_bytes), False)
    for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)):
        rows.raw[row] = text[int(row)].as_py().encode()[:RAW_BYTES]
    rows.mark(long, "oversize")
    return text


RAW_BYTES = 64 << 10
"""How much of a row that can't be embedded is kept in quarantine."""


def _filled(template: str, rows: _Rows) -> pa.Array:
    """The template with its columns; null where one of them is. Numbers, booleans and times read as Arrow writes them."""
    parts: list[pa.Array | pa.Scalar] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        if literal:
            parts.append(pa.scalar(literal))
        if name:
            parts.append(_valid_strings(rows, name) if is_text(rows.array(name).type) else _written(rows, name))
    return pc.binary_join_element_wise(*parts, pa.scalar(""))


BEYOND = "<value out of range"
"""What Arrow writes, instead of an error, for a date or a time that has no spelling."""


def _written(rows: _Rows, name: str) -> pa.Array:
    array = rows.array(name)
    try:
        if pa.types.is_nested(array.type):
            raise pa.ArrowInvalid("another type")
        written = array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if pa.types.is_timestamp(array.type) and array.type.tz is not None:
            raise InputError(
                f"{rows.file.uri}: column {name!r} is {one_line(array.type)}, whose time zone is not one that is known here "
                f"({one_line(error)}); give it another at the source, or leave the column out of input.template"
            ) from error
        raise _drifted(rows, name, "text, numbers, booleans, dates or times") from error
    if pa.types.is_temporal(array.type):
        beyond = pc.fill_null(pc.starts_with(written, BEYOND), False).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(beyond)[:1]:
            raise InputError(
                f"{rows.place(int(row))}: column {name!r} ({array.type}) holds a {written[int(row)].as_py().strip('<>')}: no "
                "date or time that can be written; change it at the source, or leave the column out of input.template"
            )
    return written


def is_text(kind: pa.DataType) -> bool:
    """Types whose values are text, or should be: many writers leave Parquet columns of text as binary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(is_string(kind) or kind in (pa.binary(), pa.large_binary(), pa.binary_view()))


def is_string(kind: pa.DataType) -> bool:
    """Types of text; of null too, since a column without any value says nothing."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def _valid_strings(rows: _Rows, name: str) -> pa.Array:
    """The column as strings; rows that aren't UTF-8 become null and are marked."""
    try:
        data = rows.array(name).cast(pa.binary())
    except pa.ArrowInvalid as error:  # a lone row of a large column
        raise InputError(
            f"{rows.place(0)}: a value of column {name!r} is longer than 2 GiB, which no text here can be; cut it at the source"
        ) from error
    try:
        return data.cast(pa.string())
    except pa.ArrowInvalid:
        values = data.to_pylist()
        for row, value in enumerate(values):
            try:
                if value is not None:
                    value.decode()
            except UnicodeDecodeError:
                values[row] = None
                if rows.kinds[row] is None:
                    rows.kinds[row] = "invalid_utf8"
                    rows.raw[row] = value[:RAW_BYTES]
        return pa.array(values, pa.binary()).cast(pa.string())


def _ids(rows: _Rows, extraction: Extraction) -> pa.Array:
    if extraction.id is None:
        sign = "@" if rows.by_byte else "#"
        position = rows.columns.position.cast(pa.string())
        return pc.binary_join_element_wise(pa.scalar(rows.file.path), position, pa.scalar(sign))
    target = pa.int64() if extraction.id_type == "int64" else pa.string()
    ids = _cast(rows, extraction.id, target)
    rows.mark(pc.is_null(ids), "null_id")
    if extraction.id_type == "string":
        rows.mark(pc.fill_null(pc.equal(ids, ""), False), "null_id")
    return ids


def _cast(rows: _Rows, name: str, target: pa.DataType) -> pa.Array:
    """The column as the type it had when the job was resolved. Raises InputError rather than changing a value."""
    array = rows.array(name)
    if pa.types.is_string(target) and is_text(array.type):
        return _valid_strings(rows, name)
    if array.type == target:
        return array
    if not _widens(array.type, target):
        raise _drifted(rows, name, str(target))
    try:
        return array.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{rows.place(0)} or soon after: a value of column {name!r} ({one_line(array.type)}) does not fit {target}, the type "
            f"it has in the result ({one_line(error)}); change it at the source"
        ) from error


def _widens(kind: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of `kind` are values of `target` too; that each of them fits is for the cast to say."""
    if pa.types.is_integer(kind):
        return bool(pa.types.is_integer(target) or pa.types.is_floating(target))
    if pa.types.is_floating(kind):
        return bool(pa.types.is_floating(target)) and kind.bit_width <= target.bit_width
    if pa.types.is_timestamp(kind):
        return bool(pa.types.is_timestamp(target)) and (kind.tz is None) == (target.tz is None)
    if pa.types.is_date(kind):
        return bool(pa.types.is_date(target))
    return bool(pa.types.is_null(kind))


def _drifted(rows: _Rows, name: str, expected: str) -> InputError:
    return InputError(
        f"{rows.file.uri}: column {name!r} is {one_line(rows.array(name).type)}, but the job was resolved with {expected}; give "
        "the column one type in all files"
    )


def _check_verdict(rows: _Rows, row: int, extraction: Extraction) -> None:
    kind = rows.kinds[row]
    if dict(extraction.reject).get(kind) == "refuse":
        raise InputError(
            f"{rows.place(row)}: {REASONS[kind]}. Mend the source, or set rows.{kind} to quarantine to keep such rows aside"
            f"{_of_json(rows.raw[row]) if kind == 'malformed' else ''}"
        )


def _of_json(line: bytes) -> str:
    """What more there is to say of a line that isn't JSON here, though it may be elsewhere."""
    if line.strip() in (b"[", b"{", b"[{"):
        return "; one JSON document over many lines must be written as JSON lines first"
    number = _BEYOND.search(line)
    return f"; {number[1].decode()} is beyond the numbers of 64 bits" if number else ""


NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""How a null is spelled in a folder's name, by old convention."""


def folder_values(file: InputFile) -> dict[str, str | None]:
    """Columns that `key=value` folders of the path provide."""
    return {name: None if value == NULL_FOLDER else value for name, value in file.folders}


def folder_columns(file: InputFile, names: Sequence[str], n: int) -> dict[str, pa.Array]:
    """The same as arrays, those of them that are needed."""
    return {name: pa.array([value] * n, pa.string()) for name, value in folder_values(file).items() if name in names}
