"""Encoders that wait, 1 to 16 of them: how much of their time is spent encoding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.scale.job import make_waiting_job, run_waiting, write_rows

WORKERS = (1, 2, 4, 8, 16)
UNIT_S = 4.0
UNITS_EACH = 8  # of each worker
UNIT_ROWS = 256


def measure(
    folder: Path, workers: Sequence[int] = WORKERS, unit_s: float = UNIT_S, each: int = UNITS_EACH
) -> dict[str, Any]:
    """Per number of workers: units a second once all are at work, and what that is of the most there can be."""
    found = []
    for count in workers:
        units = count * each
        source = folder / f"in-{count}"
        write_rows(source, units * UNIT_ROWS, UNIT_ROWS * 2)
        job = make_waiting_job(
            source,
            folder / f"out-{count}",
            execution__replicas=count,
            execution__threads=1,
            units__rows=UNIT_ROWS,
        )
        told = run_waiting(job, folder, cpus=2 * count + 2, unit_s=unit_s)
        found.append({"workers": count, "units": units, "efficiency": efficiency(told["done_s"], count, unit_s)})
    return {"unit_s": unit_s, "unit_rows": UNIT_ROWS, "runs": found}


def efficiency(done_s: Sequence[float], workers: int, unit_s: float) -> float:
    """Of a worker that never waits, between the ends of the first and the last units of all of them."""
    after = len(done_s) - workers
    return after * unit_s / workers / (done_s[-1] - done_s[workers - 1])


def ceiling(folder: Path, units: int = 400, rows: int = UNIT_ROWS) -> float:
    """Units a second that pass through one driver when encoding takes no time at all."""
    write_rows(folder / "in", units * rows, rows * 10)
    job = make_waiting_job(folder / "in", folder / "out", execution__replicas=4, execution__threads=1, units__rows=rows)
    done: list[float] = run_waiting(job, folder, cpus=10, unit_s=0.0)["done_s"]
    skipped = len(done) // 10  # while the last workers start
    return (len(done) - skipped) / (done[-1] - done[skipped - 1])
