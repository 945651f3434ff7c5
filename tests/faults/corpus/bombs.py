"""Small files that stand for far more than they are: read in bounded memory, or refused."""

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from faults.corpus.case import Case, Counts, Refused
from faults.corpus.formats import PACK

MIB = 1 << 20
PLAIN = {"id": None, "text": None}
LONG_ID = json.dumps({"id": "x" * (MIB - 30), "text": "a"}).encode() + b"\n"
COMMAS = b"," * MIB + b"\n"
ROW = b'{"id": "1", "text": "a"}\n'
LONG_NAME = "k" * 800_000


def cases() -> Iterator[Case]:
    """All of them."""
    for suffix in PACK:
        yield Case(
            f"{suffix}: a line of 400 MiB in as good as nothing", f"a.txt{suffix}", partial(_packed, suffix, b"x" * MIB, 400),
            Counts({"oversize": 1}), options=PLAIN,
        )  # fmt: skip
        line = json.dumps({"id": "1", "text": "x" * (MIB - 30)}).encode() + b"\n"
        yield Case(
            f"{suffix}: 400 MiB of rows in as good as nothing", f"a.jsonl{suffix}", partial(_packed, suffix, line, 400),
            Counts({"": 400}),
        )  # fmt: skip
        yield Case(
            f"{suffix}: a quoted field of 400 MiB", f"a.csv{suffix}", partial(_packed, suffix, b"x" * MIB, 400, b'id,text\n1,"'),
            Refused("row 0: a line is longer than 33,554,432 characters"),
        )  # fmt: skip
        yield Case(
            f"{suffix}: a quoted field of 60 MiB of lines", f"a.csv{suffix}",
            partial(_packed, suffix, (b"x" * 63 + b"\n") * (MIB // 64), 60, b'id,text\n1,"'),
            Refused("row 0: field larger than field limit"),
        )  # fmt: skip
    for kind in ("string", "binary", "large_string", "dictionary"):
        yield Case(
            f"Parquet: 600 rows of the same MiB as {kind}", "a.parquet", partial(_parquet, kind, 600), Counts({"": 600})
        )
    yield Case(
        "Parquet: the same MiB in a struct",
        "a.parquet",
        _nested,
        Counts({"": 600}),
        options={"text": "s.text"},
        company=False,
    )
    yield Case("Parquet: 500 rows of a MiB each, packed well", "a.parquet", partial(_zeros, 500), Counts({"": 500}))
    yield Case("Parquet: 200,000 nulls", "a.parquet", _nulls, Counts({"null": 200_000}), options={"id": None})
    for kind in ("dictionary", "string_view"):
        for streamed in (False, True):
            yield Case(
                f"Arrow {'stream' if streamed else 'file'}: 600 rows of the same MiB as {kind}", "a.arrow",
                partial(_arrow, kind, 600, streamed), Counts({"": 600}),
            )  # fmt: skip
    for suffix in PACK:
        yield Case(
            f"{suffix}: 300 ids of a MiB in as good as nothing", f"a.jsonl{suffix}", partial(_packed, suffix, LONG_ID, 300),
            Counts({"": 300}),
        )  # fmt: skip
        yield Case(
            f"{suffix}: 30 rows of a million empty fields", f"a.csv{suffix}",
            partial(_packed, suffix, b"1,a" + COMMAS, 30, b"id,text" + COMMAS), Counts({"": 30}), company=False,
        )  # fmt: skip
        yield Case(
            f"{suffix}: blank lines without end before a header", f"a.csv{suffix}", partial(_packed, suffix, b"\n" * MIB, 2),
            Refused("the header: more than 1,000,000 blank lines in a row"),
        )  # fmt: skip
        yield Case(
            f"{suffix}: a row of quoted lines without end", f"a.csv{suffix}",
            partial(_packed, suffix, b'a\n","' * (MIB // 5), 20, b'id,text\n1,"'),
            Refused("row 0: its row takes more than 268,435,456 bytes"), company=False,
        )  # fmt: skip
        for columns, said in ((31, "its row takes more than 268,435,456 bytes"), (3, "more than 2,000,000 columns")):
            yield Case(
                f"{suffix}: a header of {columns} million empty names", f"a.csv{suffix}",
                partial(_packed, suffix, b"," * MIB, columns, b"id,text"), Refused(f"the header: {said}"),
            )  # fmt: skip
        yield Case(
            f"{suffix}: blank lines without end between rows", f"a.jsonl{suffix}", partial(_packed, suffix, b"\n" * MIB, 3, ROW),
            Refused("row 1: more than 1,000,000 blank lines in a row"),
        )  # fmt: skip
        line = json.dumps({"id": "1", "text": "x" * (20 * MIB)}).encode() + b"\n"
        yield Case(
            f"{suffix}: 24 rows of 20 MiB that are set aside", f"a.jsonl{suffix}", partial(_packed, suffix, line, 24),
            Counts({"oversize": 24}), company=False,
        )  # fmt: skip
    for name in ("a.jsonl", "a.arrow"):
        yield Case(f"{name}: 8,000 names within a long one", name, partial(_names, name), Counts({"": 1}))
    for count, size, kind in ((600, MIB, ""), (1500, MIB, ""), (24, 20 * MIB, "oversize")):
        yield Case(
            f"Parquet: {count} rows of {size // MIB} MiB that share their beginning", "a.parquet",
            partial(_delta, count, size), Counts({kind: count}), company=False,
        )  # fmt: skip
    yield Case("Parquet: 600 rows with the same id of a MiB", "a.parquet", _long_ids, Counts({"": 600}))
    yield Case("Arrow: 200,000 nulls", "a.arrow", _arrow_nulls, Counts({"null": 200_000}), options={"id": None})


def _packed(suffix: str, block: bytes, times: int, head: bytes = b"") -> bytes:
    """Members one after the other are one stream."""
    pack = PACK[suffix]
    return pack(head) + pack(block) * times


def _same(kind: str, count: int) -> pa.Array:
    """One text of a MiB, so many times."""
    value = pa.array(["x" * MIB])
    if kind == "string_view":
        view = value.cast(pa.string_view())
        _, views, *data = view.buffers()
        return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(bytes(views)[:16] * count), *data])
    values = value if kind == "dictionary" else value.cast(pa.type_for_alias(kind))
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), values)


