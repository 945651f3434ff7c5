"""Resolving columns: which the text, the id and the kept columns are, and of what type, before anything is planned."""

import traceback
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.schema import Input, Rows
from pipeline.errors import ConfigError, InputError
from pipeline.source.columnar import (
    UNREADABLE,
    arrow_schema,
    check_stream_end,
    check_unique,
    is_arrow_stream,
    missing_column,
    open_arrow,
)
from pipeline.source.delimited import csv_rows
from pipeline.source.extract import is_string, is_text, template_fields
from pipeline.source.records import KINDS, Extraction, InputFile
from pipeline.source.streams import MOST_BLANK, blocks, check_not_empty, decompressed, lines, one_line
from pipeline.source.text_lines import parse_object
from pipeline.storage.inputs import open_input

SNIFF_ROWS, SNIFF_BYTES = 1000, 64 << 20
NAME_CHARS, MOST_NAMES = 1000, 100_000
"""Nested columns are known by the names of all that they lie in, so that a few long names can stand for terabytes of them. What
nobody asks for is noted only to say what there is instead of a column that is missing."""
TRIED = 10
"""Files looked at before the config is taken to be wrong."""
PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_timestamp,
    pa.types.is_decimal,
)

Types = list[tuple[str, pa.DataType]]
"""Columns as a file has them, nested ones under dotted names too; a name can be there twice."""


Fits = Callable[[Extraction], bool]
"""Whether columns are those that were published before."""


def inspect(
    files: Sequence[InputFile], source: Input, rows: Rows, partition_by: Sequence[str], fits: Fits = lambda _: True
) -> Extraction:
    """Look at the first file that has rows and the columns that are asked for, and where one of the first few `fits`, at
    that. A column that is null in all its rows has the type it has in the next of these. One that can't be read, lacks a
    column or has it in another type is told of by its reader, so that the others' work goes on; but where none of the first
    few will do, it is the config.

    Raises ConfigError for settings that don't fit the format, InputError naming file and column for a column that isn't
    there or has a type that can't be used.
    """
    refused: list[InputError] = []
    usable: list[tuple[InputFile, Types]] = []
    texts = frozenset(template_fields(source.template) if source.template else filter(None, (source.text,)))
    typed = frozenset(filter(None, (source.id, *source.keep, *partition_by)))

    def resolved(file: InputFile, found: Types) -> Extraction:
        return _extraction(file, found, source, rows, partition_by)

    look = _Look(source.csv_delimiter, 4 * rows.max_text_bytes, texts, texts | typed)
    for file, found in _with_rows(files, look, refused):
        try:
            resolved(file, found)
        except InputError as error:
            refused.append(_light(error))
        else:
            usable.append((file, found))
        filled = [(each, _filled(types, usable)) for each, types in usable]
        for whole in (each for each in filled if not _has_null(each[1], typed)):
            if fits(extraction := resolved(*whole)):
                return extraction
        if len(refused) + len(usable) >= TRIED:
            break
    if usable:
        candidates = [resolved(*each) for each in (*filled, *usable)]
        return next(filter(fits, candidates), candidates[0])
    if refused:
        raise refused[0]
    for file in files:
        check_not_empty(file)
    raise InputError(f"{files[0].uri}: there is no row in it, nor in any other input file")


def _light(error: InputError) -> InputError:
    """The error without what the functions held that it came through: rows of hundreds of MiB, for each error that is kept."""
    inner: BaseException | None = error
    while inner is not None:
        traceback.clear_frames(inner.__traceback__)
        inner = inner.__cause__ or inner.__context__
    return error


def _filled(found: Types, others: Sequence[tuple[InputFile, Types]]) -> Types:
    """Columns without any value say nothing of their type; the first other file that has values does."""
    known: dict[str, pa.DataType] = {}
    for _, types in others:
        for name, kind in types:
            if not _is_null(kind):
                known.setdefault(name, kind)
    return [(name, known.get(name, kind) if _is_null(kind) else kind) for name, kind in found]


def _has_null(types: Types, names: Set[str]) -> bool:
    return any(name in names and _is_null(kind) for name, kind in types)


