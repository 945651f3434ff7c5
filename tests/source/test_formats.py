"""The same rows in every format come back as the same rows."""

import datetime as dt
import decimal
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.check.source_rows import kind_of
from pipeline.check.source_rows import read_rows as raw_rows
from pipeline.check.source_text import columns_of, text_of
from pipeline.config.schema import Rows
from pipeline.errors import InputError

from .conftest import (
    FORMATS,
    PATIENT,
    Record,
    arrow_bytes,
    jsonl_bytes,
    parquet_bytes,
    read_rows,
    read_table,
    source_of,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["00123", "", " ", "a\u2028b", "x\x85y\x0cz", 'say "hi"', "two\nlines", "cr\rlf\r\n", "a,b\tc", "null", "é" * 30]
)
RECORDS = st.lists(st.fixed_dictionaries({"id": TEXTS, "text": TEXTS}), max_size=12)
CAP = 40


def due_kind(record: Record) -> str | None:
    if len(record["text"].encode()) > CAP:
        return "oversize"
    return None if record["id"] else "null_id"


@PATIENT
@given(RECORDS)
def test_every_row_comes_out_once_as_text_or_kind_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    """A format in which "00123" became 123, or a text ended at U+2028, would embed something else."""
    folder = tmp_path_factory.mktemp("formats")
    due = [(r["id"], None if due_kind(r) else r["text"], due_kind(r)) for r in records]
    for name, write in FORMATS.items():
        path = folder / name
        path.write_bytes(write(records))
        if not records and "jsonl" in name:
            continue  # no rows, so no columns either
        table = read_table(source_of(path), Rows(max_text_bytes=CAP))
        found = zip(table["id"].to_pylist(), table["text"].to_pylist(), table["kind"].to_pylist(), strict=True)
        assert list(found) == due, name


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read_alike_from_disk_and_from_s3(name: str, root: str, tmp_path: Path) -> None:
    records = [{"id": f"{row:05}", "text": f"text {row}"} for row in range(50)]
    data = FORMATS[name](records)
    if root.startswith("s3://"):
        import boto3

        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/lang=en/{name}", Body=data)
    else:
        path = Path(root, "lang=en", name)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    table = read_table(source_of(f"{root}/**", keep=("lang",)))
    assert table.select(["id", "text"]).to_pylist() == records
    assert set(table["keep.lang"].to_pylist()) == {"en"}


def test_all_formats_at_once_through_a_list_of_folders_and_globs(tmp_path: Path) -> None:
    for number, (name, write) in enumerate(FORMATS.items()):
        path = tmp_path / f"day={number}" / name
        path.parent.mkdir()
        path.write_bytes(write([{"id": f"{number}-{row}", "text": "t"} for row in range(5)]))
    paths = (tmp_path / "day=0", *(tmp_path / f"day={number}" / "*" for number in range(1, 4)), tmp_path / "**/*")
    table = read_table(source_of(*paths, keep=("day",)))
    due = {(f"{number}-{row}", str(number)) for number in range(len(FORMATS)) for row in range(5)}
    assert len(table) == len(due)
    assert set(zip(table["id"].to_pylist(), table["keep.day"].to_pylist(), strict=True)) == due


def write_all(folder: Path, rows: list[dict[str, Any]], kinds: dict[str, Any]) -> list[Path]:
    """The rows as Parquet, Arrow and JSONL."""
    table = pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))
    files = {"a.parquet": parquet_bytes(table), "a.arrow": arrow_bytes(table), "a.jsonl": jsonl_bytes(rows)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def checked_texts(path: Path, template: str) -> list[str | None]:
    """The texts as `verify` makes them, which shares no code with the readers."""
    kind = kind_of(str(path), "auto")
    assert kind is not None
    text = {"column": None, "template": template}
    with path.open("rb") as file:
        return [text_of(row, text) for row in raw_rows(file, kind, ",", columns_of(text, "id"))]


def test_a_template_gives_the_same_text_in_every_format(tmp_path: Path) -> None:
    """And none where a field is null: half a text would be embedded as if it were whole."""
    rows = [
        {"id": "1", "t": "Title", "n": 7, "f": 1.0, "b": True, "s": {"f": 2.0}},
        {"id": "2", "t": "", "n": -1, "f": 0.1, "b": False, "s": {"f": 1e-7}},
        {"id": "3", "t": None, "n": 1, "f": 2.5, "b": True, "s": {"f": 1.0}},
        {"id": "4", "t": "x", "n": None, "f": 1e-7, "b": True, "s": {"f": 1.0}},
        {"id": "5", "t": "y", "n": 2**53, "f": 1e300, "b": None, "s": {"f": 1.0}},
        {"id": "6", "t": "z", "n": 2**53, "f": 1e300, "b": True, "s": None},
    ]
    inner = pa.struct([("f", pa.float64())])
    kinds = {"id": pa.string(), "t": pa.string(), "n": pa.int64(), "f": pa.float64(), "b": pa.bool_(), "s": inner}
    due = [("1", "Title {7} 1 true 2", None), ("2", " {-1} 0.1 false 1e-7", None)]
    due += [(number, None, "null") for number in "3456"]
    template = "{t} {{{n}}} {f} {b} {s.f}"
    for path in write_all(tmp_path, rows, kinds):
        for keep in ((), ("n", "f", "b")):
            assert read_rows(path, text=None, template=template, keep=keep) == due, path
        assert checked_texts(path, template) == [text for _, text, _ in due], path


def test_times_and_decimals_stand_in_a_template_as_arrow_writes_them(tmp_path: Path) -> None:
    when, price = dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC), decimal.Decimal("1.50")
    columns = {
        "id": ["1"],
        "when": pa.array([when], pa.timestamp("ms", "UTC")),
        "day": [when.date()],
        "price": [price],
        "small": pa.array([0.1], pa.float32()),
        "name": pa.array(["x"]).dictionary_encode(),
    }
    columns["s"] = pa.StructArray.from_arrays([columns["when"], columns["small"]], ["when", "small"])
    template = "{when} {day} {price} {small} {name} {s.when} {s.small}"
    text = "2024-02-29 01:02:03.000Z 2024-02-29 1.50 0.1 x 2024-02-29 01:02:03.000Z 0.1"
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(pa.table(columns)))
    assert read_rows(path, text=None, template=template) == [("1", text, None)]
    assert checked_texts(path, template) == [text]


