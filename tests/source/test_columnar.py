"""Parquet and Arrow: column types, row groups, damage."""

import datetime as dt
import decimal
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.source.columnar import read_columnar
from pipeline.source.footers import read_footers
from pipeline.source.read import read_segment

from .conftest import POLICY, arrow_bytes, parquet_bytes, plan, read_rows, read_table, read_units, source_of

NAMES = ["a.parquet", "a.arrow", "b.arrow"]
"""`b.arrow` is a stream, as Hugging Face datasets write them."""


def write(folder: Path, name: str, table: pa.Table, rows: int = 1 << 20) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        path.write_bytes(parquet_bytes(table, row_group_size=rows))
    else:
        path.write_bytes(arrow_bytes(table, rows, streamed=name.startswith("b")))
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
     pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())],
    ids=str,
)  # fmt: skip
def test_text_and_ids_in_any_type_of_text(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    ids, texts = ["00123", "é", "", None, "5"], ["a", "", "c", "d", None]
    columns = [pa.array(values).cast(kind) for values in (ids, texts)]
    path = write(tmp_path, name, pa.table(columns, ["id", "text"]))
    due = [("00123", "a", None), ("é", "", None), ("", None, "null_id"), (None, None, "null_id"), ("5", None, "null")]
    assert read_rows(path) == due


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_are_not_utf8_reject_their_row_only(tmp_path: Path, name: str) -> None:
    """Parquet writers don't check; taken on trust they end a run much later, where nobody knows the row any more."""
    bad = pa.array([b"ok", b"\xff\xfe" * 50_000, b"ok"], pa.binary())
    good = pa.array(["a", "b", "c"])
    for column in ("id", "text", "lang"):
        table = pa.table({key: bad.view(pa.string()) if key == column else good for key in ("id", "text", "lang")})
        rows = read_table(source_of(write(tmp_path, name, table), keep=("lang",)))
        assert rows["kind"].to_pylist() == [None, "invalid_utf8", None]
        assert rows["raw"][1].as_py() == (b"\xff\xfe" * 50_000)[: 64 << 10]


KEPT: list[tuple[pa.DataType, pa.DataType, list[Any]]] = [
    (pa.int8(), pa.int32(), [1, None, -128]),
    (pa.int64(), pa.int64(), [2**62, None, 0]),
    (pa.uint8(), pa.int64(), [255, None, 0]),
    (pa.uint64(), pa.int64(), [2**63 - 1, None, 0]),
    (pa.float32(), pa.float32(), [0.5, None, 1.0]),
    (pa.bool_(), pa.bool_(), [True, None, False]),
    (pa.date32(), pa.date32(), [dt.date(2024, 2, 29), None, dt.date(1, 1, 1)]),
    (pa.date64(), pa.date32(), [dt.date(2024, 2, 29), None, dt.date(1900, 1, 1)]),  # as which Parquet gives it back
    (pa.timestamp("ms"), pa.timestamp("us"), [dt.datetime(2024, 2, 29, 1, 2, 3), None, dt.datetime(1900, 1, 1)]),  # noqa: DTZ001
    (pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC"), [dt.datetime(2024, 2, 29, tzinfo=dt.UTC), None, None]),
    (pa.decimal128(20, 3), pa.decimal128(20, 3), [decimal.Decimal("12345678901234567.125"), None, None]),
    (pa.dictionary(pa.int32(), pa.string()), pa.string(), ["x", None, "x"]),
    (pa.large_string(), pa.string(), ["x", None, ""]),
    (pa.null(), pa.string(), [None, None, None]),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "becomes", "values"), KEPT, ids=lambda value: str(value)[:20])
def test_kept_columns_hold_the_values_they_had(
    tmp_path: Path, name: str, kind: pa.DataType, becomes: pa.DataType, values: list[Any]
) -> None:
    column = (
        pa.array(values, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)
    )
    path = write(tmp_path, name, pa.table({"id": ["1", "2", "3"], "text": ["a"] * 3, "k": column}))
    kept = read_table(source_of(path, keep=("k",)))["keep.k"]
    assert kept.type == becomes
    assert kept.to_pylist() == values


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array(["1"]), pa.array([1])),
        (pa.array([1], pa.int32()), pa.array([2**31])),
        (pa.array([0.5], pa.float32()), pa.array([0.1])),
        (pa.array([0.5]), pa.array([2**53 + 1])),
        (pa.array([1], pa.int64()), pa.array([2**63], pa.uint64())),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("ns"))),
        (pa.array([True]), pa.array([1])),
        (pa.array([1], pa.date32()), pa.array([1], pa.timestamp("s"))),
        (pa.array([1]), pa.array([[1]])),
    ],
    ids=lambda array: f"{array.type} {array[0]}",
)
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_column_whose_type_changes_between_files_is_named(
    tmp_path: Path, name: str, first: pa.Array, then: pa.Array
) -> None:
    """A value may be widened, never changed: 0.1 as float32 is another number."""
    write(tmp_path, f"0{name}", pa.table({"text": ["a"], "k": first}))
    write(tmp_path, f"1{name}", pa.table({"text": ["a"], "k": then}))
    with pytest.raises(InputError, match=rf"1{name}.*column 'k'"):
        read_table(source_of(tmp_path, id=None, keep=("k",)))