def _is_null(kind: pa.DataType) -> bool:
    return bool(pa.types.is_null(_decoded(kind)))


def _extraction(first: InputFile, found: Types, source: Input, rows: Rows, partition_by: Sequence[str]) -> Extraction:
    text, template = source.text, source.template
    types = _by_name(first, found)
    if first.format == "text":
        if text not in (None, "text") or template or source.id is not None:
            raise ConfigError(
                "plain text has no columns but its line: leave out input.text, input.template and input.id"
            )
        text = "text"
    elif text is None and template is None:
        raise ConfigError("set input.text to the column that holds the text, or input.template to make it from several")
    for name in template_fields(template) if template is not None else (text or "",):
        kind = _type_of(types, first, name, found)
        if template is None and not is_text(kind):
            raise InputError(
                f"{first.uri}: column {name!r} is {one_line(kind)}, not text; name a text column, or use input.template"
            )
        if pa.types.is_nested(kind):
            raise InputError(
                f"{first.uri}: column {name!r} is {one_line(kind)}; a template takes text, numbers, dates and the like"
            )
    id_type = "string"
    if source.id is not None:
        kind = _decoded(_type_of(types, first, source.id, found))
        if not (is_text(kind) or pa.types.is_integer(kind)):
            raise InputError(f"{first.uri}: id column {source.id!r} is {one_line(kind)}; ids are text or whole numbers")
        id_type = "int64" if pa.types.is_integer(kind) else "string"
    names = dict.fromkeys((*source.keep, *partition_by))
    keep = tuple((name, _keep_type(first, name, _type_of(types, first, name, found))) for name in names)
    verdicts = rows.model_dump(include=set(KINDS))
    return Extraction(
        text=text,
        template=template,
        id=source.id,
        id_type=id_type,  # type: ignore[arg-type]
        keep=keep,
        csv_delimiter=source.csv_delimiter,
        max_text_bytes=rows.max_text_bytes,
        reject=tuple(sorted(verdicts.items())),
    )


@dataclass(frozen=True)
class _Look:
    """How to look at a file's columns."""

    csv_delimiter: str
    longest: int  # bytes of a line
    texts: frozenset[str]  # columns that the text is made of
    asked: frozenset[str]  # and all others that are asked for

    @cached_property
    def name_chars(self) -> int:
        """Beyond this a column's name is none that is of use."""
        return max(NAME_CHARS, *map(len, self.asked), 0)

    @cached_property
    def needed(self) -> frozenset[str]:
        """Columns that are asked for, and those that they lie in."""
        parts = (name.split(".") for name in self.asked)
        return frozenset(".".join(path[:end]) for path in parts for end in range(1, len(path) + 1))


def _with_rows(files: Sequence[InputFile], look: _Look, refused: list[InputError]) -> Iterator[tuple[InputFile, Types]]:
    """Files with rows and their columns. An empty file often has no columns, or columns of no type. What can't be read
    goes to `refused`."""
    for file in files:
        if not file.size:
            continue
        try:
            types, has_rows = _types(file, look)
        except InputError as error:
            refused.append(_light(error))
            continue
        if has_rows:
            yield file, types


def _types(file: InputFile, look: _Look) -> tuple[Types, bool]:
    """Columns of a file, and whether it has rows. CSV columns are text."""
    try:
        with open_input(file.uri, file.version) as stream:
            if file.format == "parquet":
                parquet = pq.ParquetFile(stream)
                return _flat(parquet.schema_arrow, look), parquet.metadata.num_rows != 0
            if file.format == "arrow":
                return _flat(arrow_schema(stream), look), _arrow_has_rows(stream, file)
            if file.format in ("csv", "tsv"):
                rows = csv_rows(stream, file, look.csv_delimiter, look.longest)
                types = [(name, pa.string()) for name in next(rows, ())]
                return types, next(rows, None) is not None
            plain = blocks(decompressed(stream, file), file)
            if file.format == "text":
                return [("text", pa.string())], next(plain, None) is not None
            return _jsonl_types(lines(plain, 0, look.longest), file, look)
    except UNREADABLE as error:
        raise InputError(
            f"{file.uri}: not a readable {file.format} file: {one_line(error)}; restore or replace the file"
        ) from error


