"""The scenarios at random moments, for as long as wanted: case n is the same wherever it is run.

Only tests of this folder have, at chosen moments: a full object store (on Ray, and so a part of `repeats`); a disk that is really
full, or read-only; permissions, links that lead nowhere, a listing that shrinks or comes to nothing; a model on S3, its cache,
and another model under the same name; another root of generated ids; an output that was moved or copied; another hash seed,
locale, time zone, folder and umask.
"""

import logging
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from faults.ground.model import save_letters
from faults.ground.scenarios import (
    NO_SPACE,
    OTHER_SPEC,
    SAME_SPEC,
    Ground,
    Proof,
    clock_jumps,
    config_changes,
    disk_is_full,
    dtype_changes,
    handles_run_out,
    model_changes,
    output_goes,
    source_changes,
    threads_run_out,
)
from faults.ground.world import FORMATS, NAMES, Bucket, Folder
from faults.ledger import Chunk
from support.s3 import s3_server, s3_settings

log = logging.getLogger(__name__)

ZERO = ("lost", "duplicated", "mispaired", "unreadable", "mixed", "stuck", "wrong_exits", "tracebacks", "violations")
"""What must be 0. `violations`: cases that could not even be judged, or of which something was not told that should have been."""

SHARES = {
    "source": 10, "object": 3, "model": 3, "output": 2, "disk": 3, "handles": 3, "threads": 1, "clock": 2, "config": 4,
    "dtype": 2,
}  # fmt: skip
"""How often each scenario comes up."""


def soak(first: int, seconds: float) -> Chunk:
    """Cases from `first` on, for about so many seconds."""
    until = time.monotonic() + seconds
    counts: Counter[str] = Counter(dict.fromkeys(ZERO, 0))
    number = first
    with tempfile.TemporaryDirectory() as folder, _server():
        model = save_letters(Path(folder, "model"))
        while time.monotonic() < until:
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _count(number, Path(work), model, counts)
            number += 1
    return Chunk(number, dict(counts))


def play(number: int, folder: Path, model: str) -> tuple[str, Proof]:
    """One case, by its number."""
    draw = random.Random(f"ground {number}")
    scenario = draw.choices(list(SHARES), list(SHARES.values()))[0]
    ground = Ground(folder, model, _bucket() if scenario == "object" else None)
    kind, name = draw.choice(FORMATS), draw.choice(NAMES)
    if scenario == "source":
        return scenario, source_changes(ground, kind, draw.choice(Folder.changes), draw.randint(1, 60), name)
    if scenario == "object":
        return scenario, source_changes(ground, kind, draw.choice(Bucket.changes), draw.randint(1, 150), name)
    if scenario == "model":
        how = draw.choice(("tokenizer", "weights", "card", "gone"))
        return scenario, model_changes(ground, how, draw.randint(1, 240))
    if scenario == "output":
        return scenario, output_goes(ground, draw.randint(1, 300))
    if scenario == "disk":
        return scenario, disk_is_full(ground, draw.choice(NO_SPACE), draw.randint(1, 200))
    if scenario == "handles":
        return scenario, handles_run_out(ground, kind, draw.randint(0, 4), draw.randint(1, 200))
    if scenario == "threads":
        return scenario, threads_run_out(ground, draw.randint(1, 12))
    if scenario == "config":
        change = draw.choice([*SAME_SPEC, *OTHER_SPEC])
        return scenario, config_changes(ground, kind, change, draw.randint(1, 230))
    if scenario == "dtype":
        return scenario, dtype_changes(ground, draw.randint(1, 230))
    return scenario, clock_jumps(ground, draw.choice((86_400.0, -86_400.0)), draw.randint(1, 230))


def _count(number: int, folder: Path, model: str, counts: Counter[str]) -> None:
    """Play a case. One whose moment never came, as the run was over before, is no case; what is wrong with it counts still."""
    try:
        scenario, proof = play(number, folder, model)
    except Exception:
        counts["violations"] += 1
        log.exception("ground case %d: faults.ground.soak.play(%d, folder, model)", number, number)
        return
    counts.update(["ground_cases", f"ground_cases.{scenario}"] if proof.struck else ["unstruck"])
    counts.update(proof.verdict.counts)
    counts["mixed"] += len(proof.mixed)
    counts["wrong_exits"] += not proof.ended_well
    counts["tracebacks"] += (proof.first.code == 1) + (proof.again.code == 1)
    counts["stuck"] += proof.again.code != 0
    counts["violations"] += bool(proof.untold)
    if not proof.right:
        log.error(
            "ground case %d (%s): faults.ground.soak.play(%d, folder, model)\n%s", number, scenario, number, proof
        )


def _bucket() -> str:
    """A fresh bucket on the server."""
    import boto3

    name = f"ground-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/case"


@contextmanager
def _server() -> Iterator[None]:
    """An S3 server on loopback, for as long as this holds."""
    with s3_server() as endpoint, patch.dict(os.environ, s3_settings(endpoint)):
        yield
