"""Many rows that share one long value: a small file whose text decoded would fill any memory."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.source import expansion
from pipeline.source.columnar import read_columnar
from pipeline.source.expansion import cut_expanded
from pipeline.source.records import UnitPolicy

from .conftest import PATIENT, arrow_bytes, parquet_bytes, plan, read_rows, read_table, source_of

VALUES = st.lists(st.none() | st.text("aé", max_size=9), max_size=30)
KINDS = {
    "dictionary": lambda values: pa.array(values, pa.string()).dictionary_encode(),
    "large dictionary": lambda values: pa.array(values, pa.large_binary()).dictionary_encode(),
    "string_view": lambda values: pa.array(values, pa.string_view()),
    "binary_view": lambda values: pa.array(values, pa.binary_view()),
}


@PATIENT
@given(VALUES, st.sampled_from(sorted(KINDS)), st.integers(0, 5))
def test_runs_are_as_long_as_fits_and_cover_each_row_once(values: list[str | None], kind: str, skip: int) -> None:
    """Also of a slice, whose values lie at an offset."""
    room = 12
    array = KINDS[kind](values)[skip:]
    sizes = [len((value or "").encode()) for value in values[skip:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion, "BATCH_BYTES", room)
        runs = list(cut_expanded({"text": array}, len(array)))
    assert [row for start, stop in runs for row in range(start, stop)] == list(range(len(array)))
    for start, stop in runs:
        assert stop == start + 1 or sum(sizes[start:stop]) <= room
    for (start, stop), _ in itertools.pairwise(runs):
        assert sum(sizes[start : stop + 1]) > room, "the next row would have fitted"


def test_columns_that_lie_in_memory_as_they_are_stay_whole() -> None:
    array = pa.array(["x" * 3_000_000] * 3)
    assert list(cut_expanded({"text": array, "id": pa.array([1, 2, 3])}, 3)) == [(0, 3)]
    assert list(cut_expanded({"text": pa.nulls(3).dictionary_encode()}, 3)) == [(0, 3)]


LARGE = {
    "string": lambda values: pa.array(values, pa.string()),
    "large_string": lambda values: pa.array(values, pa.large_string()),
    "large_binary": lambda values: pa.array(values, pa.large_binary()),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_long_rows_among_many_short_ones_are_handed_on_a_few_at_a_time(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are cut by the average: neighbours of megabytes among a million short ones would be one batch of more than
    2 GiB, which Arrow's plain strings can't hold."""
    monkeypatch.setattr(expansion, "LARGE_BYTES", 1 << 20)
    values = [*["a"] * 4000, *["x" * 100_000] * 200, *["b"] * 4000]
    table = pa.table({"id": [f"{row}" for row in range(len(values))], "text": LARGE[kind](values)})
    path = tmp_path / name
    options: dict[str, Any] = {"use_dictionary": False, "compression": "none"}
    path.write_bytes(parquet_bytes(table, **options) if name == "a.parquet" else arrow_bytes(table))
    [segment], extraction = plan(source_of(path), policy=UnitPolicy(100_000, 1 << 30, 1 << 30))
    with path.open("rb") as stream:
        batches = [columns.values["text"] for columns in read_columnar(stream, segment.pieces[0], extraction)]
    assert sum(map(len, batches)) == len(values)
    assert max(batch.nbytes for batch in batches) < (5 << 20)
    if kind != "string":
        assert max(batch.get_total_buffer_size() for batch in batches) < (5 << 20), "a slice is as bad as the whole"
    assert len(batches) < 40, "short rows need not go one by one"
    assert [text for _, text, _ in read_rows(path)] == values


