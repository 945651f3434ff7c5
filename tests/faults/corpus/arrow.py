"""Rows of damaged Arrow files, told without the program: what plain pyarrow finds in them, and what no damage has come near.

Nothing in such a file could show a letter changed. But what pyarrow reads is what is there: a row more or less, or a text under
another id, would be the program's doing.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import pyarrow as pa
from faults.corpus.case import Row
from faults.corpus.formats import CHUNK_ROWS, due_rows
from faults.corpus.mutate import Mutant, good

MOST_ROWS = 1000
"""Of a batch that is looked at: lengths may be damaged, too, and nulls take no space."""

STREAM = b"\xff\xff\xff\xff"
MAGIC = b"ARROW1"
HEAD_BYTES = 8  # of a file, before the stream in it

UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError, TypeError, LookupError, AttributeError)

Told = Row | None
"""A row; its kind is "" where it must have one, whichever. None: nothing can be said of it."""


def read_plainly(data: bytes) -> list[list[Told] | None]:
    """The rows of each record batch, None for one that can't be read or is too long. Empty where there are none or nothing can
    be read."""
    found: list[list[Told] | None] = []
    try:
        for batch in _batches(data):
            found.append(None if batch is None else _rows(batch))  # noqa: PERF401 - kept when the next one fails
    except UNREADABLE:
        found.append(None)
    return found


def differs(rows: Sequence[Row], batches: Sequence[list[Told] | None]) -> str | None:
    """How rows that were read from all batches differ from these."""
    if None in batches:
        return f"read {len(rows)} rows, of which pyarrow can read none in batch {batches.index(None)}"
    due = [row for batch in batches for row in batch or ()]
    if len(rows) != len(due):
        return f"{len(rows)} rows of {len(due)}"
    wrong = [(row, told) for row, told in zip(rows, due, strict=True) if not _agrees(row, told)]
    return f"{wrong!r:.400}" if wrong else None


def untouched(damaged: Mutant) -> list[Row]:
    """The rows of batches that lie before the damage, where what leads to them is whole: of a file that is its end as well."""
    if not damaged.name.startswith("stream.") and not damaged.data.endswith(_footer(damaged.name)):
        return []
    batches = sum(end <= damaged.start for end in _ends(damaged.name))
    return list(due_rows(damaged.name)[: batches * CHUNK_ROWS])


def _batches(data: bytes) -> Iterator[pa.RecordBatch | None]:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if data.startswith(STREAM):
        yield from pa.ipc.open_stream(data, options=options)
        return
    reader = pa.ipc.open_file(data, options=options)
    for number in range(reader.num_record_batches):
        try:
            yield reader.get_batch(number)
        except UNREADABLE:
            yield None


def _rows(batch: pa.RecordBatch) -> list[Told] | None:
    if batch.num_rows > MOST_ROWS:
        return None
    try:
        batch.validate()
        ids, texts = (_strings(batch.column(name)) for name in ("id", "text"))
    except UNREADABLE:
        return None
    if ids is None or texts is None:
        return [None] * batch.num_rows
    return [(i, t, None if i and t is not None else "") for i, t in zip(ids, texts, strict=True)]


def _strings(column: pa.Array) -> list[str | None] | None:
    """Its values, None for one that isn't UTF-8; None for a column of something else."""
    if column.type not in (pa.string(), pa.large_string()):
        return None
    values = column.view(pa.binary() if column.type == pa.string() else pa.large_binary())
    values.validate(full=True)
    return [None if value is None else _decoded(value) for value in values.to_pylist()]


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _agrees(row: Row, told: Told) -> bool:
    return told is None or (row[2] is not None if told[2] is not None else row == told)


@cache
def _ends(name: str) -> list[int]:
    """Where each record batch of a good file ends."""
    data = good(name)
    head = HEAD_BYTES if data.startswith(MAGIC) else 0
    stream = pa.BufferReader(data[head:])
    pa.ipc.read_message(stream)  # the schema
    ends = []
    for _ in range(-(-len(due_rows(name)) // CHUNK_ROWS)):
        pa.ipc.read_message(stream)
        ends.append(head + stream.tell())
    return ends


@cache
def _footer(name: str) -> bytes:
    """The end of a good file, from behind the last batch on."""
    return good(name)[_ends(name)[-1] :]
