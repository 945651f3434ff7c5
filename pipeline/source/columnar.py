"""Parquet and Arrow IPC: row groups and record batches as streams of the needed columns."""

import difflib
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.source.expansion import Dictionaries, cut, cut_expanded
from pipeline.source.extract import BATCH_BYTES, BATCH_ROWS, Columns, decoded, folder_columns, needed_paths
from pipeline.source.records import Extraction, InputFile, Piece
from pipeline.source.streams import check_not_empty, one_line

BUFFER_BYTES = 4 << 20
"""Column chunks are read in pieces of this size: without, all of a row group's text would lie in memory at once. In files no
larger they are read whole: read in pieces, pyarrow makes the room that a page says it needs, up to 2 GiB for each column, before
it sees that the chunk has less."""

DECODED_ROWS = 16
"""Rows that are decoded at once, and one where nothing tells how large they become: as DELTA_BYTE_ARRAY writes values, one
shares its beginning with the one before it, so that a MiB of memory is a few bytes of a file. A column may go over to that
behind a dictionary, where nobody has looked."""

EVERY_ROW = 1 << 62
SEARCHED = 10_000  # of a file's columns, for one that a missing one may be meant for
SHOWN_CHARS = 40  # of a column's name, which in a damaged file may be anything
UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError, AttributeError, TypeError, LookupError)
"""What pyarrow raises on damaged files. MemoryError: a length that is nonsense. The last three come out of extension types,
which Ray registers in its workers, when a file makes up what theirs hold."""
STREAM_MAGIC, STREAM_END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
AS_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def read_columnar(stream: BinaryIO, piece: Piece, extraction: Extraction) -> Iterator[Columns]:
    """Batches of rows [start, stop) of a Parquet or Arrow file. Raises InputError naming file and row group."""
    check_not_empty(piece.file)
    names = needed_paths(extraction)
    if piece.measure == "bytes":  # the whole of a file whose footer could not be read when it was planned
        piece = replace(piece, stop=EVERY_ROW)
    elif piece.start == piece.stop:
        return
    read = _parquet if piece.file.format == "parquet" else _arrow
    for first, batch in read(stream, piece, names):
        values = _values(batch, stream, piece.file, names)
        for start, stop in cut_expanded(values, batch.num_rows):
            position = pa.array(range(first + start, first + stop), pa.int64())
            some = {name: cut(array, start, stop) for name, array in values.items()}
            yield Columns(position, pc.add(position, 1), some)


