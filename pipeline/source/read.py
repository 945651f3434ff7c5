"""Reading a segment: its pieces one after the other, cut into units by the caps of the policy.

Memory: about two units, whatever the size of the file.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.source.columnar import read_columnar
from pipeline.source.delimited import read_delimited
from pipeline.source.extract import NEXT, Columns, extract
from pipeline.source.records import (
    KEEP_PREFIX,
    Extraction,
    Measure,
    Piece,
    Segment,
    SourceUnit,
    Span,
    UnitPolicy,
    unit_schema,
)
from pipeline.source.streams import one_line
from pipeline.source.text_lines import read_lines
from pipeline.storage.inputs import check_unchanged, open_input

READERS = {
    "parquet": read_columnar,
    "arrow": read_columnar,
    "jsonl": read_lines,
    "text": read_lines,
    "csv": read_delimited,
    "tsv": read_delimited,
}


def read_segment(segment: Segment, extraction: Extraction, policy: UnitPolicy, max_rows: int) -> Iterator[SourceUnit]:
    """The units of a segment, in order; the last one says `eof`. A segment without rows is one unit without rows.

    Cuts depend on the rows alone. Raises InputError with file and place, SourceChanged when a file isn't the version
    it was planned as, TransientStorageError when the store stays away.
    """
    cutter = _Cutter(segment, unit_schema(extraction), min(policy.rows, max_rows), policy.text_bytes)
    for index, piece in enumerate(segment.pieces):
        try:
            yield from _read_piece(piece, index, extraction, cutter)
        except InputError as error:
            error.uri = piece.file.uri  # one of many, perhaps
            raise
    yield cutter.last()


def _read_piece(piece: Piece, index: int, extraction: Extraction, cutter: "_Cutter") -> Iterator[SourceUnit]:
    """The units that become full by a piece's rows."""
    with open_input(piece.file.uri, piece.file.version) as stream:
        for columns in READERS[piece.file.format](stream, piece, extraction):
            rows = _extract(columns, piece, index, extraction)
            for unit in cutter.take(rows):
                check_unchanged(piece.file.uri, piece.file.version)  # it may be committed before the file is closed
                yield unit


def _extract(columns: Columns, piece: Piece, index: int, extraction: Extraction) -> pa.Table:
    """As `extract` does. Arrow has more types than it has ways to compute with them: that is the file's to mend, no bug."""
    try:
        return extract(columns, piece.file, index, _measure(piece) == "bytes", extraction)
    except pa.ArrowException as error:
        if isinstance(error, MemoryError):
            raise
        types = ", ".join(f"{name} ({one_line(values.type)})" for name, values in columns.values.items())
        raise InputError(
            f"{piece.file.uri}, from {_measure(piece)[:-1]} {columns.position[0].as_py():,} on: its columns {types} can't be "
            f"used: {one_line(error)}; write them with plainer types"
        ) from error


def _measure(piece: Piece) -> Measure:
    """How rows of a piece are counted: by byte only where a reader may start in the middle."""
    file = piece.file
    return "bytes" if file.format in ("jsonl", "text") and file.compression == "none" else "rows"


class _Cutter:
    """Gathers rows until a cap would be passed."""

    def __init__(self, segment: Segment, schema: pa.Schema, max_rows: int, max_bytes: int) -> None:
        self.pieces, self.schema, self.max_rows, self.max_bytes = segment.pieces, schema, max_rows, max_bytes
        self.tables: list[pa.Table] = []
        self.rows = self.bytes = self.k = 0

    def take(self, table: pa.Table) -> Iterator[SourceUnit]:
        """Add rows; gives the units that became full by it."""
        while table.num_rows:
            fit = self._fit(table)
            if fit:
                self.tables.append(table.slice(0, fit))
                self.rows += fit
                self.bytes += int(_sizes(self.tables[-1]).sum())
                table = table.slice(fit)
            if table.num_rows:
                yield self._cut(eof=False)

    def last(self) -> SourceUnit:
        """What is left, as the unit that ends the segment."""
        return self._cut(eof=True)

    def _fit(self, table: pa.Table) -> int:
        room = int(np.searchsorted(np.cumsum(_sizes(table)), self.max_bytes - self.bytes, side="right"))
        fit = min(room, self.max_rows - self.rows, table.num_rows)
        return int(max(fit, 1) if self.rows == 0 else fit)  # one row bigger than the cap is a unit of its own

    def _cut(self, eof: bool) -> SourceUnit:
        empty = pa.Table.from_batches([], self.schema.append(pa.field(NEXT, pa.int64())))
        table = pa.concat_tables(self.tables) if self.tables else empty
        unit = SourceUnit(self.k, eof, self._spans(table, eof), table.drop_columns([NEXT]).cast(self.schema))
        self.tables, self.rows, self.bytes, self.k = [], 0, 0, self.k + 1
        return unit

    def _spans(self, table: pa.Table, eof: bool) -> tuple[Span, ...]:
        """First and last place of every piece from that of the first row to that of the last one; a piece without rows
        between them stands with an empty span, so that the n-th span belongs to the n-th piece from the first."""
        files, position, following = (table[name].to_numpy() for name in ("file", "position", NEXT))
        if not len(files):
            return tuple(self._span(0, self.pieces[0].start, self.pieces[0].start) for _ in range(int(eof)))
        spans = []
        for index in range(files[0], files[-1] + 1):
            mine = np.flatnonzero(files == index)
            start = self.pieces[index].start
            places = (int(position[mine[0]]), int(following[mine[-1]])) if len(mine) else (start, start)
            spans.append(self._span(index, *places))
        return tuple(spans)

    def _span(self, index: int, start: int, stop: int) -> Span:
        file = self.pieces[index].file
        return Span(file.uri, file.version, _measure(self.pieces[index]), start, stop)


def _sizes(table: pa.Table) -> npt.NDArray[np.int64]:
    """Bytes per row: of text, ids and kept text, and of what is kept of rejected rows."""
    total = np.zeros(table.num_rows, np.int64)
    for field in table.schema:
        own = field.name in ("text", "raw", "id") or field.name.startswith(KEEP_PREFIX)
        if own and (pa.types.is_string(field.type) or pa.types.is_binary(field.type)):
            total += pc.fill_null(pc.binary_length(table[field.name]), 0).to_numpy().astype(np.int64)
    return total
