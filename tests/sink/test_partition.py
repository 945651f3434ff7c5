"""Folder names as readers see them that guess types: DuckDB, pyarrow and Polars themselves are asked."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.sink.partition import folder_of

CONTRARY = {
    "number": ["0x10", "0X1f", "0b11", "0B1", "0x1_0", "1_0", "+5", " 5", "5 ", ".5", "5.", "inf", "-nan", "٣", "1２", "9" * 39],
    "date": [
        "2024-1-5", "1-1-1", "20-1-5", "05-01-2024", "05/01/2024", "5.1.2024", "1.2.3", "2024/01/05", "-2024-01-05", "0000-01-01",
        "+2024-01-05", "epoch", "EPOCH", "-epoch", "2024-01-05T12:30:00", "2024-01-05 12:30", "2024-01-05 12:30:00.5",
        "2024-01-05 12:30:00+01:00", "2024-01-05T12:30:00Z", "05/01/2024 12:30", "20240105T120000", "2024-01-0512:30",
        " 2024-1-5",
    ],
    "time": ["12:30", "12:30:00", "1:2:3", "16:9", "12:30:00.5"],
    "boolean": ["True", "FALSE"],
}  # fmt: skip
"""What some reader takes for something else, by what that is."""

HARMLESS = [
    "5", "-5", "0", "9223372036854775808", "9" * 38, "true", "false", "2024-01-05", "2024-01-05 12:30:00",
    "2024-01-05 12:30:00.000005", "2024-01", "2024-W01", "2024", "20240105", "1d", "0x", "0xG", "0o17", "0b2", "-0x10", "NULL",
    "null", "None", "t", "yes", "1 day", "P1D", "24:00", "12:60", "today", "1.20.300", "10.0.0.1", "[1]", "5%", "1,5",
    "00000000-0000-0000-0000-000000000001",
]  # fmt: skip

PIECES = [
    "0", "1", "5", "00", "05", "12", "24", "99", "2024", "20240105", "2024-01-05", "12:30", "-", "-", ".", "_", "/", ":", " ",
    "T", "Z", "+", "e", "0x", "0b", "inf", "nan", "epoch", "true", "NULL", "d", "a", "g", "٣",
]  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Reader → the text it gives for a value from its folder."""
    folder = tmp_path / "data"
    pq.write_table(pa.table({"x": [1]}), tmp_path / "file.parquet")
    readers: dict[str, Callable[[], object]] = {
        "duckdb": lambda: duckdb.sql(
            f"SELECT k::VARCHAR FROM read_parquet('{folder}/**/*.parquet', hive_partitioning=true)"
        ).fetchall()[0][0],
        "pyarrow": lambda: ds.dataset(folder, partitioning="hive").to_table()["k"][0].as_py(),
        "polars": lambda: pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).collect()["k"][0],
    }

    def read_all(name: str) -> dict[str, str]:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        shutil.copy(tmp_path / "file.parquet", folder / name)
        found = {reader: ask() for reader, ask in readers.items()}
        return {
            reader: str(value).lower() if isinstance(value, bool) else str(value) for reader, value in found.items()
        }

    return read_all


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in CONTRARY.items() for value in values])
def test_a_text_that_a_reader_takes_for_something_else_is_refused_with_what_that_is(kind: str, value: str) -> None:
    """DuckDB reads 16 from `0x10` and 2024-01-05 from `2024-1-5`; Polars can't read `12:30` at all."""
    with pytest.raises(InputError, match=f"would turn the text {value!r} into a {kind}".replace("+", r"\+")):
        folder_of(["k"], [value])


@pytest.mark.parametrize("value", HARMLESS)
def test_a_text_that_every_reader_leaves_alone_is_taken(value: str, read: Callable[[str], dict[str, str]]) -> None:
    assert set(read(folder_of(["k"], [value])).values()) == {value}


def test_whatever_is_taken_comes_back_from_every_reader(read: Callable[[str], dict[str, str]]) -> None:
    """Texts of pieces that numbers, dates and times are made of."""
    chance = random.Random(8)
    for _ in range(400):
        value = "".join(chance.choices(PIECES, k=chance.randint(1, 6)))
        try:
            folder = folder_of(["k"], [value])
        except InputError:
            continue
        assert set(read(folder).values()) == {value}
