"""Small files whose rows or names would grow without end: told in a sentence, in little memory, and let go of afterwards."""

import traceback
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.schema import Rows
from pipeline.errors import InputError
from pipeline.source import delimited, schema, text_lines
from pipeline.source.records import UnitPolicy

from .conftest import arrow_bytes, jsonl_bytes, parquet_bytes, read_rows, read_units, source_of, zstd_bytes

EVIL = pa.StructArray.from_arrays([pa.array(["x", "y"])] * 300, [f"\x1b[2J\nfield{number}" for number in range(300)])
"""A type whose spelling clears a terminal, and fills it."""


def test_a_row_of_quoted_lines_without_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is short and so is each field; together they are a row that no memory holds."""
    monkeypatch.setattr(delimited, "ROW_BYTES", 1 << 20)
    (tmp_path / "a.csv").write_text('id,text\n1,a\n2,"' + 'a\n","' * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv, row 1: its row takes more than 1,048,576 bytes, .*check quotes"):
        read_units(source_of(tmp_path), Rows(max_text_bytes=1000))


@pytest.mark.parametrize("text", ["1,2,3," * 1_300_000, "12,34," * 1_300_000, "é,ü," * 1_300_000, "\n" * 1_000_000])
def test_a_text_of_8_mib_is_read_whatever_is_in_it(tmp_path: Path, text: str) -> None:
    """A comma in quotes can't be told from one between fields before its row is read, and counts as one."""
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{text}"\n', encoding="utf-8", newline="")
    assert read_rows(tmp_path) == [("1", text, None)]


def test_the_next_row_is_counted_from_its_own_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "ROW_BYTES", 1 << 18)
    (tmp_path / "a.csv").write_text("id,text\n" + f'1,"{"x" * 1000}\n{"y" * 1000}"\n' * 1000, encoding="utf-8")
    units = read_units(source_of(tmp_path), Rows(max_text_bytes=3000))
    assert sum(unit.rows.num_rows for unit in units) == 1000


def test_a_header_of_too_many_columns_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MOST_COLUMNS", 100)
    (tmp_path / "a.csv").write_text("id,text" + "," * 99 + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv, the header: more than 100 columns"):
        read_rows(tmp_path)


def test_an_error_that_is_kept_keeps_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first errors wait until no other file will do, ten at most; each held the 256 MiB of the row that it is about."""
    monkeypatch.setattr(delimited, "ROW_BYTES", 1 << 20)
    (tmp_path / "a.csv").write_text('id,text\n1,"' + 'a\n","' * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match="its row takes") as caught:
        read_units(source_of(tmp_path), Rows(max_text_bytes=1000))
    error: BaseException | None = caught.value
    held = []
    while error is not None:
        held += [value for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()]
        error = error.__cause__
    assert len(held) > 20
    assert not [value for value in held if type(value).__module__ == "_csv" and not isinstance(value, BaseException)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.arrow", "a.parquet"])
def test_a_column_that_is_asked_for_is_found_behind_any_number_of_others(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of columns that nobody asks for only so many are noted; it lies in one of those that come behind them."""
    monkeypatch.setattr(schema, "MOST_NAMES", 3)
    row = {"id": "1", "a": {"b": 1, "c": 2, "d": 3, "e": 4}, "doc": {"in": {"text": "x", "more": "y"}}}
    late = {"id": "0", "a": {"b": 1, "c": 2, "d": 3, "e": 4}}
    table = pa.Table.from_pylist([row])
    data = {"a.jsonl": lambda: jsonl_bytes([late, row]), "a.arrow": lambda: arrow_bytes(table)}
    (tmp_path / name).write_bytes(data.get(name, lambda: parquet_bytes(table))())
    assert read_rows(tmp_path, text="doc.in.text", keep=("doc.in.more",))[-1] == ("1", "x", None)


def test_names_too_long_to_be_meant_are_not_noted_and_their_file_is_read(tmp_path: Path) -> None:
    """Each column in it would be known by a name of its own of half a megabyte."""
    long = "k" * 500_000
    (tmp_path / "a.jsonl").write_bytes(jsonl_bytes([{"id": "1", "text": "a", long: {"x": 1, "y": {"z": 2}}}]))
    assert read_rows(tmp_path) == [("1", "a", None)]
    with pytest.raises(InputError, match=r"there is no column 'body'; it has 'id', 'text'$"):
        read_rows(tmp_path, text="body")


@pytest.mark.parametrize(("options", "what"), [({}, "text"), ({"keep": ("k",)}, "k")])
@pytest.mark.parametrize("first", [True, False])
def test_a_type_of_many_odd_names_is_told_in_a_sentence(
    tmp_path: Path, options: dict[str, tuple[str, ...]], what: str, first: bool
) -> None:
    """Whether columns are resolved with that file or with another one."""
    if first:
        good = pa.table({"id": ["1", "2"], "text": ["a", "b"], "k": ["c", "d"]})
        (tmp_path / "0.parquet").write_bytes(parquet_bytes(good))
    columns = {"id": pa.array(["1", "2"]), "text": pa.array(["a", "b"]), "k": pa.array(["c", "d"])} | {what: EVIL}
    (tmp_path / "1.parquet").write_bytes(parquet_bytes(pa.table(columns)))
    with pytest.raises(InputError, match=rf"1\.parquet: column '{what}' is struct<") as caught:
        read_rows(tmp_path, **options)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600


def test_a_time_zone_of_control_characters_is_told_in_a_sentence(tmp_path: Path) -> None:
    when = pa.array([1], pa.timestamp("us", "\x1b[2J" + "z" * 5000))
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(pa.table({"id": ["1"], "t": when})))
    with pytest.raises(InputError, match="time zone is not one that is known here") as caught:
        read_rows(tmp_path, text=None, template="{t}")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000


def test_blank_lines_without_end_in_a_packed_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes of them are hours of looking for the row behind."""
    monkeypatch.setattr(text_lines, "MOST_BLANK", 10)
    row = b'{"id": "1", "text": "a"}\n'
    (tmp_path / "a.jsonl.zst").write_bytes(zstd_bytes(row + b" \n" * 10 + row))
    assert len(read_rows(tmp_path)) == 2
    (tmp_path / "a.jsonl.zst").write_bytes(zstd_bytes(row + row + b"\n" * 11 + row))
    with pytest.raises(InputError, match=r"a\.jsonl\.zst, row 2: more than 10 blank lines in a row; remove them"):
        read_rows(tmp_path)
    (tmp_path / "a.jsonl.zst").unlink()
    (tmp_path / "a.jsonl").write_bytes(row + b"\n" * 11 + row)  # its size says how long the look takes
    assert len(read_rows(tmp_path)) == 2


def test_rows_that_are_set_aside_leave_no_room_behind_in_their_unit(tmp_path: Path) -> None:
    """A unit has a cap on what is kept of its rows, not on what they once were: hundreds of 32 MiB each lay in one."""
    rows = [{"id": f"{number}", "text": "x" * 100_000} for number in range(50)]
    (tmp_path / "a.jsonl").write_bytes(jsonl_bytes(rows))
    [unit] = read_units(source_of(tmp_path), Rows(max_text_bytes=50_000), UnitPolicy(100, 32 << 20, 1 << 20))
    assert unit.rows["kind"].to_pylist() == ["oversize"] * 50
    assert unit.rows["text"].get_total_buffer_size() < 10_000
