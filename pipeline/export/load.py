"""Load statements: what to type into a warehouse to get exactly a snapshot's rows, file by file from the manifest."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from pipeline.errors import ConfigError
from pipeline.export.snapshot import DataFile, Published

Engine = Literal["duckdb", "spark", "clickhouse", "bigquery", "snowflake"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
TABLE = "embeddings"
SNOWFLAKE_FILES = 1000
"""Its COPY takes no more file names than this in one statement."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_STAGES = {"s3": "s3", "gs": "gcs", "az": "azure"}  # scheme → as Snowflake spells it
_INTEGERS = {"int8", "int16", "int32", "int64"}
_SQL_TYPES: dict[str, dict[str, str]] = {
    "duckdb": {"int": "BIGINT", "string": "VARCHAR", "bool": "BOOLEAN", "date32[day]": "DATE"},
    "spark": {"int": "bigint", "string": "string", "bool": "boolean", "date32[day]": "date"},
    "bigquery": {"int": "INT64", "string": "STRING", "bool": "BOOL", "date32[day]": "DATE"},
    "snowflake": {
        "int": "NUMBER",
        "string": "STRING",
        "bool": "BOOLEAN",
        "date32[day]": "DATE",
        "float": "FLOAT",
        "double": "FLOAT",
    },
}


def load_statement(engine: Engine, published: Published) -> str:
    """A statement (or a few) that loads every row of the snapshot once into a new table `embeddings`.

    Raises ConfigError when the engine can't read from where the output lies, or there is nothing to load.
    """
    render = {
        "duckdb": _duckdb,
        "spark": _spark,
        "clickhouse": _clickhouse,
        "bigquery": _bigquery,
        "snowflake": _snowflake,
    }
    if engine not in render:
        raise ConfigError(f"no load statement for {engine!r}; there is one for {', '.join(ENGINES)}")
    if not published.files:
        raise ConfigError(f"{published.root}: version {published.version} has no rows to load")
    return render[engine](published)


def _duckdb(published: Published) -> str:
    options = "hive_partitioning = false"
    if published.partition_columns:
        kinds = ", ".join(f"{_quoted(name)}: {kind}" for name, kind in _typed("duckdb", published.partition_columns))
        options = f"hive_partitioning = true, hive_types = {{{kinds}}}"
    return (
        f"CREATE TABLE {TABLE} AS\n"
        f"SELECT * REPLACE (embedding::FLOAT[{published.dimensions}] AS embedding)\n"
        f"FROM read_parquet([\n{_lines([_text(file.uri) for file in published.files])}\n], {options});\n"
    )


def _spark(published: Published) -> str:
    """PySpark; folder columns are cast, since Spark would read small numbers as 32-bit ones."""
    casts = "".join(
        f"\n{TABLE} = {TABLE}.withColumn({name!r}, {TABLE}[{name!r}].cast({kind!r}))"
        for name, kind in _typed("spark", published.partition_columns)
    )
    base = repr(_s3a(f"{published.root}/data"))
    paths = ",\n".join(f"    {_s3a(file.uri)!r}" for file in published.files)
    return f'{TABLE} = spark.read.option("basePath", {base}).parquet(\n{paths},\n){casts}\n'


def _clickhouse(published: Published) -> str:
    scheme = published.root.partition("://")[0] if "://" in published.root else "file"
    source = {"s3": "s3", "gs": "s3", "file": "file"}.get(scheme)
    if source is None:
        raise ConfigError(f"{published.root}: there is a ClickHouse statement for s3://, gs:// and local paths only")
    hive = 1 if published.partition_columns else 0
    parts = "\n    UNION ALL\n".join(
        f"    SELECT * FROM {source}({uri}, 'Parquet')" for uri in _escaped_uris(published)
    )
    return (
        f"CREATE TABLE {TABLE} ENGINE = MergeTree ORDER BY id AS\n"
        f"SELECT * FROM (\n{parts}\n)\nSETTINGS use_hive_partitioning = {hive};\n"
    )


