"""Load statements: DuckDB's is run; the others are held against what their documentation asks for."""

from pathlib import Path

import duckdb
import pytest
from support.snapshots import make_snapshot

from pipeline.errors import ConfigError
from pipeline.export.load import ENGINES, load_statement
from pipeline.export.snapshot import DataFile, Published, describe


def published(root: str = "s3://bucket/out", files: int = 2, partitions: bool = True) -> Published:
    folder = "lang=en/day=2026-01-02/" if partitions else ""
    return Published(
        root=root,
        version=3,
        files=tuple(DataFile(f"{root}/data/{folder}2-{index}.parquet", 10, 1000, "0" * 64) for index in range(files)),
        dimensions=384,
        columns=(("id", "string"), ("year", "int32"), ("tags", "list<element: string>"), ("token_count", "int32")),
        partition_columns=(("lang", "string"), ("day", "date32[day]")) if partitions else (),
    )


def test_the_duckdb_statement_loads_every_row_with_vectors_of_fixed_size(tmp_path: Path, tiny_model: str) -> None:
    """A quote in the path must not end the string."""
    made = make_snapshot(str(tmp_path / "it's out"), tmp_path / "in", tiny_model)
    connection = duckdb.connect()
    connection.execute(load_statement("duckdb", describe(made.root)))
    found = connection.execute("SELECT count(*), count(DISTINCT id), min(typeof(embedding)) FROM embeddings").fetchone()
    assert found == (16, 16, "FLOAT[32]")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_file_of_the_manifest_is_named_once_in_every_statement(engine: str) -> None:
    """By manifest, not by glob: files of a run that is going on must not be loaded."""
    root = "gs://bucket/out"
    statement = load_statement(engine, published(root))  # type: ignore[arg-type]
    for file in published(root).files:
        assert statement.count(file.uri.rpartition("/")[2]) == 1
    assert "*" not in statement.replace("SELECT *", "")


def test_what_each_warehouse_needs_is_in_its_statement() -> None:
    gs, s3 = published("gs://bucket/out"), published()
    assert "enable_list_inference = true" in load_statement("bigquery", gs)
    assert "WITH PARTITION COLUMNS (`lang` STRING, `day` DATE)" in load_statement("bigquery", gs)
    assert "hive_partition_uri_prefix = 'gs://bucket/out/data'" in load_statement("bigquery", gs)
    assert "VECTOR(FLOAT, 384)" in load_statement("snowflake", s3)
    assert '$1:"tags"::VARIANT' in load_statement("snowflake", s3)
    assert "gcs://bucket/out/data/" in load_statement("snowflake", gs)
    assert "\"basePath\", 's3a://bucket/out/data'" in load_statement("spark", s3)
    assert "use_hive_partitioning = 1" in load_statement("clickhouse", s3)
    assert 'hive_types = {"lang": VARCHAR, "day": DATE}' in load_statement("duckdb", s3)


def test_snowflake_takes_at_most_a_thousand_files_at_once() -> None:
    assert load_statement("snowflake", published(files=2001)).count("COPY INTO") == 3


def test_the_spark_statement_is_python() -> None:
    compile(load_statement("spark", published()), "load", "exec")


@pytest.mark.parametrize(
    ("engine", "root"), [("bigquery", "s3://bucket/out"), ("snowflake", "/local/out"), ("clickhouse", "az://box/out")]
)
def test_an_engine_that_cannot_reach_the_output_is_refused_with_the_reason(engine: str, root: str) -> None:
    with pytest.raises(ConfigError, match=root):
        load_statement(engine, published(root))  # type: ignore[arg-type]


def test_nothing_to_load_and_unknown_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="no rows to load"):
        load_statement("duckdb", published(files=0))
    with pytest.raises(ConfigError, match="duckdb, spark"):
        load_statement("oracle", published())  # type: ignore[arg-type]
