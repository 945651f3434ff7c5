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
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq

from jobs.bench.contenders import GATED, Running, round_settings
from jobs.bench.texts import MIXED, make_texts, with_duplicates, without_duplicates
from jobs.figures.common import PROJECT, make_job, timed
from jobs.figures.kills import s3_bucket
from jobs.figures.parity import by_number, compare, compare_rows, plain_vectors
from pipeline.config.load import dump_config

ROWS, SHARDS = 8192, 8
UNIT_ROWS = 512
"""Fewer than by default, so that there are units to overlap. Encoding costs some percent more in such small ones."""

DUPLICATES = 0.3


def measure_whole(folder: Path, model: str, *, max_tokens: int, rounds: int) -> dict[str, Any]:
    """Once running, assembly included, beside the engine alone on the same texts in units as large, in turns."""
    texts = make_texts(MIXED, ROWS)
    expected = by_number(plain_vectors(model, texts))
    settings = round_settings(folder, model, texts, max_tokens, unit_texts=UNIT_ROWS)
    jobs: list[dict[str, float]] = []
    engine: list[float] = []
    with s3_bucket() as bucket, Running(GATED, folder / "engine", settings) as running:
        _upload(texts, f"{bucket}/in")
        for _ in range(rounds):
            engine.append(running.encode())
            output = f"{bucket}/{uuid.uuid4().hex}"
            job = run_job(folder, f"{bucket}/in", output, model)
            jobs.append({**job, "min_cosine": compare(output, expected)[0]})
    return {"rows": ROWS, "cores": settings["threads"], "engine_seconds": engine, "jobs": jobs}


def measure_recipe(folder: Path, model: str, *, rounds: int) -> dict[str, Any]:
    """Whole job against the plain Ray Data recipe, from local Parquet to local Parquet: it has no S3 settings of its own.
    The start of Ray is left out of the recipe's seconds, and in ours."""
    texts = make_texts(MIXED, MIXED.texts)
    _upload(texts, str(folder / "in"))
    expected = by_number(plain_vectors(model, texts))
    recipe: list[float] = []
    jobs: dict[str, list[float]] = {"gated": [], "exact": []}
    cosines: dict[str, float] = {"recipe": 1.0, **dict.fromkeys(jobs, 1.0)}  # the lowest of all rounds
    for number in range(rounds):
        output = str(folder / f"recipe-{number}")
        ran = timed([sys.executable, "jobs/plain_recipe.py", str(folder / "in"), output, model])
        if ran.code != 0:
            raise RuntimeError(ran.err)
        recipe.append(json.loads(ran.out.splitlines()[-1])["seconds"])
        parity = compare_rows(output, pyarrow.dataset.dataset(output).to_table(), expected)
        cosines["recipe"] = min(cosines["recipe"], parity.min_cosine)
        for precision, taken in jobs.items():
            output = str(folder / f"{precision}-{number}")
            taken.append(run_job(folder, str(folder / "in"), output, model, precision=precision)["seconds"])
            cosines[precision] = min(cosines[precision], compare(output, expected)[0])
    return {"rows": len(texts), "recipe_seconds": recipe, "job_seconds": jobs, "min_cosine": cosines}


def measure_folding(folder: Path, model: str, *, rounds: int) -> dict[str, Any]:
    """Seconds of encoding where 30% repeat others of their unit exactly, and where the same texts are told apart by spaces behind
    them, so that all have to be computed."""
    texts = make_texts(MIXED, 2 * MIXED.texts)
    size = len(texts) // SHARDS  # a file, and so a unit
    repeated = [
        text
        for first in range(0, len(texts), size)
        for text in with_duplicates(texts[first : first + size], DUPLICATES)
    ]
    of = {"distinct": without_duplicates(repeated), "repeated": repeated}
    for name, own in of.items():
        _upload(own, str(folder / name))
    seconds: dict[str, list[float]] = {"distinct": [], "repeated": []}
    for number in range(rounds):
        for name, taken in seconds.items():
            job = run_job(folder, str(folder / name), str(folder / f"{name}-{number}"), model)
            taken.append(job["encode_s"])
    cosines = {
        name: compare(str(folder / f"{name}-0"), by_number(plain_vectors(model, own)))[0] for name, own in of.items()
    }
    return {"rows": len(texts), "share": DUPLICATES, "encode_seconds": seconds, "min_cosine": cosines}


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


def strict_rate(jobs: Sequence[dict[str, float]], cores: int) -> float:
    """The same as if nothing had been read and tokenised before the first unit's end, but all cores had done that afterwards."""
    return statistics.median(
        (job["tokens"] - job["first_tokens"]) / (job["running_s"] + job["prepare_s"] / cores) for job in jobs
    )


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