def _parquet(stream: BinaryIO, piece: Piece, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    file = piece.file
    with _failing(file, "the footer"):
        pieces = BUFFER_BYTES if file.size > BUFFER_BYTES else 0
        parquet = pq.ParquetFile(stream, pre_buffer=False, buffer_size=pieces, page_checksum_verification=True)
        dictionaries = Dictionaries(stream, parquet, names)
    _check_counts(parquet.metadata, file)
    present = set(parquet.schema_arrow.names)
    columns = [name for name in names if name in present or name.split(".")[0] in present]
    first = 0
    for group in range(parquet.num_row_groups):
        metadata = parquet.metadata.row_group(group)
        if piece.start <= first < piece.stop:
            size, start = _batch_rows(metadata.num_rows, metadata.total_byte_size), first
            longest = dictionaries.longest(group)
            known = longest is not None and dictionaries.stay  # such a batch holds all of its dictionary: few are made
            few = 1 if longest is None else max(1, min(size if known else DECODED_ROWS, BATCH_BYTES // max(1, longest)))
            with _failing(file, f"row group {group}"):
                batches = parquet.iter_batches(few, row_groups=[group], columns=columns, use_threads=False)
                for batch in batches if known else _gathered(batches, size):
                    yield start, batch
                    start += batch.num_rows
            if start != first + metadata.num_rows:
                raise InputError(
                    f"{file.uri}: row group {group} gave {start - first} rows, its footer says {metadata.num_rows}"
                )
        first += metadata.num_rows


def _gathered(source: Iterator[pa.RecordBatch], most_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of about 4 MiB out of smaller ones, their dictionaries decoded."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in source:
        if any(pa.types.is_dictionary(field.type) for field in batch.schema):
            batch = pa.RecordBatch.from_arrays([*map(decoded, batch.columns)], batch.schema.names)  # noqa: PLW2901
        taken = batch.get_total_buffer_size()
        if waiting and (rows + batch.num_rows > most_rows or size + taken > BATCH_BYTES):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + taken
    if waiting:
        yield pa.concat_batches(waiting)


def _check_counts(metadata: pq.FileMetaData, file: InputFile) -> None:
    """A footer has no checksum; numbers in it that contradict each other would lose rows without a word."""
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
        raise InputError(
            f"{file.uri}: the footer says {metadata.num_rows:,} rows for the file, and {sum(counts):,} for its row groups "
            f"of {min(counts, default=0):,} to {max(counts, default=0):,} rows; restore or replace the file"
        )


def _arrow(stream: BinaryIO, piece: Piece, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    wanted = {name.split(".")[0] for name in names} | set(names)
    batches = _streamed(stream, piece.file, wanted) if is_arrow_stream(stream) else _filed(stream, piece, wanted)
    for first, batch in batches:
        size = _batch_rows(batch.num_rows, batch.nbytes)
        for offset in range(0, batch.num_rows, size):
            yield first + offset, batch.slice(offset, size)


def _filed(stream: BinaryIO, piece: Piece, wanted: Set[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Record batches of an Arrow file; of those before the piece only one narrow column is read, to count their rows."""
    with _failing(piece.file, "the footer"):
        counter, reader = open_arrow(stream, frozenset()), open_arrow(stream, wanted)
    first = 0
    for index in range(reader.num_record_batches):
        if first >= piece.stop:
            return
        inside = first >= piece.start
        with _failing(piece.file, f"record batch {index}"):
            batch = (reader if inside else counter).get_batch(index)
            batch.validate()
        if inside:
            yield first, batch
        first += batch.num_rows


def _streamed(stream: BinaryIO, file: InputFile, wanted: Set[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Record batches of an Arrow stream. pyarrow takes one that was cut off between two batches for a whole one."""
    with _failing(file, "the schema"):
        reader = open_arrow(stream, wanted)
    first = index = 0
    while True:
        with _failing(file, f"record batch {index}"):
            batch = next(reader, None)
            if batch is not None:
                batch.validate()
        if batch is None:
            break
        yield first, batch
        first += batch.num_rows
        index += 1
    check_stream_end(stream, file, index)


def check_stream_end(stream: BinaryIO, file: InputFile, batches: int) -> None:
    """Raise InputError where an Arrow stream, read to where pyarrow takes it to end, was cut off or goes on."""
    end = stream.tell()
    stream.seek(max(0, end - len(STREAM_END)))
    if end != file.size or stream.read() != STREAM_END:
        raise InputError(
            f"{file.uri}: the Arrow stream ends at byte {end:,} of {file.size:,}, after {batches:,} record batches, "
            f"{'and has no end mark' if end == file.size else 'but the file goes on'}; restore or replace the file"
        )


def is_arrow_stream(stream: BinaryIO) -> bool:
    """Whether this is Arrow's streaming format, as Hugging Face datasets write it; the stream stands at 0 afterwards."""
    stream.seek(0)
    magic = stream.read(len(STREAM_MAGIC))
    stream.seek(0)
    return magic == STREAM_MAGIC


def open_arrow(stream: BinaryIO, columns: Set[str]) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    """An Arrow IPC file or stream from which only these of its columns are read; its narrowest one if it has none."""
    schema = arrow_schema(stream)
    wanted = [index for index, name in enumerate(schema.names) if name in columns]
    narrowest = sorted(range(len(schema)), key=lambda index: _width(schema.field(index).type))[:1]
    options = pa.ipc.IpcReadOptions(included_fields=wanted or narrowest, use_threads=False)
    opened = pa.ipc.open_stream if is_arrow_stream(stream) else pa.ipc.open_file
    return opened(pa.PythonFile(stream, mode="r"), options=options)


def arrow_schema(stream: BinaryIO) -> pa.Schema:
    """All columns of an Arrow IPC file or stream."""
    opened = pa.ipc.open_stream if is_arrow_stream(stream) else pa.ipc.open_file
    return opened(pa.PythonFile(stream, mode="r")).schema


def _width(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:
        return 1 << 20  # of any length


def _batch_rows(rows: int, size: int) -> int:
    """Rows of a batch of about 4 MiB, given rows and bytes of what it is cut from."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


class _failing:  # noqa: N801  (reads as a word)
    """Turns what pyarrow raises on damaged files into an InputError with the place."""

    def __init__(self, file: InputFile, place: str) -> None:
        self.file, self.place = file, place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UNREADABLE) and not isinstance(error, InputError):
            raise InputError(
                f"{self.file.uri}: {self.place} can't be read: {one_line(error)}; restore or replace the file"
            ) from error


def _values(batch: pa.RecordBatch, stream: BinaryIO, file: InputFile, names: Sequence[str]) -> dict[str, pa.Array]:
    values = folder_columns(file, names, batch.num_rows)
    for name in names:
        array = _reach(batch, file, name)
        if array is not None:
            values[name] = array
        elif name not in values:
            with _failing(file, "the schema"):  # the batch has those columns only that were asked for
                schema = pq.read_schema(stream) if file.format == "parquet" else arrow_schema(stream)
            raise missing_column(file, name, schema.names)
    return values


def _reach(batch: pa.RecordBatch, file: InputFile, name: str) -> pa.Array | None:
    """A column by its name, or `a.b` inside a struct."""
    head, *rest = [name] if name in batch.schema.names else name.split(".")
    check_unique(file, head, batch.schema.names)
    if head not in batch.schema.names:
        return None
    array = batch.column(head)
    for part in rest:
        if not pa.types.is_struct(array.type):
            return None
        fields = [field.name for field in array.type]
        check_unique(file, part, fields)
        if part not in fields:
            return None
        array = pc.struct_field(array, part)
    if file.format == "arrow":
        # Arrow files have no checksums, and kernels trust offsets; whether text is UTF-8 is for each row to say.
        with _failing(file, f"column {name!r}"):
            (array.view(AS_BYTES[array.type]) if array.type in AS_BYTES else array).validate(full=True)
    return array


def missing_column(file: InputFile, name: str, present: Sequence[str]) -> InputError:
    """The error for a column that a file doesn't have."""
    near = difflib.get_close_matches(name, present[:SEARCHED], n=1)
    hint = (
        f"did you mean {_shown(near[0])}?" if near else f"it has {', '.join(map(_shown, present[:12])) or 'no columns'}"
    )
    if "{" in name:
        hint += "; a text made of columns is set as input.template, in the place of input.text"
    return InputError(f"{file.uri}: there is no column {name!r}; {hint}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}…")


def check_unique(file: InputFile, name: str, present: Sequence[str]) -> None:
    """Raise InputError for a column whose name two columns have."""
    if present.count(name) > 1:
        raise InputError(f"{file.uri}: {present.count(name)} columns are called {name!r}; rename all but one")
