"""Warehouses load what a job published, by plain glob and by manifest, and get every row with its types."""

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import committed, make_config, start

import pipeline
from pipeline.check.verify import verify
from pipeline.export.load import load_statement
from pipeline.export.snapshot import describe, list_files
from pipeline.flow.supervisor import run_job

Rows = dict[str, Mapping[str, Any]]
Read = Callable[[str], Rows]
KEEP = ("lang", "year", "day", "ok")


def shard(path: Path, numbers: range) -> None:
    """Rows whose ids look like numbers, with a column of every type that may name a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": [f"{number:05}" for number in numbers],
            "text": [f"text number {number} about {'rivers' if number % 3 else 'engines'}" for number in numbers],
            "lang": [["de", "pt/br"][number % 2] for number in numbers],
            "year": pa.array([1999 + number % 2 for number in numbers], pa.int32()),
            "day": pa.array([datetime.date(2026, 1, 1 + number % 2) for number in numbers]),
            "ok": [number % 2 == 0 for number in numbers],
        }
    )
    pq.write_table(table, path)


def expected(numbers: range) -> dict[str, tuple[Any, ...]]:
    """id → kept columns."""
    rows = {}
    for number in numbers:
        odd = number % 2
        rows[f"{number:05}"] = (["de", "pt/br"][odd], 1999 + odd, datetime.date(2026, 1, 1 + odd), not odd)
    return rows


def duckdb_glob(output: str) -> Rows:
    return _duckdb(f"FROM read_parquet('{output}/data/**/*.parquet', hive_partitioning = true)")


def duckdb_manifest(output: str) -> Rows:
    return _duckdb("FROM embeddings", load_statement("duckdb", describe(output)))


def _duckdb(query: str, *before: str) -> Rows:
    connection = duckdb.connect()
    for statement in before:
        connection.execute(statement)
    return _unique(connection.sql(query).to_arrow_table().to_pylist())


def polars_glob(output: str) -> Rows:
    return _unique(pl.scan_parquet(f"{output}/data/**/*.parquet", hive_partitioning=True).collect().to_dicts())


def polars_manifest(output: str) -> Rows:
    files = [file.uri for file in list_files(output)]
    return _unique(pl.scan_parquet(files, hive_partitioning=True).collect().to_dicts())


def pandas_folder(output: str) -> Rows:
    return _unique(pd.read_parquet(f"{output}/data").to_dict("records"))


def pandas_manifest(output: str) -> Rows:
    return _unique(pipeline.open_snapshot(output).to_table().to_pandas().to_dict("records"))


def arrow_manifest(output: str) -> Rows:
    return _unique(pipeline.open_snapshot(output).to_table().to_pylist())


def _unique(rows: list[Any]) -> Rows:
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows), "a row is there twice"
    return by_id


READERS: list[Read] = [
    duckdb_glob,
    duckdb_manifest,
    polars_glob,
    polars_manifest,
    pandas_folder,
    pandas_manifest,
    arrow_manifest,
]


def check(output: str, numbers: range) -> None:
    """Every reader gets every row, once, with its kept columns as they were and a vector of the right length."""
    due = expected(numbers)
    for read in READERS:
        rows = read(output)
        assert rows.keys() == due.keys(), read.__name__
        for row_id, row in rows.items():
            assert tuple(_plain(row[name], name) for name in KEEP) == due[row_id], (read.__name__, row_id)
            assert len(row["embedding"]) == 32
            assert (type(row["id"]), len(row["text_hash"])) == (str, 32)
            assert int(row["token_count"]) > 2


def _plain(value: Any, column: str) -> Any:
    """What readers that guess make of folder names, categories of `2026-01-01` or `true`, as the values meant."""
    if column == "day" and isinstance(value, str):
        return datetime.date.fromisoformat(value)
    if column == "ok" and isinstance(value, str):
        return {"true": True, "false": False}[value]
    return value.item() if hasattr(value, "item") else value


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three shards of 20 rows."""
    for number in range(3):
        shard(tmp_path / "in" / f"{number}.parquet", range(20 * number, 20 * number + 20))
    return tmp_path / "in"


