"""Parquet and Arrow: types that texts and ids may come in, shapes without rows, and other writers' habits."""

import datetime as dt
import decimal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from faults.corpus.case import Case, Counts, Refused, Row, Rows, rows
from faults.corpus.formats import arrow, due_rows, parquet

WRITE: dict[str, Callable[[pa.Table], bytes]] = {
    "a.parquet": parquet,
    "a.arrow": arrow,
    "stream.arrow": partial(arrow, streamed=True),
}
DRIFTED = r"column 'text' is .+(not text|resolved with text)"


def cases() -> Iterator[Case]:
    """All of them."""
    for name, write in WRITE.items():
        for what, (table, right) in _tables().items():
            yield Case(f"{name}: {what}", name, partial(write, table), right)
    yield from _of_views()
    yield from _written_otherwise()


def _tables() -> dict[str, tuple[pa.Table, Rows | Refused | Counts]]:
    found: dict[str, tuple[pa.Table, Rows | Refused | Counts]] = {}
    for what, (text, right) in _texts().items():
        found[f"{what} as text"] = (pa.table({"id": pa.array(["1", "2"]), "text": text}), right)
    for what, (ids, right) in _ids().items():
        found[f"{what} as id"] = (pa.table({"id": ids, "text": pa.array(["a", "b"])}), right)
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    more: dict[str, tuple[pa.Table, Rows | Refused | Counts]] = {
        "no rows": (schema.empty_table(), rows()),
        "no columns": (pa.table({}), rows()),
        "null columns without rows": (pa.table({"id": pa.nulls(0), "text": pa.nulls(0)}), rows()),
        "other columns": (pa.table({"id": ["1"], "body": ["a"]}), Refused("there is no column 'text'; it has 'id'")),
        "text twice": (pa.table([["1"], ["a"], ["b"]], ["id", "text", "text"]), Refused("2 columns are called 'text'")),
        "id twice": (pa.table([["1"], ["2"], ["a"]], ["id", "id", "text"]), Refused("2 columns are called 'id'")),
        "others twice": (pa.table([["1"], ["a"], ["x"], ["y"]], ["id", "text", "x", "x"]), rows("a")),
        "three thousand columns": (pa.table({"id": ["1"], "text": ["a"], **{f"c{n}": [n] for n in range(3000)}}), rows("a")),
        "columns without names": (pa.table([["1"], ["a"], ["x"]], ["id", "text", ""]), rows("a")),
        "odd names": (pa.table({"id": ["1"], "text": ["a"], "a.b": ["x"], "ü\n\0": ["y"]}), rows("a")),
    }  # fmt: skip
    rubbish = pa.table({"id": ["1"], "text": ["a"]}).replace_schema_metadata({"pandas": "{"})
    return found | more | {"metadata of pandas that is rubbish": (rubbish, rows("a"))}


def _of_views() -> Iterator[Case]:
    """Dictionaries of views, as Polars writes its categories. Parquet has none."""
    for what, values, indices, right in (
        ("", ["b", "a"], [1, 0], rows("a", "b")),
        (" of bytes", [b"b", b"a"], [1, 0], rows("a", "b")),
        (" with nulls", ["a"], [0, None], rows("a", ("2", None, "null"))),
    ):
        kind = pa.binary_view() if isinstance(values[0], bytes) else pa.string_view()
        text = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(values, kind))
        table = pa.table({"id": pa.array(["1", "2"]), "text": text})
        yield Case(f"Arrow: a dictionary of views{what} as text", "a.arrow", partial(arrow, table), right)
    ids = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["2", "1"], pa.string_view()))
    table = pa.table({"id": ids, "text": pa.array(["a", "b"])})
    yield Case("Arrow: a dictionary of views as id", "a.arrow", partial(arrow, table), rows("a", "b"))


