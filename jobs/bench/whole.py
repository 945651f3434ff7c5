"""Whole jobs: text on S3 in, published Parquet on S3 out; against the engine alone and against the plain recipe."""

import json
import os
import statistics
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from jobs.bench.contenders import GATED, Running, round_settings
from jobs.bench.texts import MIXED, make_texts, with_duplicates
from jobs.figures.common import PROJECT, make_job, timed
from jobs.figures.kills import s3_bucket
from pipeline.config.load import dump_config

ROWS, SHARDS = 8192, 8
UNIT_ROWS = 512
DUPLICATES = 0.3


def measure_whole(folder: Path, model: str, *, max_tokens: int, rounds: int) -> dict[str, Any]:
    """Once running, assembly included, beside the engine alone on the same texts, in turns."""
    texts = make_texts(MIXED, ROWS)
    settings = round_settings(folder, model, texts, max_tokens)
    jobs: list[dict[str, float]] = []
    engine: list[float] = []
    with s3_bucket() as bucket, Running(GATED, folder / "engine", settings) as running:
        _upload(texts, f"{bucket}/in")
        for _ in range(rounds):
            engine.append(running.encode())
            jobs.append(run_job(folder, f"{bucket}/in", f"{bucket}/{uuid.uuid4().hex}", model))
    return {"rows": ROWS, "engine_seconds": engine, "jobs": jobs}


def measure_recipe(folder: Path, model: str, *, rounds: int) -> dict[str, Any]:
    """Whole job against the plain Ray Data recipe, from local Parquet to local Parquet: it has no S3 settings of its own.
    The start of Ray is left out of the recipe's seconds, and in ours."""
    texts = make_texts(MIXED, MIXED.texts)
    _upload(texts, str(folder / "in"))
    recipe: list[float] = []
    jobs: dict[str, list[float]] = {"gated": [], "exact": []}
    for number in range(rounds):
        ran = timed(
            [sys.executable, "jobs/plain_recipe.py", str(folder / "in"), str(folder / f"recipe-{number}"), model]
        )
        if ran.code != 0:
            raise RuntimeError(ran.err)
        recipe.append(json.loads(ran.out.splitlines()[-1])["seconds"])
        for precision, taken in jobs.items():
            output = str(folder / f"{precision}-{number}")
            taken.append(run_job(folder, str(folder / "in"), output, model, precision=precision)["seconds"])
    return {"rows": len(texts), "recipe_seconds": recipe, "job_seconds": jobs}


def measure_folding(folder: Path, model: str, *, rounds: int) -> dict[str, Any]:
    """Seconds of encoding where 30% repeat others of their unit exactly, and where none does."""
    texts = make_texts(MIXED, 2 * MIXED.texts)
    size = len(texts) // SHARDS  # a file, and so a unit
    repeated = [
        text
        for first in range(0, len(texts), size)
        for text in with_duplicates(texts[first : first + size], DUPLICATES)
    ]
    _upload(repeated, str(folder / "repeated"))
    _upload(texts, str(folder / "distinct"))
    seconds: dict[str, list[float]] = {"distinct": [], "repeated": []}
    for number in range(rounds):
        for name, taken in seconds.items():
            job = run_job(folder, str(folder / name), str(folder / f"{name}-{number}"), model)
            taken.append(job["encode_s"])
    return {"rows": len(texts), "share": DUPLICATES, "encode_seconds": seconds}


def run_job(folder: Path, source: str, output: str, model: str, *, precision: str = "gated") -> dict[str, Any]:
    """One whole job on embedded Ray; when its units were done, and what its summary says."""
    job = make_job(
        source, output, model__name=model, model__precision=precision, execution__engine="ray", units__rows=UNIT_ROWS
    )
    file = folder / f"{uuid.uuid4().hex}.yaml"
    file.write_text(dump_config(job), encoding="utf-8")
    ran = timed([sys.executable, "jobs/bench/peers/whole_job.py", str(file)], {"PYTHONPATH": str(PROJECT)})
    if ran.code != 0:
        raise RuntimeError(ran.err)
    told: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return told


def running_rate(jobs: Sequence[dict[str, float]]) -> float:
    """Tokens per second from the first unit's end to publication: the median over jobs."""
    return statistics.median((job["tokens"] - job["first_tokens"]) / job["running_s"] for job in jobs)


def _upload(texts: Sequence[str], target: str) -> None:
    store, path = pyarrow.fs.FileSystem.from_uri(target if "://" in target else Path(target).absolute().as_uri())
    if isinstance(store, pyarrow.fs.S3FileSystem):
        store = pyarrow.fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1")
    else:
        store.create_dir(path)
    for shard in range(SHARDS):
        ids = range(shard * len(texts) // SHARDS, (shard + 1) * len(texts) // SHARDS)
        table = pa.table({"id": [str(n) for n in ids], "text": [texts[n] for n in ids]})
        pq.write_table(table, f"{path}/{shard}.parquet", filesystem=store)
