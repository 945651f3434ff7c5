"""Files that are broken, cut off, or changed while they are read."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, SourceChanged
from pipeline.source import read
from pipeline.source.read import read_segment
from pipeline.source.records import UnitPolicy
from pipeline.source.streams import one_line

from .conftest import FORMATS, PATIENT, POLICY, arrow_bytes, parquet_bytes, plan, read_rows, source_of

ROWS = [(f"{row}", f"text {row} {row * row}", None) for row in range(300)]
TABLE = pa.table({"id": [row[0] for row in ROWS], "text": [row[1] for row in ROWS]})
PARQUET = parquet_bytes(TABLE, row_group_size=100)
ARROW = {"a.arrow": arrow_bytes(TABLE, 100), "b.arrow": arrow_bytes(TABLE, 100, streamed=True)}
PLACES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


def damaged(data: bytes, places: list[tuple[float, int]]) -> bytes:
    broken = bytearray(data)
    for share, mask in places:
        broken[int(share * len(data))] ^= mask
    return bytes(broken)


def rows_or_message(path: Path) -> tuple[list[Any], str]:
    try:
        return read_rows(path), ""
    except InputError as error:
        return [], error.message


@PATIENT
@given(PLACES)
def test_damage_in_a_parquet_file_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[float, int]]
) -> None:
    """Its pages have checksums; nothing but an InputError may come of it, and no other text."""
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    path.write_bytes(damaged(PARQUET, places))
    rows, message = rows_or_message(path)
    assert rows == ROWS or str(path) in message


@settings(PATIENT, derandomize=True)
@given(PLACES, st.sampled_from(sorted(ARROW)))
def test_damage_in_an_arrow_file_never_ends_the_process(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[float, int]], name: str
) -> None:
    """Kernels trust lengths and offsets; Arrow files have no checksum that would show a letter changed."""
    path = tmp_path_factory.mktemp("arrow") / name
    path.write_bytes(damaged(ARROW[name], places))
    rows, message = rows_or_message(path)
    assert rows or str(path) in message


def test_a_corrupt_row_group_is_named_and_those_before_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    broken = bytearray(PARQUET)
    chunk = pq.read_metadata(io.BytesIO(PARQUET)).row_group(1).column(1)
    broken[chunk.dictionary_page_offset + chunk.total_compressed_size - 2] ^= 1
    path.write_bytes(broken)
    segments, extraction = plan(source_of(path))
    units = read_segment(segments[0], extraction, POLICY, 50)
    assert next(units).rows["id"].to_pylist() == [row[0] for row in ROWS[:50]]
    with pytest.raises(InputError, match=r"a\.parquet: row group 1 can't be read: .*(?i:checksum|crc)"):
        list(units)


def zigzag(number: int) -> bytes:
    """As Thrift's compact protocol writes it, with the type of a 64-bit field before it."""
    return b"\x16" + bytes([(2 * number) & 127 | 128, 2 * number >> 7])


@pytest.mark.parametrize("said", [250, 350])
def test_a_parquet_footer_that_contradicts_itself_is_named(tmp_path: Path, said: int) -> None:
    """A footer has no checksum: with too few rows in it, those left out would be missing without a word."""
    path = tmp_path / "a.parquet"
    place = PARQUET.index(zigzag(300))
    path.write_bytes(PARQUET[:place] + zigzag(said) + PARQUET[place + 3 :])
    with pytest.raises(InputError, match=rf"a\.parquet: the footer says {said} rows for the file, and 300 for its row"):
        read_rows(path)


def test_what_a_library_says_stands_on_one_line_of_the_message(tmp_path: Path) -> None:
    """pyarrow quotes bytes of the file, which no terminal should be sent."""
    assert one_line(ValueError("a\n\tb \x1b[31m")) == "a b \\x1b[31m"
    assert len(one_line(ValueError("x" * 10_000))) < 310
    assert one_line(MemoryError()) == "MemoryError"
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 50_000 + b",id\n1,a\n")
    with pytest.raises(InputError) as raised:
        read_rows(path)
    assert len(raised.value.message) < 300


