"""Reading as a run does it: discover, inspect, footers, segments, units; and files of every format."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import settings

from pipeline.config.schema import Input, Rows
from pipeline.errors import InputError
from pipeline.source.discover import discover
from pipeline.source.footers import read_footers
from pipeline.source.read import read_segment
from pipeline.source.records import Extraction, Segment, SourceUnit, UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.segments import cut_segments

PATIENT = settings(deadline=None, max_examples=60)
POLICY = UnitPolicy(rows=1000, text_bytes=1 << 20, vector_bytes=1 << 20)
ASIDE = Rows(malformed="quarantine")
"""Nothing refuses a file: every kind of row is kept aside."""


def source_of(*paths: str | Path, **options: Any) -> Input:
    """Input settings; rows have a text and an id unless told."""
    return Input(**{"paths": tuple(map(str, paths)), "text": "text", "id": "id", **options})


def plan(
    source: Input, rows: Rows = ASIDE, policy: UnitPolicy = POLICY, partition_by: Sequence[str] = ()
) -> tuple[list[Segment], Extraction]:
    files = discover(source)
    extraction = inspect(files, source, rows, partition_by)
    return cut_segments(files, read_footers(files), policy), extraction


def read_units(source: Input, rows: Rows = ASIDE, policy: UnitPolicy = POLICY, **options: Any) -> list[SourceUnit]:
    """An input without any row is refused; here it has none."""
    try:
        segments, extraction = plan(source, rows, policy, **options)
    except InputError as error:
        if "there is no row in it" not in error.message:
            raise
        return []
    return [unit for segment in segments for unit in read_segment(segment, extraction, policy, policy.rows)]


def read_table(source: Input, rows: Rows = ASIDE, policy: UnitPolicy = POLICY, **options: Any) -> pa.Table:
    """All rows, in the order in which segments and units have them."""
    units = read_units(source, rows, policy, **options)
    columns = ["position", "id", "text", "kind", "raw", *(f"keep.{name}" for name in source.keep)]
    return pa.concat_tables([unit.rows for unit in units]) if units else pa.table({name: [] for name in columns})


def read_rows(path: str | Path, **options: Any) -> list[tuple[Any, str | None, str | None]]:
    """(id, text, kind) of each row."""
    table = read_table(source_of(path, **options))
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), table["kind"].to_pylist(), strict=True))


Record = dict[str, Any]


def jsonl_bytes(records: Sequence[Record]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def csv_bytes(records: Sequence[Record], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["id", "text"], delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def zstd_bytes(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"write_page_checksum": True, **options})
    return sink.getvalue()


def arrow_bytes(table: pa.Table, rows: int = 1 << 20, streamed: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if streamed else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def _table(records: Sequence[Record]) -> pa.Table:
    return pa.Table.from_pylist(list(records), pa.schema([("id", pa.string()), ("text", pa.string())]))


FORMATS: dict[str, Callable[[Sequence[Record]], bytes]] = {
    "a.parquet": lambda records: parquet_bytes(_table(records), row_group_size=3),
    "a.arrow": lambda records: arrow_bytes(_table(records), rows=3),
    "b.arrow": lambda records: arrow_bytes(_table(records), rows=3, streamed=True),
    "a.jsonl": jsonl_bytes,
    "a.csv": csv_bytes,
    "a.tsv": lambda records: csv_bytes(records, "\t"),
    "a.jsonl.gz": lambda records: gzip.compress(jsonl_bytes(records)),
    "a.jsonl.zst": lambda records: zstd_bytes(jsonl_bytes(records)),
    "a.csv.gz": lambda records: gzip.compress(csv_bytes(records)),
    "a.csv.zst": lambda records: zstd_bytes(csv_bytes(records)),
}
"""A writer for every format with an id column; the name tells the reader which it is."""
