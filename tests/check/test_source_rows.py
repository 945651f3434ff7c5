"""Source rows counted by the checker's own means: what is a row, format by format."""

import gzip
import io
import json
import os
import re
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from source.conftest import read_table, source_of
from support.rights import without_rights

from pipeline.check import source, source_rows
from pipeline.check.source_rows import Window, count_rows, is_compressed, kind_of, read_rows
from pipeline.config.schema import Rows
from pipeline.errors import InputError
from pipeline.source import delimited
from pipeline.source.records import InputFile
from pipeline.storage.inputs import find

READER = {"format": "auto", "csv_delimiter": ",", "max_text_bytes": 1000}


@pytest.mark.parametrize(
    ("kind", "data", "rows"),
    [
        ("text", b"", 0),
        ("text", b"\xef\xbb\xbf\n", 1),
        ("text", b"one", 1),
        ("text", b"one\n", 1),
        ("text", b"one\n\nthree", 3),
        ("text", b"one\r\ntwo\r\n", 2),
        ("text", "a\u2028b\x0bc\x85d\n".encode(), 1),
        ("text", b"\xff\xfe not UTF-8\nbut a row\n", 2),
        ("jsonl", b'{"a": 1}\n \t\n\n{"a": 2}', 2),
        ("jsonl", b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n', 2),
        ("jsonl", b'{"a": 1}\nnot json\n', 2),
        ("csv", b"", 0),
        ("csv", b"id,text\n", 0),
        ("csv", b'id,text\n1,"two\nlines"\n2,x', 2),
        ("csv", b'id,text\r\n1,"a ""quoted"" comma, and\r\n"\r\n', 1),
        ("tsv", b"id\ttext\n1\ta,b\n2\tc\n", 2),
    ],
)
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_lines_and_records_are_counted_as_documented(kind: str, data: bytes, rows: int, compression: str) -> None:
    """Unicode line separators end no row; a blank line is a row of text, none of JSON; quoted newlines are inside."""
    packed = {
        "none": lambda: data,
        "gzip": lambda: gzip.compress(data[:7]) + gzip.compress(data[7:]),  # several members, as pigz and bgzip write
        "zstd": lambda: pa.compress(data, codec="zstd", asbytes=True) if data else b"",
    }[compression]()
    assert count_rows(io.BytesIO(packed), kind, ",") == rows  # type: ignore[arg-type]


def test_columnar_rows_are_those_of_the_footers() -> None:
    table = pa.table({"text": [f"{row}" for row in range(10)]})
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=3)
    for sink, opened in ((arrow, pa.ipc.new_file), (stream, pa.ipc.new_stream)):
        with opened(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    for data, kind in ((parquet, "parquet"), (arrow, "arrow"), (stream, "arrow")):
        data.seek(0)
        assert count_rows(data, kind, ",") == 10  # type: ignore[arg-type]
        data.seek(0)
        assert [row.values for row in read_rows(data, kind, ",", ["text"])] == table.to_pylist()  # type: ignore[arg-type]


def test_lines_carry_the_offsets_that_generated_ids_are_made_of() -> None:
    data = b'{"text": "a"}\n\n{"text": "b"}\n'
    rows = list(read_rows(io.BytesIO(data), "jsonl", ",", ["text"]))
    assert [(row.row, row.offset) for row in rows] == [(0, 0), (1, 15)]
    assert json.loads(data[rows[1].offset :]) == {"text": "b"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl.gz", "jsonl"),
        ("a.b/c.CSV", "csv"),
        ("x.tar.parquet", "parquet"),
        ("a.txt.zst", "text"),
        ("nothing", None),
    ],
)
def test_a_format_goes_by_the_name_unless_configured(name: str, kind: str | None, tmp_path: Path) -> None:
    assert kind_of(f"s3://b/{name}", "auto") == kind
    assert kind_of(f"s3://b/{name}", "text") == "text"


def test_a_window_of_bytes_is_sought_and_read_to_its_end_only() -> None:
    """A sample of a 10 GB file must not read all of it; compressed, the offsets are those of the inflated stream."""
    lines = [json.dumps({"text": f"line {number}"}).encode() + b"\n" for number in range(100)]
    offsets = [sum(map(len, lines[:number])) for number in range(101)]
    window = Window("bytes", offsets[40], offsets[42])
    for data in (b"".join(lines), gzip.compress(b"".join(lines))):
        rows = list(read_rows(io.BytesIO(data), "jsonl", ",", ["text"], window))
        assert [(row.offset, row.values) for row in rows] == [
            (offsets[number], {"text": f"line {number}"}) for number in (40, 41)
        ]
    by_number = list(read_rows(io.BytesIO(b"".join(lines)), "jsonl", ",", ["text"], Window("rows", 7, 9)))
    assert [row.row for row in by_number] == [7, 8]


