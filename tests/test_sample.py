"""`pipeline.sample`: real text for a first run, the same for the same installation."""

import json
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
import pytest
from support.space import nothing_fits

from pipeline.errors import ConfigError, StorageError
from pipeline.sample import find_docstrings, write_sample

SOURCES = {
    "a/__init__.py": '"""The package."""\n',
    "a/one.py": '"""Module one."""\n\nclass A:\n    """Class A."""\n    def f(self):\n        """Method f."""\n'
    "        def g():\n            '''Inner g.'''\n\nasync def h():\n    '''   '''\n",
    "b.py": "def f():\n    'b.f'\n\ndef f():\n    'b.f again'\n",
    "latin.py": b'# -*- coding: latin-1 -*-\n"""caf\xe9"""\n',
    "surrogate.py": '"""\\ud800"""\n',
    "broken.py": "def (:\n",
    "null.py": b'"""x"""\x00',
    "escape.py": '"""\\d is no escape"""\n',
    "site-packages/c.py": '"""Listed under its own root."""\n',
    "__pycache__/d.py": '"""Never."""\n',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small installation."""
    for name, text in SOURCES.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "lib"


@pytest.fixture
def small(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small installation as this Python's own."""
    monkeypatch.setattr("pipeline.sample.installed", lambda: [root])


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_docstrings_are_found_under_ids_that_occur_once(root: Path) -> None:
    found = {entry.id: entry.text for entry in find_docstrings([root], 100)}
    assert found == {
        "a:": "The package.",
        "a.one:": "Module one.",
        "a.one:A": "Class A.",
        "a.one:A.f": "Method f.",
        "a.one:A.f.g": "Inner g.",
        "b:f": "b.f",
        "latin:": "café",
        "escape:": "\\d is no escape",
    }


def test_fewer_rows_come_from_as_many_places_as_they_can(root: Path) -> None:
    """The first rows of a sorted list would all be of one package."""
    for number in range(200):
        (root / f"m{number:03}.py").write_text(f'"""Module {number}."""\n', encoding="utf-8")
    numbers = [int(entry.module[1:]) for entry in find_docstrings([root], 20) if entry.module.startswith("m")]
    assert len(numbers) >= 10
    assert max(numbers) - min(numbers) > 100


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_the_same_installation_gives_the_same_bytes(tmp_path: Path, small: None, file_format: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        written = write_sample(directory, rows=5, shards=2, file_format=file_format)  # type: ignore[arg-type]
        assert (written.rows, written.shards) == (5, 2)
    assert contents(one) == contents(two)
    assert sorted(contents(one)) == [f"sample-000.{file_format}", f"sample-001.{file_format}"]
    rows = (
        pq.read_table(one).to_pylist()
        if file_format == "parquet"
        else [json.loads(line) for path in sorted(one.iterdir()) for line in path.read_text("utf-8").splitlines()]
    )
    assert len({row["id"] for row in rows}) == 5
    assert all(list(row) == ["id", "text", "module", "package"] and row["text"] for row in rows)


def test_a_second_sample_replaces_the_first_and_leaves_what_is_the_same(tmp_path: Path, small: None) -> None:
    """An unchanged shard stays the version it is: the next run has nothing to do."""
    out = tmp_path / "out"
    write_sample(out, rows=8, shards=4, file_format="parquet")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    write_sample(out, rows=8, shards=4, file_format="parquet")
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    write_sample(out, rows=8, shards=1, file_format="jsonl")
    assert list(contents(out)) == ["sample-000.jsonl"]


def test_a_folder_with_other_files_is_refused_untouched(tmp_path: Path, small: None) -> None:
    """`embedpipe sample ~/data` must not delete anything there."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.parquet").write_bytes(b"years")
    with pytest.raises(ConfigError, match=r"thesis\.parquet"):
        write_sample(tmp_path / "mine", rows=5, shards=1, file_format="parquet")
    assert contents(tmp_path / "mine") == {"thesis.parquet": b"years"}
    with pytest.raises(ConfigError, match="is a file"):
        write_sample(tmp_path / "mine" / "thesis.parquet", rows=5, shards=1, file_format="parquet")


def test_where_there_are_not_enough_texts_fewer_are_written(tmp_path: Path, small: None) -> None:
    written = write_sample(tmp_path / "out", rows=1000, shards=3, file_format="parquet")
    assert written.rows == 8
    assert pq.read_table(tmp_path / "out").num_rows == 8


def test_this_python_holds_real_text(tmp_path: Path) -> None:
    written = write_sample(tmp_path / "out", rows=300, shards=2, file_format="parquet")
    texts = pq.read_table(tmp_path / "out")["text"].to_pylist()
    assert written.rows == len(texts) == 300
    assert written.packages > 5
    assert sum(len(text.split()) for text in texts) > 300 * 10


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_a_full_disk_is_no_bug(tmp_path: Path, file_format: Literal["parquet", "jsonl"]) -> None:
    with nothing_fits(), pytest.raises(StorageError, match=f"writing {tmp_path / 'out'}: .*File too large"):
        write_sample(tmp_path / "out", rows=3, shards=1, file_format=file_format)
