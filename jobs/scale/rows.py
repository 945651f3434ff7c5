"""What a row costs besides its vector, from ten thousand rows to ten million."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.scale.job import make_waiting_job, run_waiting, write_rows

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
FILE_ROWS = 250_000
NOTHING = 1000
"""Rows of a job that shows what any job takes, however small."""


def measure(folder: Path, rows: Sequence[int] = ROWS) -> dict[str, Any]:
    """Seconds of whole jobs, Ray's start left out, publication and collection included."""
    fixed = run(folder / "fixed", NOTHING)
    found = []
    for count in rows:
        told = run(folder / str(count), count)
        found.append({"rows": count, **told})
        shutil.rmtree(folder / str(count))
    return {"fixed_s": fixed["seconds"], "runs": found}


def run(folder: Path, rows: int) -> dict[str, float]:
    """One job with units as they are by default."""
    write_rows(folder / "in", rows, FILE_ROWS)
    job = make_waiting_job(folder / "in", folder / "out", execution__replicas=2, execution__threads=1)
    summary = run_waiting(job, folder, cpus=4, unit_s=0.0)["summary"]
    if summary["rows"] != rows:
        raise RuntimeError(f"{summary['rows']} rows published of {rows}")
    times = summary["times"]
    return {
        "seconds": summary["seconds"],
        "encoded_s": times["encode"] / 1000,
        **{f"{step}_s": times[step] / 1000 for step in ("read", "tokenise", "stage")},
    }


def cost_us(found: Mapping[str, Any]) -> list[tuple[int, float]]:
    """(rows, microseconds a row) without what any job takes."""
    return [(run["rows"], 1e6 * max(0.0, run["seconds"] - found["fixed_s"]) / run["rows"]) for run in found["runs"]]