def _ids(count: int) -> pa.Array:
    return pa.array([str(number) for number in range(count)])


def _long_ids() -> bytes:
    return _write(pa.table({"id": _same("dictionary", 600), "text": ["a"] * 600}), compression="zstd")


def _write(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True, write_statistics=False, **options)
    return sink.getvalue()


def _parquet(kind: str, count: int) -> bytes:
    return _write(pa.table({"id": _ids(count), "text": _same(kind, count)}), compression="zstd")


def _nested() -> bytes:
    text = pa.StructArray.from_arrays([_same("dictionary", 600)], ["text"])
    return _write(pa.table({"id": _ids(600), "s": text}), compression="zstd")


def _zeros(count: int) -> bytes:
    """Different texts, so that none is in a dictionary, in pages of a row each."""
    texts = pa.array([f"{number:08}" + "0" * (MIB - 8) for number in range(count)])
    return _write(
        pa.table({"id": _ids(count), "text": texts}), compression="zstd", use_dictionary=False, write_batch_size=1
    )


def _delta(count: int, size: int) -> bytes:
    """One row group of so many rows, all of one text, which each of a few pages has once."""
    each = count // 6 if size == MIB else count
    text = pa.chunked_array([pa.array(["x" * size] * each)] * (count // each))
    encodings = {"id": "PLAIN", "text": "DELTA_BYTE_ARRAY"}
    table = pa.table({"id": _ids(count), "text": text})
    return _write(table, compression="zstd", use_dictionary=False, column_encoding=encodings)


def _names(name: str) -> bytes:
    """Each column in it was known by a name of its own of 800 kB, which is 6 GB of names."""
    inner = {f"{number:x}": 1 for number in range(8000)}
    row = {"id": "1", "text": "a", LONG_NAME: inner}
    if name == "a.jsonl":
        return json.dumps(row).encode() + b"\n"
    table = pa.Table.from_pylist([row])
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _nulls() -> bytes:
    return _write(pa.table({"text": pa.nulls(200_000, pa.string())}))


def _arrow(kind: str, count: int, streamed: bool) -> bytes:
    table = pa.table({"id": _ids(count), "text": _same(kind, count)})
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if streamed else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _arrow_nulls() -> bytes:
    table = pa.table({"text": pa.nulls(200_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
