"""CSV and TSV against Python's csv module."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import Rows
from pipeline.errors import InputError

from .conftest import PATIENT, read_rows, read_table, source_of

FIELDS = st.text(st.sampled_from('ab,;"\n\r\té\u2028\x85\x0c 0'), max_size=6)


def write(folder: Path, content: bytes | str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@PATIENT
@given(
    st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=12),
    st.sampled_from([",", ";", "\t", "|", "é"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.booleans(),
)
def test_rows_are_those_of_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, delimiter: str, end: str, quoting: Any, bom: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("id", "text", "a, b\n"), *rows])
    content = text.getvalue()
    path = write(tmp_path_factory.mktemp("csv"), ("\ufeff" if bom else "") + content)
    try:
        due = list(csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:  # a lone \r was left unquoted
        with pytest.raises(InputError, match=r"a\.csv, row \d"):
            read_rows(path, csv_delimiter=delimiter)
        return
    if any(None in row or None in row.values() for row in due):
        with pytest.raises(InputError, match="fields, but the header names 3"):
            read_rows(path, csv_delimiter=delimiter)
        return
    table = read_table(source_of(path, csv_delimiter=delimiter, keep=("a, b\n",)))
    assert table["id"].to_pylist() == [row["id"] for row in due]
    assert table["keep.a, b\n"].to_pylist() == [row["a, b\n"] for row in due]
    accepted = [row["text"] if row["id"] else None for row in due]
    assert table["text"].to_pylist() == accepted


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"id,text\n", []),
        (b"id,text", []),
        (b"\n\n", []),
        (b"id,text\n1,a", [("1", "a", None)]),
        (b"\xef\xbb\xbfid,text\r\n1,a\r\n", [("1", "a", None)]),
        (b"id,text\n\n1,a\n\n\n2,b\n", [("1", "a", None), ("2", "b", None)]),
        (b'id,text\n1,"a\n\nb"\n', [("1", "a\n\nb", None)]),
        (b'id,text\n1,"a ""b"""\n00123,\n', [("1", 'a "b"', None), ("00123", "", None)]),
        (b'text,id,x\n"a",1,\n', [("1", "a", None)]),
        (b"id,text\n1,a\n,b\n", [("1", "a", None), ("", None, "null_id")]),
        (
            b"id,text\n1,\xff\n2,b\n\xfe,c\n",
            [("1", None, "invalid_utf8"), ("2", "b", None), (None, None, "invalid_utf8")],
        ),
        (b"id,text\n1,\xed\xa0\x80\n", [("1", None, "invalid_utf8")]),
    ],
)
def test_what_a_row_is(tmp_path: Path, content: bytes, rows: list[Any]) -> None:
    assert read_rows(write(tmp_path, content)) == rows


def test_a_row_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    """In a column that is only carried along, too: no warehouse would load it."""
    path = write(tmp_path, b"id,text,lang\n1,a,\xe9\n2,b,en\n")
    table = read_table(source_of(path, keep=("lang",)))
    assert table["kind"].to_pylist() == ["invalid_utf8", None]
    assert table["raw"].to_pylist() == [b"\xe9", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,text\n1,a\n2\n", r"a\.csv, row 1: 1 fields, but the header names 2"),
        (b"id,text\n1,a,b\n", r"a\.csv, row 0: 3 fields"),
        (b'id,text\n1,a\n2,"b\n3,c\n', r"a\.csv, row 1: unexpected end of data"),
        (b'id,text\n1,"a"b\n', r"a\.csv, row 0: .*check quotes"),
        (b'"id,text\n1,a\n', r"a\.csv, the header: unexpected end of data"),
        (b"id,body\n1,a\n", r"a\.csv: there is no column 'text'; it has 'id', 'body'"),
        (b"id,texts\n1,a\n", r"did you mean 'texts'"),
        (b"id,text,text\n1,a,b\n", r"a\.csv: 2 columns are called 'text'"),
    ],
)
def test_what_is_not_such_a_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """In the file that columns are taken from, and in any other."""
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=message):
        read_rows(path)
    if b"id" in content:
        write(tmp_path, b"id,text\n1,a\n", "0.csv")
        with pytest.raises(InputError, match=message.replace("'id', 'body'", ".*")):
            read_rows(tmp_path)


def test_columns_that_nobody_asked_for_may_share_a_name(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, "id,,,text\n1,2,3,a\n")) == [("1", "a", None)]


def test_tsv_goes_by_tabs_whatever_the_delimiter_of_csv_is(tmp_path: Path) -> None:
    path = write(tmp_path, "id\ttext\n1\ta;b\n", "a.tsv")
    assert read_rows(path, csv_delimiter=";") == [("1", "a;b", None)]


def test_a_configured_format_goes_before_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, "id;text\n1;a\n", "export.2024")
    assert read_rows(path, format="csv", csv_delimiter=";") == [("1", "a", None)]


def test_a_text_beyond_the_cap_is_a_row_and_a_field_without_end_is_named(tmp_path: Path) -> None:
    """A quote that is never closed would take the rest of the file into memory."""
    rows = Rows(max_text_bytes=40_000)
    path = write(tmp_path, f"id,text\n1,{'x' * 40_001}\n2,b\n")
    table = read_table(source_of(path), rows)
    assert table["kind"].to_pylist() == ["oversize", None]
    assert table["raw"][0].as_py() == b"x" * 40_001
    path = write(tmp_path, f'id,text\n1,a\n2,"{"x" * 200_000}\n')
    with pytest.raises(InputError, match=r"a\.csv, row 1: a line is longer than 160,000 characters, .*check quotes"):
        read_table(source_of(path), rows)


def test_a_line_too_long_is_told_with_the_limit_it_met(tmp_path: Path) -> None:
    """However small the cap on a text, lines may be of 128 KiB: four times the cap is another number."""
    path = write(tmp_path, f"id,text\n1,{'x' * 131_072}\n")
    with pytest.raises(
        InputError, match=r"longer than 131,072 characters, the larger of 131,072 and four times rows\.max"
    ):
        read_table(source_of(path), Rows(max_text_bytes=1000))


def test_a_quoted_field_of_many_lines_without_end_is_named(tmp_path: Path) -> None:
    """Each line is short; what is between the quotes would take the rest of the file into memory."""
    path = write(tmp_path, 'id,text\n1,a\n2,"' + "x\n" * 100_000)
    with pytest.raises(InputError, match=r"a\.csv, row 1: field larger than field limit .*check quotes"):
        read_table(source_of(path), Rows(max_text_bytes=40_000))