def _arrow_has_rows(stream: BinaryIO, file: InputFile) -> bool:
    streamed = is_arrow_stream(stream)
    reader = open_arrow(stream, frozenset())
    batches = reader if streamed else map(reader.get_batch, range(reader.num_record_batches))
    if any(batch.num_rows for batch in batches):
        return True
    if streamed:
        check_stream_end(stream, file, 0)
    return False


def _flat(schema: pa.Schema, look: _Look) -> Types:
    """Columns; those nested in others after them, since a name with a dot of its own goes first."""
    found: Types = []
    waiting: list[tuple[str, Sequence[pa.Field]]] = [("", schema)]
    while waiting:
        prefix, fields = waiting.pop()
        for field in fields:
            path = prefix + field.name
            if not prefix or path in look.needed or (len(found) < MOST_NAMES and len(path) <= look.name_chars):
                found.append((path, field.type))
                if pa.types.is_struct(field.type):
                    waiting.append((f"{path}.", list(field.type)))
    return found


def _jsonl_types(source: Iterator[tuple[int, int, bytes, bool]], file: InputFile, look: _Look) -> tuple[Types, bool]:
    found: dict[str, pa.DataType] = {}
    seen = objects = blank = 0
    for _, end, data, _ in source:
        if data.strip():
            seen += 1
            try:
                row = parse_object(data)
            except UnicodeDecodeError:
                row = None
            if row is not None:
                objects += 1
                _note_types(row, found, look)
        else:
            blank += 1
        if seen >= SNIFF_ROWS or blank >= MOST_BLANK or end >= SNIFF_BYTES:
            break
    if seen and not objects:
        raise InputError(
            f"{file.uri}: none of its first {seen:,} lines is a JSON object; write one object a line (JSON lines)"
        )
    return list(found.items()), seen > 0


def _note_types(row: dict[str, object], found: dict[str, pa.DataType], look: _Look) -> None:
    """Types of a row's values by name. The first one seen counts, but a float makes whole numbers floats, and a column
    that the text is taken from is text if it ever is: its other values are for the reader to set aside."""
    waiting: list[tuple[str, dict[str, object]]] = [("", row)]
    while waiting:
        prefix, values = waiting.pop()
        for name, value in values.items():
            if len(prefix) + len(name) > look.name_chars:
                continue
            path = prefix + name
            kind, known = _json_type(value), found.get(path)
            if known is None and len(found) >= MOST_NAMES and path not in look.needed:
                continue
            if (
                known is None
                or pa.types.is_null(known)
                or (pa.types.is_int64(known) and pa.types.is_float64(kind))
                or (path in look.texts and pa.types.is_string(kind))
            ):
                found[path] = kind
            if isinstance(value, dict):
                waiting.append((f"{path}.", value))


def _json_type(value: object) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    return pa.null() if value is None else pa.struct([])


def _by_name(file: InputFile, found: Types) -> dict[str, pa.DataType]:
    """Types by name. What the file has goes before the folders of its path, and a column before one nested in another."""
    types: dict[str, pa.DataType] = {}
    for name, kind in (*found, *((name, pa.string()) for name, _ in file.folders)):
        types.setdefault(name, kind)
    return types


def _type_of(types: dict[str, pa.DataType], file: InputFile, name: str, found: Types) -> pa.DataType:
    if name not in types:
        raise missing_column(file, name, list(types))
    if file.format != "jsonl":
        check_unique(file, name.split(".")[0], [column for column, _ in found])
    return types[name]


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _keep_type(file: InputFile, name: str, kind: pa.DataType) -> pa.DataType:
    """The type a kept column has in the result: what warehouses load as it is."""
    kind = _decoded(kind)
    if is_string(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    if pa.types.is_unsigned_integer(kind) or pa.types.is_integer(kind):
        return pa.int64() if kind.bit_width == 64 or pa.types.is_unsigned_integer(kind) else pa.int32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_date(kind):
        return pa.date32()  # Parquet has no other
    if any(check(kind) for check in PLAIN):
        return kind
    raise InputError(
        f"{file.uri}: column {name!r} is {one_line(kind)}; only text, numbers, booleans, dates and timestamps can be kept"
    )
