"""Discovery and the look at the columns, before anything is planned."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.checks import find_contradictions
from pipeline.config.schema import Config, Rows
from pipeline.errors import ConfigError, InputError
from pipeline.source.discover import discover
from pipeline.source.schema import inspect

from .conftest import FORMATS, jsonl_bytes, parquet_bytes, plan, read_rows, read_table, source_of, zstd_bytes


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("a.parquet", ("parquet", "none")),
        ("a.PQ", ("parquet", "none")),
        ("a.feather", ("arrow", "none")),
        ("a.ndjson.gz", ("jsonl", "gzip")),
        ("a.JSON.Zst", ("jsonl", "zstd")),
        ("a.b.csv.gzip", ("csv", "gzip")),
        ("a.tsv.zstd", ("tsv", "zstd")),
        ("a.text", ("text", "none")),
    ],
)
def test_format_and_compression_by_name(tmp_path: Path, name: str, due: tuple[str, str]) -> None:
    touch(tmp_path, name)
    [file] = discover(source_of(tmp_path))
    assert (file.format, file.compression) == due


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.gz", "a.parquet.gz", "a.arrow.zst", "a.txt.bz2", "a.zip"])
def test_a_name_that_does_not_tell_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "0.jsonl", name)
    with pytest.raises(InputError, match=f"/{name}: "):
        discover(source_of(tmp_path))


@pytest.mark.parametrize("name", ["a.txt.bz2", "a.jsonl.XZ", "a.csv.zip", "a.lz4"])
def test_a_compression_that_cant_be_read_is_refused_even_with_a_format(tmp_path: Path, name: str) -> None:
    """Its bytes would be rows of rubbish."""
    touch(tmp_path, name)
    with pytest.raises(InputError, match=rf"/{name}: .*gzip or zstd"):
        discover(source_of(tmp_path, format="text"))


def test_folders_between_root_and_file_are_columns(tmp_path: Path) -> None:
    touch(tmp_path, "a=0/lang=en/day=2024-01-01/x.jsonl", "a=0/lang=%C3%A9%2F=%3D/plain/=no/x.jsonl")
    files = discover(source_of(tmp_path / "a=0"))
    assert [file.folders for file in files] == [(("lang", "é/=="),), (("lang", "en"), ("day", "2024-01-01"))]
    files = discover(source_of(tmp_path / "a=0", root=str(tmp_path)))
    assert [file.path for file in files] == [
        "a=0/lang=%C3%A9%2F=%3D/plain/=no/x.jsonl",
        "a=0/lang=en/day=2024-01-01/x.jsonl",
    ]
    with pytest.raises(ConfigError, match=r"does not lie below"):
        discover(source_of(tmp_path, root=str(tmp_path / "a=0/lang=en")))


@pytest.mark.parametrize("name", ["lang=%ff/a.txt", "%C3=x/a.txt"])
def test_a_folder_whose_name_stands_for_no_text_is_refused(tmp_path: Path, name: str) -> None:
    """All such were one value, U+FFFD, of a column that may partition the result."""
    touch(tmp_path, name, "lang=%C3%A9/a.txt")
    with pytest.raises(InputError, match=f"{name}: a folder's name stands for bytes that are no UTF-8 .*; rename it"):
        discover(source_of(tmp_path, id=None))


@pytest.mark.parametrize("spelling", ["in", "./in", "in/", "in/../in", "file://{}/in", "{}/in/"])
def test_a_root_gives_the_same_ids_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """Files are found by absolute paths; a relative root would lie above none of them."""
    touch(tmp_path, "in/x/a.txt")
    monkeypatch.chdir(tmp_path)
    due = discover(source_of("in/x/*", id=None, root=str(tmp_path / "in")))
    assert [file.path for file in due] == ["x/a.txt"]
    assert discover(source_of("in/x/*", id=None, root=spelling.format(tmp_path))) == due


def test_paths_below_two_roots_must_differ_where_ids_are_made_of_them(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.txt", "two/a.txt")
    paths = [tmp_path / "one", tmp_path / "two"]
    assert [file.path for file in discover(source_of(*paths, id=None))] == ["one/a.txt", "two/a.txt"]


FOUND = [
    ({"text": "body"}, r"a\.parquet: there is no column 'body'; did you mean 'boty'"),
    ({"text": "n"}, r"a\.parquet: column 'n' is int64, not text"),
    ({"text": None, "template": "{text} {s}"}, r"a\.parquet: column 's' is struct<x: string>; a template takes"),
    ({"text": None, "template": "{text} {nope}"}, r"a\.parquet: there is no column 'nope'"),
    ({"id": "f"}, r"a\.parquet: id column 'f' is double; ids are text or whole numbers"),
    ({"keep": ("s",)}, r"a\.parquet: column 's' is struct<x: string>; only text, numbers"),
    ({"keep": ("raw",)}, r"a\.parquet: column 'raw' is binary; only text"),
    ({"keep": ("s.y",)}, r"a\.parquet: there is no column 's\.y'; did you mean 's\.x'"),
]


@pytest.mark.parametrize(("options", "message"), FOUND)
def test_a_column_that_cant_be_used_is_named_with_the_file(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    columns = {"id": [1], "text": ["a"], "boty": ["b"], "n": [1], "f": [0.5], "s": [{"x": "y"}], "raw": [b"z"]}
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(pa.table(columns)))
    with pytest.raises(InputError, match=message):
        plan(source_of(tmp_path, **options))
    plan(source_of(tmp_path, text="raw", keep=("s.x", "n", "f")))


def test_settings_that_plain_text_cant_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n")
    for options in ({}, {"id": None, "text": "body"}, {"id": None, "text": None, "template": "{text}!"}):
        with pytest.raises(ConfigError, match="plain text has no columns"):
            plan(source_of(tmp_path, **options))
    assert read_rows(tmp_path, id=None, text=None) == [("a.txt@0", "a", None)]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}')
    with pytest.raises(ConfigError, match=r"set input\.text"):
        plan(source_of(tmp_path, text=None))


def test_columns_are_those_of_the_first_file_with_rows(tmp_path: Path) -> None:
    """Writers that split their work leave empty files, often the first."""
    (tmp_path / "0.jsonl").write_bytes(b"")
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "2.jsonl").write_bytes(b"\n \n")
    with pytest.raises(InputError, match=r"0\.jsonl: there is no row in it, nor in any other input file"):
        plan(source_of(tmp_path))
    (tmp_path / "3.jsonl").write_bytes(b'{"id": 7, "text": "a"}\n')
    assert read_rows(tmp_path) == [(7, "a", None)]


@pytest.mark.parametrize("name", FORMATS)
def test_an_input_without_any_row_is_refused_whatever_its_format(tmp_path: Path, name: str) -> None:
    """Columns without rows publish nothing that anybody asked for; JSON lines would not even have columns."""
    (tmp_path / name).write_bytes(FORMATS[name]([]))
    with pytest.raises(InputError, match=f"{name}: there is no row in it, nor in any other input file"):
        plan(source_of(tmp_path))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.gz", "a.csv.zst", "a.txt.gz"])
def test_a_file_of_no_bytes_that_cant_be_empty_is_named(tmp_path: Path, name: str) -> None:
    """What wrote it failed: alone, and beside a file that has rows."""
    touch(tmp_path, name)
    options = {"id": None, "text": None} if ".txt" in name else {}
    for friend in ({}, {"0.txt": b"a\n"} if ".txt" in name else {"0.jsonl": b'{"id": "1", "text": "a"}\n'}):
        for other, data in friend.items():
            (tmp_path / other).write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}: is empty: 0 bytes are no (parquet|arrow|gzip|zstd) file"):
            read_rows(tmp_path, **options)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.csv.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named_with_what_to_do(tmp_path: Path, name: str, encoding: str) -> None:
    """Line by line it would be rows that are no JSON, columns nobody named, and text full of zeros."""
    content = '{"id": "1", "text": "a"}\n' if "jsonl" in name else "id,text\n1,a\n"
    data = content.encode(encoding)
    (tmp_path / name).write_bytes({".gz": gzip.compress, ".zst": zstd_bytes}.get(Path(name).suffix, bytes)(data))
    options = {"id": None, "text": None} if ".txt" in name else {}
    with pytest.raises(InputError, match=f"{name}, byte 0: the file is UTF-16(LE|BE)?, not UTF-8; convert it"):
        read_rows(tmp_path, **options)


def test_the_first_row_decides_no_more_than_others_what_the_text_is(tmp_path: Path) -> None:
    """A number where text is expected is a row to set aside, also in the first line."""
    (tmp_path / "a.jsonl").write_bytes(b'{"id": 1, "text": 7}\n{"id": 2, "text": "a"}\n')
    assert read_rows(tmp_path) == [(1, None, "not_a_string"), (2, "a", None)]


def test_whole_numbers_and_floats_in_one_json_column_are_floats(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "n": null}\n{"text": "a", "n": 1}\n{"text": "b", "n": 0.5}\n')
    _, extraction = plan(source_of(tmp_path, id=None, keep=("n",)))
    assert extraction.keep == (("n", pa.float64()),)


def test_csv_headers_are_read_as_rows_are(tmp_path: Path) -> None:
    """With the configured delimiter, and with line ends inside quotes."""
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"id";"the\ntext"\r\n1;"a"\r\n')
    assert read_rows(tmp_path, text="the\ntext", csv_delimiter=";") == [("1", "a", None)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", b"\x1f\x8bnot really"),
        ("a.jsonl.zst", b"x"),
        ("a.csv", b'"'),
        ("a.jsonl", b"[" * 99_999),
        ("a.jsonl", b"\xff"),
    ],
)
def test_a_first_file_that_is_damaged_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        plan(source_of(tmp_path))


@pytest.mark.parametrize("template", ["{a!r}", "{a:>10}", "{b} {a!s:5}"])
def test_a_template_with_conversions_is_refused(template: str) -> None:
    """They would be passed over, and another text embedded than was meant."""
    source = {"paths": ["/in"], "template": template}
    config = Config.model_validate({"input": source, "model": {"name": "./m"}, "output": {"path": "/out"}})
    [problem] = find_contradictions(config)
    assert problem.startswith("input.template: 'a' is followed by")


def test_verdicts_are_those_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id": 1, "text": "a"}\n')
    _, extraction = plan(source_of(tmp_path), Rows(null="refuse"))
    verdicts = dict(extraction.reject)
    assert (verdicts["null"], verdicts["malformed"], verdicts["null_id"]) == ("refuse", "refuse", "quarantine")


NULLS: dict[str, Callable[[list[Any]], bytes]] = {
    "jsonl": lambda values: jsonl_bytes([{"id": row, "text": "t", "n": value} for row, value in enumerate(values)]),
    "parquet": lambda values: parquet_bytes(
        pa.table({"id": range(len(values)), "text": ["t"] * len(values), "n": values})
    ),
}


@pytest.mark.parametrize("suffix", NULLS)
@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ([[None], [None, 5]], pa.int64()),
        ([[5], [None]], pa.int64()),
        ([[None], [None], [0.5]], pa.float64()),
        ([[None], [None]], pa.string()),
    ],
)
def test_a_column_without_values_has_the_type_it_has_in_the_next_file(
    tmp_path: Path, suffix: str, files: list[list[Any]], kind: pa.DataType
) -> None:
    """It was taken for text, and every other file refused, or not, as their names happened to sort."""
    for number, values in enumerate(files):
        (tmp_path / f"{number}.{suffix}").write_bytes(NULLS[suffix](values))
    source = source_of(tmp_path, keep=("n",))
    _, extraction = plan(source)
    assert extraction.keep == (("n", kind),)
    found = read_table(source)["keep.n"].to_pylist()
    assert found == [value for values in files for value in values]


def test_each_column_without_values_is_looked_for_by_itself(tmp_path: Path) -> None:
    """No file need have values in all columns: ids of the second, and what is kept of the third."""
    (tmp_path / "0.jsonl").write_bytes(jsonl_bytes([{"id": None, "text": "a", "n": None}]))
    (tmp_path / "1.jsonl").write_bytes(jsonl_bytes([{"id": 1, "text": "b", "n": None}]))
    (tmp_path / "2.jsonl").write_bytes(jsonl_bytes([{"id": None, "text": "c", "n": True}]))
    _, extraction = plan(source_of(tmp_path, keep=("n",)))
    assert (extraction.id_type, extraction.keep) == ("int64", (("n", pa.bool_()),))


def test_a_type_that_cant_be_kept_says_nothing_of_a_column_without_values(tmp_path: Path) -> None:
    """Its own file is refused for it; the others go on."""
    for name, value in {"0": None, "1": [1], "2": 7}.items():
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl_bytes([{"id": "i", "text": "t", "n": value}]))
    _, extraction = plan(source_of(tmp_path, keep=("n",)))
    assert extraction.keep == (("n", pa.int64()),)


def test_a_published_type_stays_where_no_file_fits_it_better(tmp_path: Path) -> None:
    """What was published as text, being null everywhere, would else stop all files for the first that has a number."""
    (tmp_path / "0.jsonl").write_bytes(jsonl_bytes([{"text": "a", "n": None}]))
    (tmp_path / "1.jsonl").write_bytes(jsonl_bytes([{"text": "b", "n": 5}]))
    source = source_of(tmp_path, id=None, keep=("n",))
    for published in (pa.string(), pa.int64()):
        due = (("n", published),)
        extraction = inspect(discover(source), source, Rows(), (), lambda found, due=due: found.keep == due)  # type: ignore[misc]
        assert extraction.keep == due
