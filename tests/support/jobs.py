"""Jobs for end-to-end tests: inputs, configs, and an oracle that reads the result by plain glob."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import pipeline
from pipeline.config.schema import Config


def text_of(row: int, words: int = 0) -> str:
    """A text that no other row has, made longer by so many words."""
    text = f"row {row} speaks of {['rivers', 'engines', 'letters', 'winters'][row % 4]} number {row}"
    return text + " and so forth" * (words // 3)


LONG = 100
"""Words: 40 rows with so many more are a shard too big to be grouped with others, where a unit holds 1 MiB of text."""


def write_parquet(path: Path, rows: range, words: int = 0) -> None:
    """A shard with ids, texts and a language. The more words, the longer the texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": [f"id-{row}" for row in rows],
            "text": [text_of(row, words) for row in rows],
            "lang": [["en", "de"][row % 2] for row in rows],
        }
    )
    pq.write_table(table, path, compression="none", use_dictionary=False)


def write_jsonl(path: Path, rows: range, words: int = 0) -> None:
    """The same rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"id": f"id-{row}", "text": text_of(row, words), "lang": ["en", "de"][row % 2]}) for row in rows
    )
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def make_config(source: str | Path, output: str, model: str, **changes: Any) -> Config:
    """A config for the serial engine; `changes` are dotted keys with `__` for the dot."""
    raw: dict[str, dict[str, Any]] = {
        "input": {"paths": [str(source)], "text": "text", "id": "id"},
        "model": {"name": model},
        "output": {"path": output},
        "execution": {"engine": "serial"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        raw.setdefault(section, {})[name] = value
    return Config.model_validate(raw)


def start(config: Config) -> "subprocess.Popen[str]":
    """The job in a process group of its own, to be killed."""
    support = Path(__file__).with_name("run_job.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, str(support), config.model_dump_json()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def committed(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Lines of committed units as they come."""
    assert process.stdout is not None
    return (line for line in process.stdout if line.startswith("unit "))


def read_rows(output: str) -> dict[Any, pa.Scalar]:
    """id → embedding of the published snapshot; fails on a doubled id."""
    table = pipeline.open_snapshot(output).to_table(columns=["id", "embedding"])
    ids = table["id"].to_pylist()
    assert len(ids) == len(set(ids)), "an id is in the snapshot twice"
    return dict(zip(ids, table["embedding"].to_pylist(), strict=True))


def glob_rows(output: str) -> list[Any]:
    """ids of a local output by plain glob, sorted."""
    return sorted(ds.dataset(f"{output}/data", partitioning="hive").to_table(columns=["id"])["id"].to_pylist())


def ids(rows: range) -> list[str]:
    """The ids of rows."""
    return sorted(f"id-{row}" for row in rows)