def table_of(kind: str) -> pa.Table:
    """Three hundred rows of one text of 100 kB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["x" * 100_000]))
    ids = pa.array([f"{row}" for row in range(300)])
    if kind == "s.text":
        return pa.table({"id": ids, "s": pa.StructArray.from_arrays([text], ["text"])})
    return pa.table({"id": ids, "text": text})


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("text", ["text", "s.text"])
def test_rows_that_share_a_long_value_are_decoded_a_few_at_a_time(tmp_path: Path, name: str, text: str) -> None:
    """The footer's sizes are those of the value once: it would take 30 MB at a time."""
    path = tmp_path / name
    table = table_of(text)
    path.write_bytes(parquet_bytes(table) if name == "a.parquet" else arrow_bytes(table))
    assert path.stat().st_size < 300_000
    [segment], extraction = plan(source_of(path, text=text))
    with path.open("rb") as stream:
        batches = [len(columns.position) for columns in read_columnar(stream, segment.pieces[0], extraction)]
    assert sum(batches) == 300
    assert max(batches) <= 4_194_304 // 100_000
    assert [row[0] for row in read_rows(path, text=text)] == [f"{row}" for row in range(300)]


@pytest.mark.parametrize("text", ["text", "s.text"])
def test_rows_that_share_their_beginnings_are_decoded_one_at_a_time(tmp_path: Path, text: str) -> None:
    """Nothing in the file says how long they are: sixteen of 32 MiB, out of 2 kB, were 3 GiB of a reader's memory."""
    values = pa.array(["x" * 1_000_000] * 40)
    ids = pa.array([f"{row}" for row in range(40)])
    column = values if text == "text" else pa.StructArray.from_arrays([values], ["text"])
    options = {"use_dictionary": False, "column_encoding": {text: "DELTA_BYTE_ARRAY"}, "compression": "zstd"}
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(pa.table({"id": ids, text.split(".")[0]: column}), **options))
    assert path.stat().st_size < 20_000
    del values, column
    [segment], extraction = plan(source_of(path, text=text))
    pool = pa.default_memory_pool()
    before, batches, highest = pool.bytes_allocated(), [], 0
    with path.open("rb") as stream:
        for columns in read_columnar(stream, segment.pieces[0], extraction):
            batches.append(len(columns.position))
            highest = max(highest, pool.bytes_allocated() - before)
    assert sum(batches) == 40
    assert max(batches) <= 4
    assert highest < 20_000_000
    assert len(read_rows(path, text=text)) == 40


@pytest.mark.parametrize("beside", [["lang"], ["id", "lang"], False])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_shared_beginnings_give_the_rows_that_a_plain_file_gives(
    tmp_path: Path, beside: list[str] | bool, kind: pa.DataType
) -> None:
    """Also beside columns with dictionaries, which are decoded with them, and as a category of pandas."""
    rows = range(5000)
    lang = pa.array([("en", "de", None)[row % 3] for row in rows])
    columns = {
        "id": pa.array([f"{row:05}" for row in rows]),
        "text": pa.array([None if row % 7 == 0 else f"the text of row {row}" for row in rows]).cast(kind),
        "lang": lang.dictionary_encode() if beside else lang,
    }
    table = pa.table(columns)
    delta = {name: "DELTA_BYTE_ARRAY" for name in columns if not beside or name not in beside}
    made = {"plain": {}, "delta": {"use_dictionary": beside, "column_encoding": delta, "row_group_size": 1900}}
    found = []
    for name, options in made.items():
        path = tmp_path / name / "a.parquet"
        path.parent.mkdir()
        path.write_bytes(parquet_bytes(table, **options))
        found.append(read_table(source_of(path, keep=("lang",))).drop_columns(["file"]))
    assert found[0].num_rows == 5000
    assert found[0].equals(found[1])


@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}},
        {"dictionary_pagesize_limit": 100, "write_batch_size": 5},
        {"use_dictionary": False},
    ],
)
def test_encodings_without_dictionaries_are_read_as_before(tmp_path: Path, options: dict[str, Any]) -> None:
    """pyarrow refuses to read some of them as dictionaries."""
    path = tmp_path / "a.parquet"
    table = pa.table({"id": [f"{row}" for row in range(500)], "text": [f"text {row}" for row in range(500)]})
    path.write_bytes(parquet_bytes(table, **options))
    assert read_rows(path) == [(f"{row}", f"text {row}", None) for row in range(500)]