def _bigquery(published: Published) -> str:
    if not published.root.startswith("gs://"):
        raise ConfigError(f"{published.root}: BigQuery loads from gs:// only; copy data/ there, or take another engine")
    columns = ", ".join(f"`{name}` {kind}" for name, kind in _typed("bigquery", published.partition_columns))
    prefix = f",\n  hive_partition_uri_prefix = {_escaped(published.root + '/data')}" if columns else ""
    folders = f"\nWITH PARTITION COLUMNS ({columns})" if columns else ""
    return (
        f"LOAD DATA INTO dataset.{TABLE}\nFROM FILES (\n  format = 'PARQUET',\n  enable_list_inference = true,\n"
        f"  uris = [\n{_lines(_escaped_uris(published))}\n  ]{prefix}\n){folders};\n"
    )


def _snowflake(published: Published) -> str:
    """Vectors can't be loaded directly: they come as ARRAY and are cast. Folder values arrive percent-encoded."""
    scheme, separator, place = published.root.partition("://")
    if not separator:
        raise ConfigError(f"{published.root}: Snowflake loads from s3://, gs:// or az://; copy data/ there")
    inside, folders = _typed("snowflake", published.columns), _typed("snowflake", published.partition_columns)
    made = ", ".join(f"{_quoted(name)} {kind}" for name, kind in [*inside, *folders, ("embedding", "ARRAY")])
    taken = [f"$1:{_quoted(name)}::{kind}" for name, kind in inside]
    taken += [_folder_value(name, kind) for name, kind in folders]
    chosen = ", ".join([*taken, '$1:"embedding"::ARRAY'])
    copies = "".join(
        f"COPY INTO {TABLE}_raw FROM (\n  SELECT {chosen}\n  FROM @{TABLE}_stage\n)\n"
        f"FILES = (\n{_lines(_below(published, run))}\n)\nFILE_FORMAT = (TYPE = PARQUET);\n"
        for run in _runs(published.files)
    )
    return (
        f"CREATE STAGE {TABLE}_stage URL = {_escaped(f'{_STAGES[scheme]}://{place}/data/')} "
        f"STORAGE_INTEGRATION = your_integration;\nCREATE TABLE {TABLE}_raw ({made});\n{copies}"
        f'CREATE TABLE {TABLE} AS SELECT * EXCLUDE "embedding",\n'
        f'  "embedding"::VECTOR(FLOAT, {published.dimensions}) AS "embedding" FROM {TABLE}_raw;\n'
    )


def _folder_value(name: str, kind: str) -> str:
    found = f"REGEXP_SUBSTR(METADATA$FILENAME, {_escaped(name + '=([^/]+)')}, 1, 1, 'e')"
    return f"NULLIF({found}, {_text(_NULL)})::{kind}"


def _below(published: Published, files: Sequence[DataFile]) -> list[str]:
    return [_escaped(file.uri.removeprefix(f"{published.root}/data/")) for file in files]


def _runs(files: Sequence[DataFile]) -> Iterator[Sequence[DataFile]]:
    return (files[start : start + SNOWFLAKE_FILES] for start in range(0, len(files), SNOWFLAKE_FILES))


def _typed(engine: str, columns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Columns with the engine's own type names; a type it has no plain word for is a VARIANT (Snowflake only)."""
    kinds = _SQL_TYPES[engine]
    return [(name, kinds.get("int" if kind in _INTEGERS else kind, "VARIANT")) for name, kind in columns]


def _escaped_uris(published: Published) -> list[str]:
    return [_escaped(file.uri) for file in published.files]


def _s3a(uri: str) -> str:
    return "s3a://" + uri.removeprefix("s3://") if uri.startswith("s3://") else uri


def _lines(items: Sequence[str]) -> str:
    return ",\n".join(f"    {item}" for item in items)


def _text(value: str) -> str:
    """A string of standard SQL, where a backslash is just that (DuckDB)."""
    return "'" + value.replace("'", "''") + "'"


def _escaped(value: str) -> str:
    """A string where backslashes escape (ClickHouse, BigQuery, Snowflake): doubled quotes alone could be broken out of."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
