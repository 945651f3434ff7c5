"""STS: what `embedpipe evaluate` says of all-MiniLM-L6-v2 on the dev split of the STS benchmark."""

import json
import sys
from pathlib import Path
from typing import Any

from jobs.figures.common import MODEL, Figure, table, timed

PUBLISHED = 86.72  # x100; what the model reaches with plain sentence-transformers in float32


def measure(folder: Path, benchmark: Path) -> Figure:
    """`benchmark`: a TSV with the columns split, score, sentence1, sentence2. It is not part of this project."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {precision: _evaluate(folder, benchmark, precision) for precision in ("exact", "gated")}
    rows = [
        (
            f"`{precision}`",
            one["dtype"],
            f"{100 * one['scores']['stsb.spearman']:.2f}",
            f"{100 * one['scores']['stsb.pearson']:.2f}",
        )
        for precision, one in found.items()
    ]
    text = (
        f"all-MiniLM-L6-v2, {found['exact']['sets'][0]['size']:,} pairs of the dev split, by `embedpipe evaluate`, × 100.\n\n"
        + table(("precision", "computed in", "Spearman", "Pearson"), rows)
        + f"\n\nPlain sentence-transformers in float32: {PUBLISHED}; asked for: within 0.02."
    )
    return Figure("STS benchmark", text, {name: one["scores"] for name, one in found.items()})


def _evaluate(folder: Path, benchmark: Path, precision: str) -> dict[str, Any]:
    config = {
        "model": {"name": MODEL, "precision": precision},
        "sts": {"stsb": {"paths": [str(benchmark)], "quotes": False, "only": {"split": "dev"}}},
        "execution": {"engine": "serial"},
    }
    file = folder / f"{precision}.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # which is YAML too
    ran = timed([sys.executable, "-m", "pipeline", "evaluate", "--config", str(file), "--json"])
    if ran.code != 0:
        raise RuntimeError(f"the evaluation ended with {ran.code}:\n{ran.err}")
    found: dict[str, Any] = json.loads(ran.out)
    return found
