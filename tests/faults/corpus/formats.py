"""The same few rows in every format that is read, and what a file in it is called."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = tuple(
    f"{start} {number} " + "and so it goes " * (number % 4)
    for number, start in enumerate(["plain", 'he said "no"', "a, b; c", "Grüße 東京", "tab\there", "00123"] * 4, 1)
)
IDS = tuple(str(number) for number in range(1, len(TEXTS) + 1))


GROUP_ROWS = 14
"""Rows of the first of two row groups."""

CHUNK_ROWS = 10
"""Rows of each Arrow record batch but the last."""


def table(ids: Sequence[Any] = IDS, texts: Sequence[Any] = TEXTS) -> pa.Table:
    """The rows as strings."""
    return pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())})


def parquet(rows: pa.Table | None = None, **options: Any) -> bytes:
    """A Parquet file with page checksums, two row groups or so."""
    sink = io.BytesIO()
    pq.write_table(
        table() if rows is None else rows,
        sink,
        **{"write_page_checksum": True, "row_group_size": GROUP_ROWS, **options},
    )
    return sink.getvalue()


def arrow(
    rows: pa.Table | None = None, *, streamed: bool = False, chunk: int = CHUNK_ROWS, codec: str | None = None
) -> bytes:
    """An Arrow file or stream of a few record batches."""
    rows = table() if rows is None else rows
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with (pa.ipc.new_stream if streamed else pa.ipc.new_file)(sink, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=chunk)
    return sink.getvalue()


def jsonl() -> bytes:
    """JSON lines."""
    return "".join(
        json.dumps({"id": i, "text": t}, ensure_ascii=False) + "\n" for i, t in zip(IDS, TEXTS, strict=True)
    ).encode()


def delimited(delimiter: str = ",") -> bytes:
    """Every field quoted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(("id", "text"))
    writer.writerows(zip(IDS, TEXTS, strict=True))
    return text.getvalue().encode()


def plain() -> bytes:
    """Lines of text."""
    return "".join(text + "\n" for text in TEXTS).encode()


def gz(data: bytes, level: int = 6) -> bytes:
    """A gzip file, the same every time."""
    return gzip.compress(data, level, mtime=0)


def zst(data: bytes) -> bytes:
    """A zstd file of one frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gz, ".zst": zst}

LINES: dict[str, Callable[[], bytes]] = {
    "a.jsonl": jsonl,
    "a.csv": delimited,
    "a.tsv": lambda: delimited("\t"),
    "a.txt": plain,
}
COLUMNS: dict[str, Callable[[], bytes]] = {
    "a.parquet": parquet,
    "plain.parquet": lambda: parquet(compression="none", use_dictionary=False),
    "a.arrow": arrow,
    "stream.arrow": lambda: arrow(streamed=True),
    "packed.arrow": lambda: arrow(codec="zstd"),
}


def _packed(write: Callable[[], bytes], pack: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    return lambda: pack(write())


FILES: dict[str, Callable[[], bytes]] = {
    **COLUMNS,
    **LINES,
    **{name + suffix: _packed(write, pack) for name, write in LINES.items() for suffix, pack in PACK.items()},
}
"""A good file of every format by name; its rows are those above."""


def due_rows(name: str) -> list[tuple[str, str, None]]:
    """The rows of a good file: plain text has no ids of its own."""
    if ".txt" not in name:
        return [(i, t, None) for i, t in zip(IDS, TEXTS, strict=True)]
    offsets = [0]
    for text in TEXTS:
        offsets.append(offsets[-1] + len(text.encode()) + 1)
    places = (
        [f"{name}@{offset}" for offset in offsets[:-1]]
        if name.endswith(".txt")
        else [f"{name}#{row}" for row in range(len(TEXTS))]
    )
    return [(place, text, None) for place, text in zip(places, TEXTS, strict=True)]


def options_of(name: str) -> dict[str, Any]:
    """What a config says of such a file."""
    return {"id": None, "text": None} if ".txt" in name else {}
