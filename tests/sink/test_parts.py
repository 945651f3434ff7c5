"""Parts and data files: what is in them, how they are encoded, and what is refused."""

import datetime
import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory import MemoryStore

from pipeline.errors import EncodeError, InputError, Overtaken, VerificationError
from pipeline.sink import assemble, duplicates
from pipeline.sink.assemble import write_data_file
from pipeline.sink.duplicates import count_duplicates
from pipeline.sink.part import Part, build_part, rows_digest
from pipeline.sink.partition import folder_of
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.sink.schema import Layout, find_alike

LAYOUT = Layout("string", (("lang", pa.string()),), (), 3, "list", (("embedpipe.spec", "s"),))
BY_LANG = Layout("string", (("lang", pa.string()),), ("lang",), 3, "list", ())


def rows(langs: list[str | None], vector: list[int] | None = None) -> pa.Table:
    """Rows as the prepare step gives them."""
    n = len(langs)
    return pa.table(
        {
            "position": pa.array(range(1000, 1000 + n), pa.int64()),
            "id": pa.array([f"r{i}" for i in range(n)]),
            "keep.lang": pa.array(langs, pa.string()),
            "token_count": pa.array(range(n), pa.int32()),
            "truncated": pa.array([False] * n),
            "text_hash": pa.array([f"{i:032x}" for i in range(n)]),
            "vector": pa.array(vector or list(range(n)), pa.int32()),
        }
    )


def vectors(n: int) -> np.ndarray:
    return np.arange(n * 3, dtype=np.float32).reshape(n, 3)


def test_vectors_are_byte_stream_split_with_checksums_and_without_statistics() -> None:
    """A misspelt column path silently gives PLAIN, a third more bytes for every table there will ever be."""
    part = build_part(rows(["en", "de"]), vectors(2), LAYOUT)
    assert part is not None
    group = pq.ParquetFile(io.BytesIO(part.data)).metadata.row_group(0)
    column = next(
        group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "embedding.list.element"
    )
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert column.compression == "ZSTD"
    assert not column.is_stats_set


@pytest.mark.parametrize("kind", ["list", "fixed_size_list"])
def test_folded_texts_share_a_vector_and_every_row_keeps_its_own(kind: str) -> None:
    layout = Layout("string", LAYOUT.keep, (), 3, kind, ())  # type: ignore[arg-type]
    part = build_part(rows(["a", "b", "c"], [1, 0, 1]), vectors(2), layout)
    assert part is not None
    table = pq.read_table(io.BytesIO(part.data))
    assert table["embedding"].to_pylist() == [[3, 4, 5], [0, 1, 2], [3, 4, 5]]
    assert table.schema.names == ["id", "lang", "embedding", "token_count", "truncated", "text_hash"]
    assert not table.schema.field("embedding").nullable


def test_the_rows_of_each_partition_folder_are_a_file_and_the_part_says_where() -> None:
    part = build_part(rows(["b", "a", "b", None]), vectors(4), BY_LANG)
    assert part is not None
    assert [f.folder for f in part.folders] == ["lang=__HIVE_DEFAULT_PARTITION__/", "lang=a/", "lang=b/"]
    files = [part.data[f.start : f.start + f.bytes] for f in part.folders]
    assert b"".join(files) == part.data
    assert [hashlib.sha256(file).hexdigest() for file in files] == [f.sha256 for f in part.folders]
    tables = [pq.read_table(io.BytesIO(file)) for file in files]
    assert [table["id"].to_pylist() for table in tables] == [["r3"], ["r1"], ["r0", "r2"]]
    assert [f.rows for f in part.folders] == [1, 1, 2]
    assert {tuple(table.schema.names) for table in tables} == {tuple(BY_LANG.file_schema().names)}


def test_a_vector_with_nan_or_of_another_length_is_never_staged() -> None:
    bad = vectors(2)
    bad[1, 1] = np.nan
    with pytest.raises(EncodeError, match="NaN"):
        build_part(rows(["a", "b"]), bad, LAYOUT)
    with pytest.raises(EncodeError, match="2 dimensions, the spec says 3"):
        build_part(rows(["a"]), np.zeros((1, 2), np.float32), LAYOUT)


@pytest.mark.parametrize(
    "value", ["007", "1e5", "nan", "-0", "1.50", "", "..", "__HIVE_DEFAULT_PARTITION__", "a\0b", "x" * 300]
)
def test_partition_values_that_would_come_back_as_something_else_are_refused(value: str) -> None:
    """pyarrow and Polars read the folders `k=007` and `k=7` both as 7."""
    with pytest.raises(InputError, match="partition column 'k'"):
        folder_of(["k"], [value])


