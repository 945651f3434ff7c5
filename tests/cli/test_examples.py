"""The jobs in configs/: complete, right, and each run for real."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.jobs import text_of

import pipeline
from pipeline.config.load import check_config, config_schema, load_config
from pipeline.config.problems import known_keys
from pipeline.config.schema import Config

from .conftest import Cli

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
ROWS = 12


def put(uri: str, data: bytes) -> None:
    """Write an object."""
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data)


def parquet(**columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def texts() -> list[str]:
    return [text_of(row) for row in range(ROWS)]


def s3_parquet(bucket: str) -> list[str]:
    published = [datetime(2026, 1, 1 + row, tzinfo=UTC) for row in range(ROWS)]
    columns: dict[str, list[Any]] = {
        "article_id": list(range(ROWS)),
        "title": texts(),
        "body": texts(),
        "published": published,
    }
    put(f"{bucket}/articles/2026/a.parquet", parquet(**columns, lang=["en", "de"] * (ROWS // 2)))
    return [
        f"input.paths=['{bucket}/articles/**/*.parquet']",
        "model.revision=null",
        f"output.path={bucket}/embeddings",
    ]


def jsonl_template(bucket: str) -> list[str]:
    lines = [
        json.dumps({"page": {"title": f"title {row}", "body": text_of(row)}, "meta": {"url": f"https://x/{row}"}})
        for row in range(ROWS)
    ]
    put(f"{bucket}/crawl/day=2026-11-24/a.jsonl.gz", gzip.compress("\n".join(lines).encode()))
    return [
        f"input.paths=['{bucket}/crawl/day=*/*.jsonl.gz']",
        "model.max_tokens=64",
        f"output.path={bucket}/embeddings",
    ]


def csv_local() -> list[str]:
    table = io.StringIO()
    writer = csv.writer(table, delimiter=";")
    writer.writerow(["ticket", "subject", "message", "opened"])
    writer.writerows([f"{row:05}", f"subject; {row}", text_of(row), "2026-11-24"] for row in range(ROWS))
    Path("tickets").mkdir()
    Path("tickets/a.csv").write_text(table.getvalue(), encoding="utf-8")
    return ["execution.threads=2"]


def cluster_gpu(bucket: str) -> list[str]:
    put(f"{bucket}/corpus/a/b.parquet", parquet(doc_id=list(range(ROWS)), text=texts()))
    here = "execution={engine: serial, token_budget: 131072, max_attempts: 5, log_format: json}"
    return [f"input.paths=['{bucket}/corpus/**/*.parquet']", f"output.path={bucket}/embeddings", here]


def reference() -> list[str]:
    Path("data").mkdir()
    Path("data/a.parquet").write_bytes(parquet(text=texts()))
    return ["input.text=text"]


EXAMPLES: dict[str, Callable[..., list[str]]] = {
    "s3_parquet": s3_parquet,
    "jsonl_template": jsonl_template,
    "csv_local": csv_local,
    "cluster_gpu": cluster_gpu,
    "reference": reference,
}
"""Name → writes its input and gives what must differ from the file here: places, and what this machine lacks."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_stands(
    cli: Cli,
    name: str,
    tiny_model: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An example that doesn't run is the first thing a new user meets."""
    monkeypatch.chdir(tmp_path)
    make = EXAMPLES[name]
    overrides = make(request.getfixturevalue("s3_bucket")) if make.__code__.co_argcount else make()
    settings = [f"model.name={tiny_model}", *overrides]
    if name != "cluster_gpu":
        settings.append("execution.engine=serial")
    given = [word for setting in settings for word in ("--set", setting)]
    ended = cli("run", "-c", CONFIGS / f"{name}.yaml", *given, "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["rows"], ended.json["rows_quarantined"]) == (ROWS, 0)
    config = load_config(CONFIGS / f"{name}.yaml", settings)
    dataset = pipeline.open_snapshot(config.output.path)
    expected = {
        *config.input.keep,
        *config.output.partition_by,
        "id",
        "embedding",
        "token_count",
        "truncated",
        "text_hash",
    }
    assert set(dataset.schema.names) == expected
    again = cli("run", "-c", CONFIGS / f"{name}.yaml", *given, "--json")
    assert again.json["rows_encoded"] == 0


def test_the_quickstart_runs_as_the_readme_says(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real model; only Ray is left out, which has tests of its own."""
    monkeypatch.chdir(tmp_path)
    assert cli("sample", "--rows", 40, "quickstart/input").code == 0
    ended = cli("run", "-c", CONFIGS / "quickstart.yaml", "--set", "execution.engine=serial", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["rows"] == 40
    table = pipeline.open_snapshot("quickstart/out").to_table()
    assert "text" in table.column_names
    assert len(table["embedding"][0]) == 384


def test_every_example_is_run_by_a_test() -> None:
    assert {file.stem for file in FILES} == {*EXAMPLES, "quickstart"}
    listed = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert all(f"`{file.name}`" in listed for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_plain_yaml_that_the_schema_accepts(file: Path) -> None:
    """Other tools read it with a YAML 1.1 parser, to which a bare `null:` is no word."""
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    jsonschema.validate(raw, config_schema())
    assert check_config(raw, file.name) == load_config(file)
    assert all(isinstance(key, str) for section in raw.values() for key in section)


def test_the_reference_has_every_key_with_its_default() -> None:
    """A reference that is behind is worse than none."""
    raw = yaml.safe_load((CONFIGS / "reference.yaml").read_text(encoding="utf-8"))
    there = {*raw, *(f"{section}.{key}" for section, keys in raw.items() for key in keys)}
    assert there == set(known_keys())
    required = {
        section: {key: raw[section][key] for key in keys}
        for section, keys in {"input": ["paths"], "model": ["name"], "output": ["path"]}.items()
    }
    assert Config.model_validate(required).model_dump(mode="json") == raw
