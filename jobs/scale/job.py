"""Whole jobs with an encoder that waits, on a Ray of their own in a process of their own, and what they took.

    python -m jobs.scale.job CONFIG CPUS

prints one JSON object: the summary, and when each unit was done.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from jobs.figures.common import MODEL, PROJECT, make_job, timed
from jobs.scale.waiting import UNIT_S
from pipeline.config.load import dump_config, load_config
from pipeline.config.schema import Config
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, UnitDone

DIMENSIONS = 16
"""Few, so that ten million rows fit on a disk; vectors of 384 take 1.5 KB a row, whatever the number of rows."""

WORDS = 12


def write_rows(folder: Path, rows: int, per_file: int) -> None:
    """Parquet files of ids and short texts, all different, about 70 characters each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(1000)])
    for number, first in enumerate(range(0, rows, per_file)):
        count = min(per_file, rows - first)
        drawn = words[rng.integers(0, len(words), (WORDS, count))]
        ids = np.arange(first, first + count).astype(str)
        text = pc.binary_join_element_wise(pa.array(ids), *map(pa.array, drawn), " ")
        pq.write_table(pa.table({"id": ids, "text": text}), folder / f"{number:06}.parquet")


def make_waiting_job(source: Path, output: Path, **changes: Any) -> Config:
    """A job over these rows whose vectors have few dimensions."""
    return make_job(
        source, output, model__name=MODEL, model__truncate_dim=DIMENSIONS, execution__engine="ray", **changes
    )


def run_waiting(config: Config, folder: Path, *, cpus: int, unit_s: float) -> dict[str, Any]:
    """Run the job in a process of its own with that many cores, as far as Ray knows."""
    file = folder / "job.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    command = [sys.executable, "-m", "jobs.scale.job", str(file), str(cpus)]
    ran = timed(command, {"PYTHONPATH": str(PROJECT), UNIT_S: str(unit_s)})
    if ran.code != 0:
        raise RuntimeError(f"the job ended with {ran.code}:\n{ran.err}")
    told: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return told


class Clock:
    """A reporter that notes when units were done."""

    def __init__(self) -> None:
        self.done_s: list[float] = []

    def emit(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, UnitDone):
            self.done_s.append(time.monotonic())


def main() -> None:
    """The process of one job."""
    file, cpus = Path(sys.argv[1]), int(sys.argv[2])
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        runtime_env={"worker_process_setup_hook": "jobs.scale.waiting.install"},
    )
    clock, began = Clock(), time.monotonic()
    summary = run_job(load_config(file), reporter=clock)
    print(json.dumps({"summary": summary.to_json(), "done_s": [at - began for at in clock.done_s]}))


if __name__ == "__main__":
    main()