@pytest.mark.parametrize(
    "then", [pa.array([1]), pa.array([["a"]]), pa.array([{"a": 1}])], ids=lambda array: str(array.type)
)
def test_a_text_column_of_another_type_in_a_later_file_is_named(tmp_path: Path, then: pa.Array) -> None:
    write(tmp_path, "0.parquet", pa.table({"id": ["1"], "text": ["a"]}))
    write(tmp_path, "1.parquet", pa.table({"id": ["1"], "text": then}))
    with pytest.raises(InputError, match=r"1\.parquet: column 'text' is"):
        read_rows(tmp_path)
    if pa.types.is_nested(then.type):
        with pytest.raises(InputError, match=r"1\.parquet: column 'text' is"):
            read_rows(tmp_path, text=None, template="{text}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["text", "a.b"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str, text: str) -> None:
    """Whichever of them were taken, it might be the wrong one. Of columns that nobody asked for it doesn't matter."""
    inner = pa.StructArray.from_arrays([pa.array(["x"]), pa.array(["y"]), pa.array(["z"])], ["b", "b", "c"])
    columns = [pa.array(["1"]), pa.array(["a"]), pa.array(["b"]), inner]
    path = write(tmp_path, name, pa.table(columns, ["id", "text", "text", "a"]))
    with pytest.raises(InputError, match=rf"{name}: 2 columns are called"):
        read_rows(path, text=text)
    write(tmp_path, "0.parquet", pa.table({"id": ["1"], "text": ["a"], "a": [{"b": "x"}]}))
    with pytest.raises(InputError, match=rf"{name}: 2 columns are called"):
        read_rows(tmp_path, text=text)
    assert read_rows(path, text="a.c") == [("1", "z", None)]


def test_a_template_in_the_place_of_a_column_is_told_where_it_belongs(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", pa.table({"title": ["a"], "body": ["b"]}))
    with pytest.raises(
        InputError, match=r"no column '\{title\} \{body\}'.* set as input\.template, in the place of input\.text$"
    ):
        read_rows(tmp_path, text="{title} {body}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("text", "hint"), [("text", "it has 'id', 'body', 'a'"), ("bodies", "'body'"), ("a.b", "'a.c'")]
)
def test_a_missing_column_is_named_in_any_file(tmp_path: Path, name: str, text: str, hint: str) -> None:
    path = write(tmp_path, name, pa.table({"id": ["1"], "body": ["a"], "a": [{"c": "x"}]}))
    with pytest.raises(InputError, match=rf"{name}: there is no column '{text}'; .*{hint}"):
        read_rows(path, text=text)
    write(tmp_path, "0.parquet", pa.table({"id": ["1"], "text": ["a"], "bodies": ["b"], "a": [{"b": "x"}]}))
    with pytest.raises(InputError, match=rf"/{name}: there is no column '{text}'"):
        read_rows(tmp_path, text=text)


def test_dates_are_dates_in_whatever_unit_a_file_has_them(tmp_path: Path) -> None:
    """Arrow files hold days or milliseconds, Parquet days. Milliseconds within a day would be lost, and are refused."""
    day = dt.date(2024, 2, 29)
    for name, kind in (("0.parquet", pa.date32()), ("1.arrow", pa.date64()), ("2.arrow", pa.date32())):
        write(tmp_path, name, pa.table({"text": ["a"], "k": pa.array([day], kind)}))
    assert read_table(source_of(tmp_path, id=None, keep=("k",)))["keep.k"].to_pylist() == [day] * 3
    write(tmp_path, "3.arrow", pa.table({"text": ["a"], "k": pa.array([5]).cast(pa.date64())}))
    with pytest.raises(InputError, match=r"3\.arrow.*column 'k'"):
        read_table(source_of(tmp_path, id=None, keep=("k",)))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_any_column_that_is_asked_for_says_which_it_has(tmp_path: Path, name: str) -> None:
    """Not those alone that were read of it, which are none."""
    write(tmp_path, "0.parquet", pa.table({"id": ["1"], "text": ["a"]}))
    write(tmp_path, name, pa.table({"key": ["1"], "body": ["a"], "n": [1]}))
    with pytest.raises(InputError, match=rf"{name}: there is no column 'text'; it has 'key', 'body', 'n'"):
        read_rows(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_files_without_rows_or_columns(tmp_path: Path, name: str) -> None:
    """An empty pandas frame writes columns of type null: types are those of a file that has rows."""
    empty = write(tmp_path, name, pa.table({"id": pa.nulls(0), "text": pa.nulls(0)}))
    assert read_rows(empty) == []
    full = write(tmp_path, "c.parquet", pa.table({"id": [7], "text": ["a"]}))
    assert read_rows(tmp_path) == [(7, "a", None)]
    none = write(tmp_path, name, pa.table({}))
    assert sum(unit.rows.num_rows for unit in read_units(source_of(full, none, id=None))) == 1  # in one segment or two


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 7, 500, 1500])
def test_pieces_of_a_file_give_its_rows_in_order(tmp_path: Path, name: str, rows: int) -> None:
    """Many row groups, and a single big one that is read as a stream."""
    table = pa.table({"id": range(1500), "text": [f"text {row}" * 20 for row in range(1500)], "n": ["x"] * 1500})
    path = write(tmp_path, name, table, rows)
    source = source_of(path)
    [*segments], extraction = plan(source)
    units = [unit for segment in segments for unit in read_segment(segment, extraction, POLICY, POLICY.rows)]
    assert [row for unit in units for row in unit.rows["id"].to_pylist()] == list(range(1500))
    assert [row for unit in units for row in unit.rows["position"].to_pylist()] == list(range(1500))
    assert [unit.spans[0].start for unit in units[1:]] == [unit.spans[0].stop for unit in units[:-1]]
    last = segments[0].pieces[0].file
    footer = read_footers([last]).get(last.uri)
    assert (footer is None) == (name == "b.arrow")
    assert footer is None or (sum(footer.rows), len(footer.rows)) == (1500, -(-1500 // rows))
    assert len(segments) > 1 or rows == 1500 or name == "b.arrow"


class Counting(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_reading_some_batches_of_an_arrow_file_reads_little_of_the_rest(tmp_path: Path) -> None:
    """Every piece counts the rows before it; reading their text for that would make a big file quadratic."""
    table = pa.table({"text": ["x" * 500] * 20_000, "id": range(20_000)})
    path = write(tmp_path, "a.arrow", table, rows=1000)
    segments, extraction = plan(source_of(path))
    assert len(segments) == 20
    for segment in (segments[0], segments[10], segments[-1]):
        file = Counting(path.read_bytes())
        assert sum(len(columns.position) for columns in read_columnar(file, segment.pieces[0], extraction)) == 1000
        assert file.count < 1_000_000