def test_a_window_of_rows_reads_the_row_groups_it_touches() -> None:
    table, data = pa.table({"text": [f"{row}" for row in range(100)]}), io.BytesIO()
    pq.write_table(table, data, row_group_size=10)
    rows = list(read_rows(data, "parquet", ",", ["text"], Window("rows", 25, 31)))
    assert [row.row for row in rows] == list(range(20, 40))
    assert rows[5].values == {"text": "25"}


@pytest.mark.parametrize(
    ("window", "numbers"), [(None, [0, 1, 2]), (Window("rows", 1, 9), [1, 2]), (Window("rows", 1, 2), [1])]
)
def test_rows_are_there_where_the_file_has_none_of_the_columns(window: Window | None, numbers: list[int]) -> None:
    """Text and id may stand in the names of folders alone. Every sampled row of a sound output was said to be missing."""
    data = io.BytesIO()
    pq.write_table(pa.table({"other": [1, 2, 3]}), data)
    rows = list(read_rows(data, "parquet", ",", ["text"], window))
    assert [(row.row, row.values) for row in rows] == [(number, {}) for number in numbers]


@pytest.mark.parametrize("opened", [pa.ipc.new_file, pa.ipc.new_stream])
def test_columns_that_nobody_asks_for_are_not_looked_at(opened: Callable[..., Any]) -> None:
    """Python has no dates beyond the year 9999 and only the zones that it knows, which is no fault of the text beside them."""
    zone = pa.timestamp("us", "Foo/Bar")
    table = pa.table({"when": pa.array([2**62, 0], zone), "text": ["a", "b"], "more": [1, 2]})
    data = io.BytesIO()
    with opened(data, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    for columns, due in ((["text"], [{"text": "a"}, {"text": "b"}]), (["nothing"], [{}, {}])):
        data.seek(0)
        rows = list(read_rows(data, "arrow", ",", columns))
        assert [(row.row, row.values) for row in rows] == list(enumerate(due))


@pytest.mark.parametrize("first", range(0x50, 0x60))
def test_zstd_is_told_by_a_frame_without_data_too(first: int) -> None:
    """pzstd writes one first, and a sound output failed its verification for it."""
    skipped = bytes([first]) + b"\x2a\x4d\x18\x04\0\0\0skip"
    packed = skipped + pa.compress(b"one\ntwo\n", codec="zstd", asbytes=True)
    assert is_compressed(io.BytesIO(packed))
    assert count_rows(io.BytesIO(packed), "text", ",") == 2


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_line_with_a_number_that_is_none_is_a_row_without_values(number: str) -> None:
    [row] = read_rows(io.BytesIO(b'{"text": "a", "n": %s}\n' % number.encode()), "jsonl", ",", ["text"])
    assert row.values is None


NOT_UTF8 = pa.array([b"a", b"\xed\xa0\x80", None, b"\xff"])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_text_that_is_no_utf8_is_given_as_its_bytes(kind: pa.DataType, nested: bool) -> None:
    """No writer of Parquet or Arrow is held to it; a run sets such a row aside, and the checker must get over it."""
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}[kind]
    column = NOT_UTF8.cast(binary).view(kind)
    array = pa.StructArray.from_arrays([column], ["inside"]) if nested else column
    table, data = pa.table({"text": array, "id": ["x"] * 4}), io.BytesIO()
    with pa.ipc.new_file(data, table.schema) as writer:
        writer.write_table(table)
    data.seek(0)
    rows = [row.values["text"] for row in read_rows(data, "arrow", ",", ["text", "id"])]
    assert [row["inside"] if nested else row for row in rows] == [b"a", b"\xed\xa0\x80", None, b"\xff"]


def test_text_from_a_dictionary_is_text() -> None:
    table, data = pa.table({"text": pa.array(["a", None, "b"]).dictionary_encode()}), io.BytesIO()
    with pa.ipc.new_file(data, table.schema) as writer:
        writer.write_table(table)
    data.seek(0)
    assert [row.values["text"] for row in read_rows(data, "arrow", ",", ["text"])] == ["a", None, "b"]


def test_a_source_that_may_not_be_looked_at_any_more_is_told_like_one_that_is_gone(tmp_path: Path) -> None:
    """It ended the whole check, of an output that is sound."""
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)
    recount = source._recount((str(path), "1"), READER, [])
    assert recount.reason.startswith("can't be read: ")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_source_that_may_not_be_read_any_more_is_not_called_changed(open_folder: Path) -> None:
    """Taking away the right to read changes a file's version too; whoever looks for what has changed in it finds nothing."""
    path = open_folder / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    found = find(str(path))
    assert found is not None
    with without_rights(path):
        recount = source._recount((str(path), found.version), READER, [])
    assert re.match("can't be read: .*permission denied", recount.reason)
    path.write_text('{"text": "another"}\n')
    recount = source._recount((str(path), found.version), READER, [])
    assert recount.reason == "changed"


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.csv", "a.csv.gz", "a.csv.zst", "a.jsonl.gz", "a.jsonl"])
def test_a_file_is_counted_and_looked_through_again(tmp_path: Path, name: str) -> None:
    """Some readers close the file they were given."""
    plain = b"id,text\n1,a\n" if ".csv" in name else b'{"id": 1, "text": "a"}\n'
    pack = {"zst": lambda data: pa.compress(data, "zstd", asbytes=True), "gz": gzip.compress}
    path = tmp_path / name
    path.write_bytes(pack.get(name.rpartition(".")[2], bytes)(plain))
    found = find(str(path))
    assert found is not None
    recount = source._recount((str(path), found.version), READER, [])
    assert (recount.rows, recount.reason) == (1, "")


