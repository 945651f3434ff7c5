"""Resolving columns: which the text, the id and the kept columns are, and of what type, before anything is planned."""

import csv
import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.schema import Input, Rows
from pipeline.errors import ConfigError, InputError
from pipeline.source.columnar import missing_column
from pipeline.source.extract import template_fields
from pipeline.source.records import KINDS, Extraction, InputFile
from pipeline.source.streams import blocks, decompressed, lines
from pipeline.storage.inputs import open_input

SNIFF_ROWS = 1000
PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_decimal,
)


def inspect(files: Sequence[InputFile], source: Input, rows: Rows, partition_by: Sequence[str]) -> Extraction:
    """Look at the first file that has rows. Raises ConfigError for settings that don't fit the format, InputError naming
    file and column for a column that isn't there or has a type that can't be used."""
    first = next((file for file in files if file.size), files[0])
    text, template = source.text, source.template
    if first.format == "text":
        if text not in (None, "text") or template or source.id:
            raise ConfigError(
                "plain text has no columns but its line: leave out input.text, input.template and input.id"
            )
        text = "text"
    elif text is None and template is None:
        raise ConfigError("set input.text to the column that holds the text, or input.template to make it from several")
    types = _types(first)
    for name in template_fields(template) if template is not None else (text or "",):
        kind = _type_of(types, first, name)
        if template is None and not _is_string(kind):
            raise InputError(
                f"{first.uri}: column {name!r} is {kind}, not text; name a text column, or use input.template"
            )
    id_type = "string"
    if source.id is not None:
        kind = _type_of(types, first, source.id)
        if not (_is_string(kind) or pa.types.is_integer(kind)):
            raise InputError(f"{first.uri}: id column {source.id!r} is {kind}; ids are text or whole numbers")
        id_type = "int64" if pa.types.is_integer(kind) else "string"
    names = dict.fromkeys((*source.keep, *partition_by))
    keep = tuple((name, _keep_type(first, name, _type_of(types, first, name))) for name in names)
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


def _types(file: InputFile) -> dict[str, pa.DataType]:
    """Column types of a file; nested ones under dotted names too. CSV columns and folders are text."""
    found: dict[str, pa.DataType] = {name: pa.string() for name, _ in file.folders}
    try:
        with open_input(file.uri, file.version) as stream:
            if file.format == "parquet":
                found.update(_flat(pq.read_schema(stream)))
            elif file.format == "arrow":
                found.update(_flat(pa.ipc.open_file(pa.PythonFile(stream, mode="r")).schema))
            elif file.format == "text":
                found["text"] = pa.string()
            else:
                source = lines(blocks(decompressed(stream, file), file), 0, 64 << 20)
                found.update(_jsonl_types(source) if file.format == "jsonl" else _csv_types(source, file))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{file.uri}: not a readable {file.format} file: {error}") from error
    return found


def _flat(fields: Sequence[pa.Field], prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    for field in fields:
        yield prefix + field.name, field.type
        if pa.types.is_struct(field.type):
            yield from _flat(list(field.type), f"{prefix}{field.name}.")


def _jsonl_types(source: Iterator[tuple[int, int, bytes, bool]]) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for number, (_, _, data, _) in enumerate(source):
        if number >= SNIFF_ROWS:
            break
        try:
            row = json.loads(data)
        except ValueError:
            continue
        if isinstance(row, dict):
            _note_types(row, "", found)
    return found


def _note_types(row: dict[str, object], prefix: str, found: dict[str, pa.DataType]) -> None:
    for name, value in row.items():
        kind = _json_type(value)
        known = found.get(prefix + name)
        if known is None or pa.types.is_null(known) or (pa.types.is_int64(known) and pa.types.is_float64(kind)):
            found[prefix + name] = kind
        if isinstance(value, dict):
            _note_types(value, f"{prefix}{name}.", found)


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


def _csv_types(source: Iterator[tuple[int, int, bytes, bool]], file: InputFile) -> dict[str, pa.DataType]:
    header = next(source, None)
    if header is None:
        return {}
    delimiter = "\t" if file.format == "tsv" else ","
    return {
        name: pa.string() for name in next(csv.reader([header[2].decode("utf-8", "replace")], delimiter=delimiter), [])
    }


def _type_of(types: dict[str, pa.DataType], file: InputFile, name: str) -> pa.DataType:
    if name not in types:
        raise missing_column(file, name, list(types))
    return types[name]


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _keep_type(file: InputFile, name: str, kind: pa.DataType) -> pa.DataType:
    """The type a kept column has in the result: what warehouses load as it is."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_string(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    if pa.types.is_unsigned_integer(kind) or pa.types.is_integer(kind):
        return pa.int64() if kind.bit_width == 64 or pa.types.is_unsigned_integer(kind) else pa.int32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if any(check(kind) for check in PLAIN):
        return kind
    raise InputError(
        f"{file.uri}: column {name!r} is {kind}; only text, numbers, booleans, dates and timestamps can be kept"
    )
