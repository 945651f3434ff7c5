"""JSONL and plain text: one row per line."""

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.source.extract import (
    BATCH_BYTES,
    BATCH_ROWS,
    RAW_BYTES,
    Columns,
    folder_values,
    needed_paths,
    text_paths,
)
from pipeline.source.records import Extraction, InputFile, Piece
from pipeline.source.streams import MOST_BLANK, blocks, decompressed, lines, range_lines

MISSING = object()


def read_lines(stream: BinaryIO, piece: Piece, extraction: Extraction) -> Iterator[Columns]:
    """Batches of a line format: by byte offset where the file is not compressed, by row number otherwise."""
    file = piece.file
    longest = 4 * extraction.max_text_bytes
    by_byte = file.compression == "none"
    if by_byte:
        found = range_lines(stream, file, piece.start, piece.stop, longest)
    else:
        found = lines(blocks(decompressed(stream, file), file), 0, longest)
    batch = Batch(file, extraction)
    row = blank = 0
    for offset, following, data, whole in found:
        if file.format == "jsonl" and whole and not data.strip():
            blank += 1
            if by_byte:
                batch.pass_over(following)
            elif blank > MOST_BLANK:
                raise InputError(
                    f"{file.uri}, row {row:,}: more than {MOST_BLANK:,} blank lines in a row; remove them, or unpack the file"
                )
            continue
        place = (offset, following) if by_byte else (row, row + 1)
        row, blank = row + 1, 0
        batch.add(place, data, whole)
        if batch.full():
            yield batch.columns()
            batch = Batch(file, extraction)
    if batch.positions:
        yield batch.columns()


class Batch:
    """Lines on their way to columns."""

    def __init__(self, file: InputFile, extraction: Extraction) -> None:
        self.file, self.extraction = file, extraction
        self.names = needed_paths(extraction)
        self.folders = folder_values(file)
        self.id_type = pa.int64() if extraction.id_type == "int64" else pa.string()
        self.text_names = set(text_paths(extraction))
        self.positions: list[int] = []
        self.next: list[int] = []
        self.kinds: list[str | None] = []
        self.raw: list[bytes | None] = []
        self.values: dict[str, list[Any]] = {name: [] for name in self.names}
        self.bytes = 0

    def pass_over(self, following: int) -> None:
        """A blank line: the row before it reaches beyond it."""
        if self.next:
            self.next[-1] = following

    def add(self, place: tuple[int, int], data: bytes, whole: bool) -> None:
        """One line."""
        self.positions.append(place[0])
        self.next.append(place[1])
        self.bytes += len(data)
        values, kind = self._parse(data) if whole else ({}, "oversize")
        self.kinds.append(kind)
        self.raw.append(data[:RAW_BYTES] if kind else None)
        for name in self.names:
            wanted = kind is None or (name == self.extraction.id and _fits(values.get(name), self.id_type))
            self.values[name].append(values.get(name) if wanted else None)

    def _parse(self, data: bytes) -> tuple[dict[str, Any], str | None]:
        """Values by needed name, and the kind of a row that can't be embedded."""
        try:
            row = {"text": data.decode()} if self.file.format == "text" else parse_object(data)
        except UnicodeDecodeError:
            whole = self.file.format == "text" or parse_object(data.decode(errors="replace").encode()) is not None
            return {}, "invalid_utf8" if whole else "malformed"
        if row is None:
            return {}, "malformed"
        values = {name: _reach(row, name) for name in self.names}
        values = {name: self.folders.get(name) if value is MISSING else value for name, value in values.items()}
        return values, self._kind(values)

    def _kind(self, values: dict[str, Any]) -> str | None:
        for name in self.text_names:
            value = values[name]
            if isinstance(value, dict | list) or (
                self.extraction.template is None and not isinstance(value, str | None)
            ):
                return "not_a_string"
        if any(isinstance(value, str) and _has_surrogate(value) for value in values.values()):
            return "lone_surrogate"
        return None

    def full(self) -> bool:
        """Whether it is time to hand the batch on."""
        return len(self.positions) >= BATCH_ROWS or self.bytes >= BATCH_BYTES

    def columns(self) -> Columns:
        """The batch. Raises InputError for a value of another type than its column has."""
        kept = dict(self.extraction.keep)
        arrays = {}
        for name, values in self.values.items():
            if name in self.text_names and name not in kept and name != self.extraction.id:
                arrays[name] = _texts(values)
            else:
                arrays[name] = self._typed(name, values, kept.get(name, self.id_type))
        return Columns(
            pa.array(self.positions, pa.int64()),
            pa.array(self.next, pa.int64()),
            arrays,
            pa.array(self.kinds, pa.string()),
            pa.array(self.raw, pa.binary()),
        )

    def _typed(self, name: str, values: list[Any], target: pa.DataType) -> pa.Array:
        for position, value in zip(self.positions, values, strict=True):
            if value is not None and not _fits(value, target):
                place = f"byte {position:,}" if self.file.compression == "none" else f"row {position:,}"
                raise InputError(
                    f"{self.file.uri}, {place}: {name!r} is {json.dumps(value)[:60]}, but the column is {target} in the rows "
                    "the job was resolved with; give it one type in all rows"
                )
        return pa.array(values, target)


def parse_object(data: bytes) -> dict[str, Any] | None:
    """A line as a JSON object; None where it isn't one, or holds a number that no float does. Raises UnicodeDecodeError for
    bytes that aren't UTF-8."""
    text = data.decode()
    try:
        row = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _reach(row: dict[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def _fits(value: object, target: pa.DataType) -> bool:
    if pa.types.is_boolean(target):
        return isinstance(value, bool)
    if pa.types.is_integer(target):
        limit = 1 << (target.bit_width - 1)
        return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
    if pa.types.is_float64(target):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1 << 53
        return whole or isinstance(value, float)
    return pa.types.is_string(target) and isinstance(value, str) and not _has_surrogate(value)


def _texts(values: list[Any]) -> pa.Array:
    """Strings, and whatever else a template takes: written as Arrow does, so that every format gives the same text."""
    floats = pa.array([value for value in values if isinstance(value, float)], pa.float64()).cast(pa.string())
    written = iter(floats.to_pylist())
    return pa.array([next(written) if isinstance(value, float) else _plain(value) for value in values], pa.string())


def _plain(value: object) -> str | None:
    if isinstance(value, str | None):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_surrogate(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def _finite(written: str) -> float:
    """A number as its row has it. NaN and Infinity are no JSON, and 1e999 would be kept as an infinity that no row holds."""
    value = float(written)
    if not isfinite(value):
        raise ValueError(f"{written[:20]} is no number of 64 bits")
    return value
