"""The whole job against the plain Ray Data recipe: same machine, same text, same model, in turns."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from jobs.figures.common import MODEL, Figure, docstrings, make_job, run, table, timed
from jobs.figures.parity import compare, reference
from pipeline.model.resolve import resolve_model

ROWS = 6000
ROUNDS = 3


def measure(folder: Path, rounds: int = ROUNDS, rows: int = ROWS) -> Figure:
    """Rows per second of the job itself (no Ray start), and of the whole command."""
    source = docstrings(folder / "texts", rows)
    directory = resolve_model(MODEL, None, None).directory
    seconds: dict[str, list[float]] = {"recipe": [], "gated": [], "exact": []}
    whole: dict[str, list[float]] = {"recipe": [], "gated": [], "exact": []}
    for number in range(rounds):
        ran = timed([sys.executable, "jobs/plain_recipe.py", str(source), str(folder / f"recipe-{number}"), directory])
        if ran.code != 0:
            raise RuntimeError(ran.err)
        seconds["recipe"].append(json.loads(ran.out.splitlines()[-1])["seconds"])
        whole["recipe"].append(ran.seconds)
        for precision in ("gated", "exact"):
            job = make_job(
                source, folder / f"{precision}-{number}", model__precision=precision, execution__engine="ray"
            )
            summary = run(job, folder / f"{precision}-{number}-job")
            seconds[precision].append(summary["seconds"])
            whole[precision].append(summary["command_s"])
    cosine, distance = compare(str(folder / "gated-0"), reference(source))
    return Figure("Whole job against the plain recipe", *_report(seconds, whole, rows, cosine, distance))


def _report(
    seconds: dict[str, list[float]], whole: dict[str, list[float]], rows: int, cosine: float, distance: float
) -> tuple[str, dict[str, Any]]:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    names = {
        "recipe": "plain recipe (float32, batch 32, all cores)",
        "gated": "embedpipe, `gated`",
        "exact": "embedpipe, `exact`",
    }
    lines = [
        (
            names[name],
            f"{median[name]:.1f}",
            f"{rows / median[name]:.0f}",
            f"{median['recipe'] / median[name]:.2f}×",
            ", ".join(f"{value:.1f}" for value in seconds[name]),
            f"{statistics.median(whole[name]):.1f}",
        )
        for name in names
    ]
    text = (
        f"{rows:,} docstrings (mean about 470 characters) from Parquet to Parquet, {len(seconds['recipe'])} rounds in "
        "turns, medians. The recipe's seconds leave out the start of Ray and of Python; embedpipe's are those of the whole "
        "run, Ray's start, parity gate, checks and publication included.\n\n"
        + table(("", "seconds", "rows/s", "against the recipe", "single runs", "whole command, seconds"), lines)
        + f"\n\nParity of the `gated` rows with float32 sentence-transformers: lowest cosine {cosine:.6f}, largest relative L2 "
        f"{distance:.1e}. Asked for: at least twice the recipe's rows/s."
    )
    values = {"rows": rows, "seconds": seconds, "whole_command_seconds": whole, "min_cosine": cosine}
    return text, values