@pytest.mark.parametrize("name", ["a.parquet", *ARROW])
def test_a_columnar_file_cut_anywhere_is_named(tmp_path: Path, name: str) -> None:
    """pyarrow takes a stream that was cut off between two batches for a whole one."""
    data = ARROW.get(name, PARQUET)
    path = tmp_path / name
    for size in {*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 16, len(data))}:
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=name):
            read_rows(path)
    if name == "b.arrow":
        schema = len(arrow_bytes(TABLE.slice(0, 0), streamed=True)) - 8
        batch = len(arrow_bytes(TABLE.slice(0, 100), streamed=True)) - 8
        for size in (schema, batch):
            path.write_bytes(data[:size])
            with pytest.raises(InputError, match=r"b\.arrow: the Arrow stream ends at byte .* has no end mark"):
                read_rows(path)
        path.write_bytes(data + data)
        with pytest.raises(InputError, match=rf"ends at byte {len(data):,} of .* but the file goes on"):
            read_rows(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"ARROW1", b"PAR1" * 9, b"ARROW1\0\0" * 9, b"plain text, not what the name says"]
)
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    """As the only file, and as one of several: then by its reader, so that the others' rows are committed."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        read_rows(tmp_path)
    (tmp_path / "0.parquet").write_bytes(PARQUET)
    with pytest.raises(InputError, match=name):
        read_rows(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("how", ["appended", "replaced", "removed"])
def test_a_file_that_changes_under_the_reader_is_never_read_as_the_planned_one(
    tmp_path: Path, name: str, how: str
) -> None:
    """Half of the rows of one version and half of another would be paired with each other's ids."""
    records = [{"id": f"{row}", "text": f"text {row}"} for row in range(3000)]
    path = tmp_path / name
    data = FORMATS[name](records)
    path.write_bytes(data)
    segments, extraction = plan(source_of(path))
    units = (unit for segment in segments for unit in read_segment(segment, extraction, POLICY, 500))
    assert next(units).rows.num_rows == 500
    if how == "removed":
        path.unlink()
    elif how == "appended":
        with path.open("ab") as file:
            file.write(data[-20:])
    else:
        (tmp_path / "other").write_bytes(data)
        (tmp_path / "other").replace(path)
    with pytest.raises(SourceChanged, match=name):
        list(units)
    with pytest.raises(SourceChanged, match=name):
        list(read_segment(segments[0], extraction, POLICY, 500))


def test_no_unit_with_bytes_of_a_rewritten_file_leaves_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewritten in place after it was opened: a unit may be committed, as of the old version, before the file is closed."""
    path = tmp_path / "a.jsonl"
    old = [f'{{"id": "{row:03}", "text": "text {row:03}"}}\n' for row in range(300)]
    path.write_text("".join(old))
    os.utime(path, (1_600_000_000, 1_600_000_000))  # else the clock may not have moved on since
    policy = UnitPolicy(rows=100, text_bytes=1 << 20, vector_bytes=1 << 20)
    segments, extraction = plan(source_of(path), policy=policy)
    open_input = read.open_input

    @contextmanager
    def rewritten(uri: str, version: str) -> Iterator[BinaryIO]:
        with open_input(uri, version) as stream:
            with path.open("r+") as file:
                file.writelines(old[::-1])
            yield stream

    monkeypatch.setattr(read, "open_input", rewritten)
    with pytest.raises(SourceChanged, match=r"a\.jsonl"):
        next(read_segment(segments[0], extraction, policy, 100))


def test_units_before_a_change_leave_their_reader_and_none_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"id": "{row:03}", "text": "text {row:03}"}}\n' for row in range(300)))
    os.utime(path, (1_600_000_000, 1_600_000_000))
    policy = UnitPolicy(rows=100, text_bytes=1 << 20, vector_bytes=1 << 20)
    segments, extraction = plan(source_of(path), policy=policy)
    units = read_segment(segments[0], extraction, policy, 100)
    assert next(units).rows["id"].to_pylist() == [f"{row:03}" for row in range(100)]
    with path.open("r+") as file:
        file.write("{")
    with pytest.raises(SourceChanged):
        next(units)