def test_a_value_that_names_no_folder_is_told_with_its_row() -> None:
    """It has to be found among millions."""
    with pytest.raises(InputError, match=r"position 1,002, id 'r2': partition column 'lang'.*'007'"):
        build_part(rows(["en", "de", "007", "007"]), vectors(4), BY_LANG)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.date32(), -1_000_000),
        (pa.date32(), 10_000_000),
        (pa.date64(), 10**17),
        (pa.timestamp("us"), -(10**17)),
        (pa.timestamp("s"), 10**12),
        (pa.timestamp("us", "Foo/Bar"), 0),
    ],
    ids=str,
)
def test_a_date_that_names_no_folder_is_refused_with_its_column(kind: pa.DataType, value: int) -> None:
    """Raised as what Arrow makes of it, it would end the run as a bug, with healthy files beside it."""
    layout = Layout("string", (("day", kind),), ("day",), 3, "list", ())
    table = rows(["a", "b"]).rename_columns({"keep.lang": "keep.day"})
    at = table.schema.get_field_index("keep.day")
    table = table.set_column(at, "keep.day", pa.array([None, value], kind))
    with pytest.raises(InputError, match="partition column 'day': a date or time can't name a folder"):
        build_part(table, vectors(2), layout)


def test_whatever_names_a_folder_is_percent_encoded() -> None:
    """Colons and blanks in paths break Hadoop and Spark."""
    zone = datetime.timezone(datetime.timedelta(hours=1))
    moment = datetime.datetime(2024, 1, 1, 13, 30, 0, 5, zone)
    assert folder_of(["a"], [moment]) == "a=2024-01-01%2013%3A30%3A00.000005%2B01%3A00/"
    values: list[object] = [datetime.date(2024, 1, 1), -7, True]
    assert folder_of(["d", "n", "b"], values) == "d=2024-01-01/n=-7/b=true/"


@given(st.text(min_size=1, max_size=40))
def test_no_partition_value_leaves_its_folder_and_all_decode_to_themselves(value: str) -> None:
    from urllib.parse import unquote

    try:
        folder = folder_of(["k"], [value])
    except (InputError, UnicodeEncodeError):
        return
    assert folder.count("/") == 1
    assert unquote(folder[2:-1]) == value


def test_the_digest_sees_any_two_rows_change_places() -> None:
    table = rows(["a", "b", "c"])
    swapped = table.take([1, 0, 2])
    assert rows_digest(table["id"], table["text_hash"]) != rows_digest(swapped["id"], swapped["text_hash"])
    assert rows_digest(table["id"], table["text_hash"]) != rows_digest(table["id"], swapped["text_hash"])


def slices_of(part: Part, key: str, folder: str) -> tuple[SourceSlice, ...]:
    """What of a part goes to a folder."""
    return tuple(
        SourceSlice("u", key, f.start, f.bytes, f.sha256, 0, f.rows, f.bytes)
        for f in part.folders
        if f.folder == folder
    )


def test_a_data_file_holds_its_slices_in_order_without_the_partition_column() -> None:
    store = MemoryStore()
    part = build_part(rows(["b", "a", "b"]), vectors(3), BY_LANG)
    assert part is not None
    store.put_new("p", part.data)
    made = write_data_file(store, DataFilePlan(0, "lang=b/", slices_of(part, "p", "lang=b/")), BY_LANG)
    table = pq.read_table(io.BytesIO(made.data))
    assert table["id"].to_pylist() == ["r0", "r2"]
    assert "lang" not in table.schema.names
    assert made.rows == 2


def test_each_slice_that_was_read_is_told() -> None:
    """Whoever watches over a file that takes an hour to make goes by it."""
    store = MemoryStore()
    part = build_part(rows(["b", "a", "b"]), vectors(3), LAYOUT)
    assert part is not None
    store.put_new("p", part.data)
    size = len(part.data)
    slices = tuple(SourceSlice(f"u{row}", "p", 0, size, part.sha256, row, 1, 9) for row in range(3))
    told: list[int] = []
    write_data_file(store, DataFilePlan(0, "", slices), LAYOUT, lambda: told.append(len(told)))
    assert told == [0, 1, 2]


def test_a_source_that_is_gone_means_overtaken() -> None:
    with pytest.raises(Overtaken):
        write_data_file(MemoryStore(), DataFilePlan(0, "", (SourceSlice("u", "p", 0, 9, "0" * 64, 0, 1, 9),)), LAYOUT)


