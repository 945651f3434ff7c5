"""STS: what `embedpipe evaluate` says of all-MiniLM-L6-v2 on the dev split of the STS benchmark."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from jobs.figures.common import MODEL, Figure, table, timed
from jobs.figures.parity import load_plain
from pipeline.model.resolve import resolve_model

ASKED, WITHIN = 86.72, 0.02  # Spearman × 100 in float32


def measure(folder: Path, benchmark: Path) -> Figure:
    """`benchmark`: a TSV with the columns split, score, sentence1, sentence2. It is not part of this project."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {precision: _evaluate(folder, benchmark, precision) for precision in ("exact", "gated")}
    plain = _plain(benchmark)
    rows = [
        *(
            (f"`{name}`", one["dtype"], *map(_hundredfold, one["sets"][0]["scores"].values()))
            for name, one in found.items()
        ),
        ("sentence-transformers", "float32", *map(_hundredfold, plain.values())),
    ]
    text = (
        f"all-MiniLM-L6-v2, {found['exact']['sets'][0]['size']:,} pairs of the dev split, by `embedpipe evaluate` and by "
        "sentence-transformers' own evaluator, × 100.\n\n"
        + table(("", "computed in", "Spearman", "Pearson"), rows)
        + f"\n\nAsked for: a Spearman of {ASKED} ± {WITHIN} in float32."
    )
    spearman = 100 * found["exact"]["scores"]["stsb.spearman"]
    missed = "" if abs(spearman - ASKED) <= WITHIN else f"a Spearman of {spearman:.2f}, not within {WITHIN} of {ASKED}"
    values = {name: one["scores"] for name, one in found.items()}
    return Figure("STS benchmark", text, values | {"sentence-transformers": plain}, missed)


def _hundredfold(score: float) -> str:
    return f"{100 * score:.2f}"


def _plain(benchmark: Path) -> dict[str, float]:
    """spearman and pearson by sentence-transformers alone."""
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    with benchmark.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["split"] == "dev"]
    first, second = ([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    model = load_plain(resolve_model(MODEL, None, None).directory)
    scores = [float(row["score"]) for row in rows]
    found = EmbeddingSimilarityEvaluator(first, second, scores, main_similarity="cosine", write_csv=False)(model)
    return {name: float(found[f"{name}_cosine"]) for name in ("spearman", "pearson")}


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