def _texts() -> dict[str, tuple[pa.Array, Rows | Refused | Counts]]:
    """Two values of each type: read as text, or refused as none."""
    words, right = pa.array(["a", "b"]), rows("a", "b")
    bad = pa.array([b"a", b"\xff"])
    aside = rows("a", ("2", None, "invalid_utf8"))
    dictionary = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["b", "a"]))
    read: dict[str, tuple[pa.Array, Rows | Refused | Counts]] = {
        "string": (words, right),
        "large_string": (words.cast(pa.large_string()), right),
        "string_view": (words.cast(pa.string_view()), right),
        "binary": (words.cast(pa.binary()), right),
        "large_binary": (words.cast(pa.large_binary()), right),
        "binary_view": (words.cast(pa.binary_view()), right),
        "a dictionary": (dictionary, right),
        "a dictionary of large strings": (words.cast(pa.large_string()).dictionary_encode(), right),
        "binary that is not UTF-8": (bad, aside),
        "binary_view that is not UTF-8": (bad.cast(pa.binary_view()), aside),
        "a dictionary of binary that is not UTF-8": (bad.dictionary_encode(), aside),
        "a dictionary with nulls": (pa.array(["a", None]).dictionary_encode(), rows("a", ("2", None, "null"))),
        "string_view with nulls": (pa.array(["a", None], pa.string_view()), rows("a", ("2", None, "null"))),
        "long values as string_view": (pa.array(["a" * 50, "b" * 50], pa.string_view()), rows("a" * 50, "b" * 50)),
        "null": (pa.nulls(2), Rows((("1", None, "null"), ("2", None, "null")))),
        "surrogates in bytes": (pa.array([b"a", b"\xed\xa0\x80"]), aside),
        "an empty string": (pa.array(["", " "]), rows("", " ")),
        "NULs": (pa.array(["a\0b", "\0"]), rows("a\0b", "\0")),
    }  # fmt: skip
    refused = {
        "int64": pa.array([1, 2]),
        "float64": pa.array([1.0, 2.0]),
        "float16": pa.array([1.0, 2.0]).cast(pa.float16()),
        "bool": pa.array([True, False]),
        "decimal": pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5")]),
        "decimal256": pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5")], pa.decimal256(50, 2)),
        "timestamp": pa.array([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)]),  # noqa: DTZ001
        "date": pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
        "time": pa.array([dt.time(1), dt.time(2)]),
        "duration": pa.array([dt.timedelta(1), dt.timedelta(2)]),
        "a list of strings": pa.array([["a"], ["b"]]),
        "a list of dictionaries": pa.ListArray.from_arrays([0, 1, 2], words.dictionary_encode()),
        "a struct": pa.array([{"x": "a"}, {"x": "b"}]),
        "a map": pa.array([[("k", "a")], [("k", "b")]], pa.map_(pa.string(), pa.string())),
        "fixed_size_binary": pa.array([b"a", b"b"], pa.binary(1)),
        "a dictionary of integers": pa.array([1, 2]).dictionary_encode(),
        "a uuid": pa.array([bytes(16), bytes(16)], pa.uuid()),
    }
    return read | {what: (array, Refused(DRIFTED)) for what, array in refused.items()}


def _ids() -> dict[str, tuple[pa.Array, Rows | Refused | Counts]]:
    """Beside a file with string ids, ids of numbers are refused; alone they would be read. Both are right."""
    text_ids: dict[str, tuple[pa.Array, Rows | Refused | Counts]] = {
        "null": (pa.array(["1", None]), rows("a", (None, None, "null_id"))),
        "an empty string": (pa.array(["1", ""]), rows("a", ("", None, "null_id"))),
        "the same string": (pa.array(["1", "1"]), rows("a", ("1", "b", None))),
        "a line end": (pa.array(["1\n2", "\r"]), rows(("1\n2", "a", None), ("\r", "b", None))),
        "a hundred thousand letters": (pa.array(["1", "x" * 100_000]), rows("a", ("x" * 100_000, "b", None))),
        "bytes that are not UTF-8": (pa.array([b"1", b"\xff"]), rows("a", (None, None, "invalid_utf8"))),
        "a dictionary": (pa.array(["1", "2"]).dictionary_encode(), rows("a", "b")),
        "string_view": (pa.array(["1", "2"], pa.string_view()), rows("a", "b")),
    }
    others = {
        "float64": pa.array([1.5, 2.5]),
        "bool": pa.array([True, False]),
        "a struct": pa.array([{"x": "1"}, {"x": "2"}]),
        "a list": pa.array([["1"], ["2"]]),
        "decimal": pa.array([decimal.Decimal(1), decimal.Decimal(2)]),
        "timestamp": pa.array([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)]),  # noqa: DTZ001
    }
    refused = Refused(r"(id )?column 'id' is .+(ids are text or whole numbers|resolved with string)")
    return text_ids | {what: (array, refused) for what, array in others.items()}


def _written_otherwise() -> Iterator[Case]:
    """Good files by other writers' habits."""
    due = Rows(tuple(due_rows("a.parquet")))
    habits: dict[str, dict[str, Any]] = {
        "data pages of version 2": {"data_page_version": "2.0"},
        "format 1.0": {"version": "1.0"},
        "no statistics": {"write_statistics": False},
        "no dictionaries": {"use_dictionary": False},
        "delta lengths": {"use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}},
        "delta bytes": {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
        "pages of one row": {"data_page_size": 1, "write_batch_size": 1},
        "a row group for each row": {"row_group_size": 1},
        "a page index": {"write_page_index": True},
        "brotli": {"compression": "brotli"},
        "lz4": {"compression": "lz4"},
        "gzip": {"compression": "gzip"},
        "no Arrow schema": {"store_schema": False},
        "dictionaries given up halfway": {"dictionary_pagesize_limit": 200, "write_batch_size": 2},
    }
    for what, options in habits.items():
        yield Case(f"Parquet with {what}", "a.parquet", partial(parquet, **options), due)
    for codec in ("lz4", "zstd"):
        for streamed in (False, True):
            what = f"Arrow {'stream' if streamed else 'file'} with {codec}"
            yield Case(what, "a.arrow", partial(arrow, codec=codec, streamed=streamed), due)
    yield Case("Arrow with a batch for each row", "a.arrow", partial(arrow, chunk=1), due)
    mixed: Row = ("1", "a", None)
    yield Case("Arrow with empty batches", "a.arrow", _with_empty_batches, Rows((mixed, mixed)))


def _with_empty_batches() -> bytes:
    some = pa.record_batch({"id": ["1"], "text": ["a"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, some.schema) as writer:
        for batch in (some.slice(0, 0), some, some.slice(0, 0), some, some.slice(0, 0)):
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