def test_a_damaged_gzip_source_can_not_be_counted_and_is_no_bug(tmp_path: Path) -> None:
    """Its first rows may be in the snapshot, and its error in the log: the check of such a sound output ended as a bug."""
    path = tmp_path / "a.jsonl.gz"
    whole = bytearray(gzip.compress(b'{"id": 1, "text": "a"}\n' * 1000))
    whole[10] |= 6  # a block of a kind that is none
    path.write_bytes(whole)
    found = find(str(path))
    assert found is not None
    recount = source._recount((str(path), found.version), READER, None)
    assert recount.reason.startswith("can't be read: Error -3 while decompressing data")


# ── lines and rows without end ───────────────────────────────────────────────────────────────────────────────────────


def grown(call: Callable[[], Any]) -> tuple[Any, int]:
    """What comes of it, and the bytes that Python took on the way."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["text", "jsonl"])
@pytest.mark.parametrize("filling", [b"x", b" "])
def test_a_line_without_end_is_a_row_and_does_not_come_into_memory(kind: str, filling: bytes) -> None:
    """A run sets it aside as oversize. 600 kB of gzip were 1.2 GB of memory for whoever held its output against it."""
    good = b'{"text": "a"}\n'
    packed = gzip.compress(good) + gzip.compress(filling * (1 << 20)) * 40 + gzip.compress(b"\n" + good)
    count, peak = grown(lambda: count_rows(io.BytesIO(packed), kind, ",", 1000))  # type: ignore[arg-type]
    assert count == 3
    assert peak < 10_000_000
    rows, peak = grown(lambda: list(read_rows(io.BytesIO(packed), kind, ",", ["text"], None, 1000)))  # type: ignore[arg-type]
    assert [row.values is None for row in rows] == [False, True, False]
    assert [(row.row, row.offset) for row in rows] == [(0, 0), (1, 14), (2, 15 + 40 * (1 << 20))]
    assert peak < 10_000_000


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("length", [39, 40, 41, 42, 80, 81, 82])
def test_a_line_is_too_long_where_a_run_finds_it_so(tmp_path: Path, length: int, end: bytes) -> None:
    """To the byte: else a blank one would be a row for one of them and none for the other."""
    path = tmp_path / "a.jsonl"
    for filling in (b" ", b"x"):
        path.write_bytes(b'{"text": "a"}\n' + filling * length + end)
        read = read_table(source_of(path, id=None), Rows(max_text_bytes=10, malformed="quarantine"))
        rows = list(read_rows(io.BytesIO(path.read_bytes()), "jsonl", ",", ["text"], None, 40))
        assert [row.offset for row in rows] == read["position"].to_pylist()
        assert count_rows(io.BytesIO(path.read_bytes()), "jsonl", ",", 40) == read.num_rows


@pytest.mark.parametrize("head", [b'id,text\n1,"', b'"'])
@pytest.mark.parametrize("block", [b'a\n","', b"x", b"a\n"])
def test_a_csv_row_without_end_can_not_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, block: bytes
) -> None:
    """Lines are bounded, and so are those that quotes make one row of. A run refuses such a file, so that no output holds it."""
    monkeypatch.setattr(source_rows, "_CSV_ROW", 1 << 20)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(head) + gzip.compress(block * ((1 << 20) // len(block))) * 6)
    found = find(str(path))
    assert found is not None
    recount, peak = grown(lambda: source._recount((str(path), found.version), READER, None))
    assert recount.reason.startswith(
        "can't be read: a line of more than 131,072 characters, or a row that takes more than 1,0"
    )
    assert peak < 10_000_000


def test_a_csv_row_that_a_run_reads_is_never_too_large_for_the_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker counts by itself, and a healthy output must not be said to have an unreadable source."""
    monkeypatch.setattr(source_rows, "_CSV_ROW", 2 << 20)
    monkeypatch.setattr(delimited, "ROW_BYTES", 1 << 20)
    file = InputFile("a.csv", "1", 1, "csv", "none", "a.csv")
    for unit in ("a,", ",", "ab,", "abc,", "é,", "éa,", "x", ",,a", "\n", "a\n"):
        for count in range(2000, 200_000, 22_000):
            data = f'id,text\n1,"{unit * count}"\n'.encode()
            try:
                taken = len(list(delimited.csv_rows(io.BytesIO(data), file, ",", 0)))
            except InputError:
                continue
            assert taken == 2
            assert count_rows(io.BytesIO(data), "csv", ",", 0) == 1