def test_a_time_zone_that_nobody_knows_is_what_is_said_to_be_wrong(tmp_path: Path) -> None:
    """All files have the column in one type, so that no file can be mended by giving it that."""
    table = pa.table({"id": ["1"], "when": pa.array([0], pa.timestamp("us", "Foo/Bar"))})
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(table))
    said = r"a\.parquet: column 'when' is timestamp\[us, tz=Foo/Bar\], whose time zone is not one that is known here"
    with pytest.raises(InputError, match=said):
        read_rows(path, text=None, template="{when}")


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("a.parquet", 2**31 - 1, pa.date32()),
        ("a.arrow", 2**31 - 1, pa.date32()),
        ("a.parquet", -(2**31), pa.date32()),
        ("a.parquet", -5, pa.time32("ms")),
        ("a.parquet", 90_000_000, pa.time32("ms")),
        ("a.parquet", -1, pa.time64("us")),
    ],
)
def test_a_date_or_time_that_has_no_spelling_is_refused(
    tmp_path: Path, name: str, number: int, kind: pa.DataType
) -> None:
    """Arrow writes `<value out of range: …>` in the place of an error, and that was embedded. Such times of an Arrow file are
    refused as they are read."""
    plain = pa.array([0, None, number], pa.int32() if kind.bit_width == 32 else pa.int64())
    table = pa.table({"id": ["1", "2", "3"], "t": plain.cast(kind)})
    (tmp_path / name).write_bytes(parquet_bytes(table) if name == "a.parquet" else arrow_bytes(table))
    message = (
        rf"{name}, row 2: column 't' \({re.escape(str(kind))}\) holds a value out of range: {number}: no date or time"
    )
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path, text=None, template="at {t}")
    if kind == pa.date32():
        kept = read_table(source_of(tmp_path, text="id", keep=("t",)))["keep.t"]
        assert kept.cast(pa.int32()).to_pylist() == [0, None, number]


def test_text_that_looks_like_arrows_word_for_a_date_is_text(tmp_path: Path) -> None:
    said = "<value out of range: 5>"
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(pa.table({"id": ["1"], "t": [said]})))
    assert read_rows(tmp_path, text=None, template="{t}") == [("1", said, None)]


def test_a_missing_field_of_a_template_is_a_null_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "t": "a", "u": "b"}\n{"id": "2", "t": "a"}\n', encoding="utf-8")
    assert read_rows(path, text=None, template="{t}{u}") == [("1", "ab", None), ("2", None, "null")]


def test_nested_text_and_a_column_whose_name_has_a_dot(tmp_path: Path) -> None:
    """`a.b` is the column of that name where there is one, and else `b` inside `a`."""
    inner = pa.struct([("b", pa.string())])
    rows: list[dict[str, Any]] = [{"id": "1", "a": {"b": "in"}}, {"id": "2", "a": {"b": None}}, {"id": "3", "a": None}]
    for path in write_all(tmp_path, rows, {"id": pa.string(), "a": inner}):
        assert read_rows(path, text="a.b") == [("1", "in", None), ("2", None, "null"), ("3", None, "null")]
    for row in rows:
        row["a.b"] = "out"
    for path in write_all(tmp_path, rows, {"id": pa.string(), "a": inner, "a.b": pa.string()}):
        assert read_rows(path, text="a.b") == [(number, "out", None) for number in "123"]


def test_folders_give_columns_that_a_files_own_go_before(tmp_path: Path) -> None:
    folder = tmp_path / "lang=de%2FAT" / "day=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    rows = [{"id": "1", "text": "t", "own": "file"}]
    (tmp_path / "own=folder").mkdir()
    for name, data in (("a.jsonl", jsonl_bytes(rows)), ("a.csv", b"id,text,own\n1,t,file\n")):
        (folder / name).write_bytes(data)
        (tmp_path / "own=folder" / name).write_bytes(data)
        table = read_table(source_of(folder / name, root=str(tmp_path), keep=("day",)), partition_by=("lang",))
        assert (table["keep.lang"][0].as_py(), table["keep.day"][0].as_py()) == ("de/AT", None)
        table = read_table(source_of(tmp_path / "own=folder" / name, root=str(tmp_path), keep=("own",)))
        assert table["keep.own"].to_pylist() == ["file"]


def test_text_of_the_folder_alone_is_a_column_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "k=v").mkdir()
    for path in write_all(tmp_path / "k=v", [{"id": "1"}, {"id": "2"}], {"id": pa.string()}):
        assert read_rows(path, text="k", root=str(tmp_path)) == [("1", "v", None), ("2", "v", None)]
