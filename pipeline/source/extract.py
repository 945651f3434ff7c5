"""Extraction: a file's columns → rows of `unit_schema`, each either with a text or with the reason it has none."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.source.records import Extraction, InputFile, unit_schema

Objects = npt.NDArray[np.object_]

REASONS = {
    "null": "the text is null",
    "null_id": "the id is null",
    "invalid_utf8": "the text is not valid UTF-8",
    "lone_surrogate": "the text holds half of a surrogate pair, which UTF-8 can't express",
    "not_a_string": "the text is not a string",
    "malformed": "the line is not a JSON object",
    "oversize": "the text is longer than rows.max_text_bytes",
}
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


def needed_paths(extraction: Extraction) -> tuple[str, ...]:
    """Every column a reader must provide, each once."""
    text = template_fields(extraction.template) if extraction.template is not None else (extraction.text or "text",)
    own_id = (extraction.id,) if extraction.id else ()
    return tuple(dict.fromkeys((*text, *own_id, *(name for name, _ in extraction.keep))))


def extract(columns: Columns, file: InputFile, index: int, by_byte: bool, extraction: Extraction) -> pa.Table:
    """Rows of one batch of a file. `index`: the file's place in the segment; `by_byte`: positions are byte offsets.

    Raises InputError for a row whose kind is refused, and for a column of another type than the extraction's.
    """
    n = len(columns.position)
    kinds = np.full(n, None, object) if columns.kinds is None else columns.kinds.to_numpy(zero_copy_only=False).copy()
    raw = np.full(n, None, object) if columns.raw is None else columns.raw.to_numpy(zero_copy_only=False).copy()
    text = _text(columns, extraction, kinds, raw)
    ids = _ids(columns, file, by_byte, extraction, kinds)
    for row in np.flatnonzero(kinds != None):  # noqa: E711  (elementwise)
        _check_verdict(str(kinds[row]), file, columns.position[int(row)].as_py(), by_byte, extraction)
    rejected = pa.array(kinds, pa.string())
    reasons = pa.array([None if kind is None else REASONS[kind] for kind in kinds], pa.string())
    keep = [_cast(columns.values[name], kind, name, file) for name, kind in extraction.keep]
    schema = unit_schema(extraction).append(pa.field(NEXT, pa.int64()))
    arrays = [
        pa.array(np.full(n, index, np.int32)),
        columns.position,
        ids,
        pc.if_else(pc.is_valid(rejected), pa.scalar(None, pa.string()), text),
        rejected,
        reasons,
        pa.array(raw, pa.binary()),
        *keep,
        columns.next,
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _text(columns: Columns, extraction: Extraction, kinds: Objects, raw: Objects) -> pa.Array:
    if extraction.template is None:
        text = _valid_strings(columns.values[extraction.text or "text"], kinds, raw)
    else:
        text = _filled(extraction.template, columns, kinds, raw)
    _mark(kinds, pc.is_null(text), "null")
    lengths = pc.fill_null(pc.binary_length(text), 0)
    long = pc.greater(lengths, extraction.max_text_bytes)
    for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)):
        raw[row] = text[int(row)].as_py().encode()[:RAW_BYTES]
    _mark(kinds, long, "oversize")
    return text


RAW_BYTES = 64 << 10
"""How much of a row too long to embed is kept in quarantine."""


def _filled(template: str, columns: Columns, kinds: Objects, raw: Objects) -> pa.Array:
    parts: list[pa.Array | pa.Scalar] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        if literal:
            parts.append(pa.scalar(literal))
        if name:
            array = columns.values[name]
            parts.append(_valid_strings(array, kinds, raw) if _is_text(array.type) else array.cast(pa.string()))
    return pc.binary_join_element_wise(*parts, pa.scalar(""))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)
    )  # fmt: skip


def _valid_strings(array: pa.Array, kinds: Objects, raw: Objects) -> pa.Array:
    """The array as strings; rows that aren't UTF-8 become null and are marked."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    data = array.cast(pa.binary())
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
                if kinds[row] is None:
                    kinds[row] = "invalid_utf8"
                    raw[row] = value
        return pa.array(values, pa.binary()).cast(pa.string())


def _ids(columns: Columns, file: InputFile, by_byte: bool, extraction: Extraction, kinds: Objects) -> pa.Array:
    if extraction.id is None:
        sign = "@" if by_byte else "#"
        return pc.binary_join_element_wise(pa.scalar(file.path), columns.position.cast(pa.string()), pa.scalar(sign))
    array = columns.values[extraction.id]
    target = pa.int64() if extraction.id_type == "int64" else pa.string()
    ids = _cast(array, target, extraction.id, file)
    _mark(kinds, pc.is_null(ids), "null_id")
    return ids


def _cast(array: pa.Array, target: pa.DataType, name: str, file: InputFile) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type == target:
        return array
    widening = (
        pa.types.is_null(array.type)
        or (_is_text(array.type) and pa.types.is_string(target))
        or (pa.types.is_integer(array.type) and pa.types.is_integer(target))
        or (pa.types.is_integer(array.type) and pa.types.is_floating(target))
        or (pa.types.is_floating(array.type) and pa.types.is_floating(target))
        or (pa.types.is_temporal(array.type) and array.type.id == target.id)
    )
    try:
        if not widening:
            raise pa.ArrowInvalid("another type")
        return array.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{file.uri}: column {name!r} is {array.type}, but {target} in the file the job was resolved with ({error}); "
            "give the column one type in all files"
        ) from error


def _mark(kinds: Objects, mask: pa.Array, kind: str) -> None:
    for row in np.flatnonzero(np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)):
        if kinds[row] is None:
            kinds[row] = kind


def _check_verdict(kind: str, file: InputFile, position: int, by_byte: bool, extraction: Extraction) -> None:
    if dict(extraction.reject).get(kind) == "refuse":
        place = f"byte {position:,}" if by_byte else f"row {position:,}"
        raise InputError(
            f"{file.uri}, {place}: {REASONS[kind]}. Mend the source, or set rows.{kind} to quarantine to keep such rows aside"
        )


def folder_columns(file: InputFile, names: Sequence[str], n: int) -> dict[str, pa.Array]:
    """Columns that `key=value` folders of the path provide."""
    return {name: pa.array([value] * n, pa.string()) for name, value in file.folders if name in names}