def test_of_a_part_only_the_folders_own_bytes_are_read() -> None:
    """A thousand units over a thousand days would each be read a thousand times."""
    store = MemoryStore()
    part = build_part(rows(["b", "a", "b"]), vectors(3), BY_LANG)
    assert part is not None
    of_a = part.folders[0]
    store.put_new("p", bytes(part.data[: of_a.bytes]) + b"x" * (len(part.data) - of_a.bytes))
    store.operations.clear()
    made = write_data_file(store, DataFilePlan(0, "lang=a/", slices_of(part, "p", "lang=a/")), BY_LANG)
    assert pq.read_table(io.BytesIO(made.data))["id"].to_pylist() == ["r1"]
    assert store.operations == [("get_range", "p")]


def test_a_part_that_was_cut_off_is_damage_and_not_a_file_that_is_gone() -> None:
    store = MemoryStore()
    part = build_part(rows(["b", "a", "b"]), vectors(3), BY_LANG)
    assert part is not None
    store.put_new("p", part.data[:-9])
    with pytest.raises(VerificationError, match=r"p: .* bytes, its record says more"):
        write_data_file(store, DataFilePlan(0, "lang=b/", slices_of(part, "p", "lang=b/")), BY_LANG)


def test_an_older_file_is_read_once_and_let_go_of_though_few_of_its_rows_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows that share memory with the file they come from keep all of it: a file of a few rows of each of a thousand took
    gigabytes, and the one that runs out of memory does so at the same place each time."""
    monkeypatch.setattr(assemble, "READERS", 0)
    store, slices = MemoryStore(), []
    for name in range(20):
        part = build_part(rows(["en"] * 500), vectors(500), LAYOUT)
        assert part is not None
        store.put_new(f"p{name}", part.data)
        slices += [SourceSlice(f"u{k}", f"p{name}", 0, len(part.data), part.sha256, 5 * k, 1, 9) for k in range(2)]
    kept: list[int] = []
    whole = pa.total_allocated_bytes()
    made = write_data_file(
        store, DataFilePlan(0, "", tuple(slices)), LAYOUT, lambda: kept.append(pa.total_allocated_bytes() - whole)
    )
    assert made.rows == 40
    assert [key for operation, key in store.operations if operation == "get_range"] == [
        f"p{name}" for name in range(20)
    ]
    assert max(kept[20:]) < 2 * max(kept[:2])


@pytest.mark.parametrize("place", [4, 200, -40])
def test_a_part_that_was_damaged_since_it_was_staged_is_never_published(place: int) -> None:
    """Page checksums cover pages only, not their headers or the footer."""
    store = MemoryStore()
    part = build_part(rows(["b", "a", "b"]), vectors(3), LAYOUT)
    assert part is not None
    damaged = bytearray(part.data)
    damaged[place] ^= 1
    store.put_new("p", bytes(damaged))
    with pytest.raises(VerificationError, match="sha256"):
        write_data_file(store, DataFilePlan(0, "", slices_of(part, "p", "")), LAYOUT)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9) | st.integers(-(2**63), 2**63 - 1)), st.sampled_from([1, 3, 1000]))
def test_duplicate_ids_are_counted_over_all_files(ids: list[int], in_memory: int) -> None:
    """More than memory holds go through files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "MAX_ROWS", in_memory)
        _count_both_kinds(ids)


def _count_both_kinds(ids: list[int]) -> None:
    half = len(ids) // 2
    chunks = [pa.chunked_array([pa.array(part, pa.int64())]) for part in (ids[:half], ids[half:])]
    assert count_duplicates(chunks, len(ids)) == len(ids) - len(set(ids))
    texts = [pa.chunked_array([pa.array([str(i) for i in part], pa.string())]) for part in (ids[:half], ids[half:])]
    assert count_duplicates(texts, len(ids)) == len(ids) - len(set(ids))


@pytest.mark.parametrize(
    ("keep", "alike"),
    [
        (["Lang", "lang"], ("lang", "Lang")),
        (["title", "ID"], ("ID", "id")),
        (["embedding"], ("embedding", "embedding")),
        (["Text_Hash"], ("Text_Hash", "text_hash")),
        (["lang", "language", "ids"], None),
    ],
)
def test_columns_that_differ_in_case_alone_are_found(keep: list[str], alike: tuple[str, str] | None) -> None:
    """A warehouse loads one of them in place of the other, or under another name, without a word."""
    assert find_alike(keep) == alike
