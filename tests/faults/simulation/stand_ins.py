"""Small stand-ins for what units carry through the program: rows are names, files are JSON, a vector is nothing.

The steps of a unit run as they are; only what they read, encode and write is made small.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from faults.simulation.source import is_bad, number, torn_row, units_of
from msgspec.json import decode

from pipeline.errors import InputError, SourceChanged
from pipeline.sink.assemble import DataFile, _fetch
from pipeline.sink.part import Part
from pipeline.sink.records import DataFilePlan, FolderRows
from pipeline.source.records import Segment, SourceUnit, Span
from pipeline.storage.store import Store

Look = Callable[[str], str | None]
NO_VECTORS = np.zeros((0, 1), np.float32)


class Rows:
    """Quacks like a table of rows."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.num_rows = len(self.names)

    def __getitem__(self, column: str) -> Any:
        return _Column(self.names)


class _Column:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.nbytes = 100 * len(names)

    def value_counts(self) -> Any:
        counts = [{"values": "null", "counts": len(self.names)}] if self.names else []
        return SimpleNamespace(to_pylist=lambda: counts)

    def to_numpy(self) -> Any:
        return np.zeros(0)


class Prepared:
    """A unit's rows, parted into those to embed and those to keep aside."""

    token_ids = ()

    def __init__(self, rows: Sequence[str], draw: Callable[[], float]) -> None:
        bad = [row for row in rows if is_bad(row) and draw() < 0.8]  # some are accepted when tried again
        self.rows = Rows([row for row in rows if row not in bad])
        self.rejected = Rows(bad)
        self.offsets = (0,) * (self.rows.num_rows + 1)


def read_segment(segment: Segment, look: Look, counts: Counter[str]) -> Iterator[SourceUnit]:
    """The units of a segment as long as its files are the versions that were planned, looked at before and after."""
    seen: dict[str, str] = {}
    units = units_of(segment)
    for k, unit in enumerate(units):
        rows: list[str] = []
        for piece, names in unit or [(segment.pieces[0], ())]:
            uri, planned = piece.file.uri, piece.file.version
            if uri not in seen:
                seen[uri] = check_version(uri, planned, look)
            if torn_row(uri, planned) in names:
                alone = len(segment.pieces) == 1
                counts[f"unreadable.{'later' if k else 'first'} unit, {'alone' if alone else 'in a group'}"] += 1
                raise InputError(f"{uri}: can't be read to its end", uri)
            rows += [
                name.replace(f"@{planned}/", f"@{seen[uri]}/") for name in names
            ]  # what is there, not what was planned
        eof = k == len(units) - 1
        for piece in segment.pieces if eof else ():
            check_version(piece.file.uri, piece.file.version, look)
        spans = tuple(Span(p.file.uri, p.file.version, p.measure, p.start, p.stop) for p, _ in unit)
        yield SourceUnit(k, eof, spans or _span(segment), Rows(rows))  # type: ignore[arg-type]


def _span(segment: Segment) -> tuple[Span, ...]:
    piece = segment.pieces[0]
    return (Span(piece.file.uri, piece.file.version, piece.measure, piece.start, piece.stop),)


def check_version(uri: str, planned: str, look: Look) -> str:
    """The version a file has; raises SourceChanged where it isn't the planned one."""
    found = look(uri)
    if found != planned:
        raise SourceChanged(f"{uri} is gone or has changed")
    return found


def build_part(rows: Rows, name: str, partitioned: bool) -> Part | None:
    """A line of JSON for each folder. Each row says from which attempt it is: two attempts' vectors may differ in a bit."""
    if not rows.num_rows:
        return None
    by_folder: dict[str, list[str]] = {}
    for row in rows.names:
        by_folder.setdefault(f"p={number(row) % 2}/" if partitioned else "", []).append(f"{row}!{name[:12]}")
    folders, part = [], b""
    for folder, of_folder in sorted(by_folder.items()):
        data = _file(of_folder, name)
        folders.append(FolderRows(folder, len(of_folder), len(part), len(data), hashlib.sha256(data).hexdigest()))
        part += data
    return Part(part, hashlib.sha256(part).hexdigest(), rows.num_rows, tuple(folders))


def build_quarantine(rejected: Rows, name: str) -> Part | None:
    """The rows kept aside, as JSON."""
    if not rejected.num_rows:
        return None
    data = _file(rejected.names, name)
    return Part(data, hashlib.sha256(data).hexdigest(), rejected.num_rows, ())


def digest(prepared: Prepared) -> str:
    """Of the rows that are embedded."""
    return ",".join(prepared.rows.names)


def write_data_file(store: Store, plan: DataFilePlan, hand: str) -> DataFile:
    """The slices of `plan` one after the other, in the same bytes by the same hand; fetched by the real one's own way."""
    rows: list[str] = []
    for part in plan.slices:
        rows += rows_of(_fetch(store, part))[part.first_row : part.first_row + part.rows]
    data = _file(rows, hand)
    return DataFile(data, hashlib.sha256(data).hexdigest(), len(rows))


def rows_of(data: bytes) -> list[str]:
    """The rows of a data file or of a part."""
    return [row for line in data.splitlines() for row in decode(line)["rows"]]


def _file(rows: Sequence[str], name: str) -> bytes:
    return json.dumps({"by": name, "rows": rows}).encode() + b"\n"