@pytest.mark.parametrize("partition_by", [[], ["lang"], ["year", "day"], ["ok", "lang"]])
def test_every_reader_gets_every_row_with_its_types_from_any_layout(
    source: Path, tmp_path: Path, tiny_model: str, partition_by: list[str]
) -> None:
    """`00007` stays a string; `pt/br` survives as a folder; a date in a path comes back as a date."""
    output = str(tmp_path / "out")
    changes = {"input__keep": list(KEEP), "output__partition_by": partition_by, "units__rows": 8}
    pipeline.run(make_config(source, output, tiny_model, **changes))
    check(output, range(60))
    report = verify(output, sample=10)
    assert report.passed, report.failed


def test_partition_columns_have_the_sources_types_by_manifest(source: Path, tmp_path: Path, tiny_model: str) -> None:
    """Readers that guess give 64-bit integers or categories; the manifest knows."""
    output = str(tmp_path / "out")
    changes = {"input__keep": list(KEEP), "output__partition_by": ["lang", "year", "day", "ok"]}
    pipeline.run(make_config(source, output, tiny_model, **changes))
    schema = pipeline.open_snapshot(output).schema
    kinds = [schema.field(name).type for name in KEEP]
    assert kinds == [pa.string(), pa.int32(), pa.date32(), pa.bool_()]
    connection = duckdb.connect()
    connection.execute(load_statement("duckdb", describe(output)))
    found = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE embeddings)").fetchall())
    assert found["day"] == "DATE"
    assert found["ok"] == "BOOLEAN"
    assert found["embedding"] == "FLOAT[32]"


def test_after_a_changed_and_a_removed_shard_no_reader_sees_an_old_row(
    source: Path, tmp_path: Path, tiny_model: str
) -> None:
    """Old files stay below data/ until they are collected; a glob must not find them after a run that ended well."""
    output = str(tmp_path / "out")
    config = make_config(source, output, tiny_model, input__keep=list(KEEP), output__partition_by=["lang"])
    pipeline.run(config)
    shard(source / "2.parquet", range(40, 50))
    run_job(config, allow_drop=True)
    check(output, range(50))
    (source / "2.parquet").unlink()
    run_job(config, allow_drop=True)
    check(output, range(40))
    assert verify(output, sample=40).passed


@pytest.mark.parametrize("units", [2, 9])
def test_after_a_kill_and_a_rerun_no_reader_misses_a_row_or_sees_one_twice(
    source: Path, tmp_path: Path, tiny_model: str, units: int
) -> None:
    """With nine units of nine committed the driver is killed while it makes data files or publishes."""
    output = str(tmp_path / "out")
    changes = {"input__keep": list(KEEP), "output__partition_by": ["lang"], "units__rows": 8}
    config = make_config(source, output, tiny_model, **changes)
    process = start(config)
    for _ in zip(range(units), committed(process), strict=False):
        pass
    process.kill()
    process.communicate()
    pipeline.run(config)
    check(output, range(60))
    report = verify(output, sample=10)
    assert report.passed, report.failed


def test_after_a_replacement_no_reader_sees_a_vector_of_the_recipe_before(
    source: Path, tmp_path: Path, tiny_model: str
) -> None:
    output = str(tmp_path / "out")
    pipeline.run(make_config(source, output, tiny_model, input__keep=list(KEEP)))
    before = {row_id: row["text_hash"] for row_id, row in duckdb_glob(output).items()}
    run_job(make_config(source, output, tiny_model, input__keep=list(KEEP), model__prompt="query: "), replace=True)
    check(output, range(60))
    after = {row_id: row["text_hash"] for row_id, row in duckdb_glob(output).items()}
    assert not set(before.values()) & set(after.values())
    assert verify(output, sample=10).passed
