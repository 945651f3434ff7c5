"""STS: Spearman's correlation of all-MiniLM-L6-v2 on the dev split of the STS benchmark, through the whole pipeline."""

import csv
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import pipeline
from jobs.figures.common import Figure, make_job, run

PUBLISHED = 86.72  # x100; what the model reaches with plain sentence-transformers in float32


def measure(folder: Path, benchmark: Path) -> Figure:
    """`benchmark`: a TSV with the columns split, score, sentence1, sentence2. It is not part of this project."""
    with benchmark.open(encoding="utf-8", newline="") as file:
        pairs = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["split"] == "dev"]
    source = folder / "sentences.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    with source.open("w", encoding="utf-8") as out:
        for number, pair in enumerate(pairs):
            for side in (1, 2):
                out.write(json.dumps({"id": f"{number}-{side}", "text": pair[f"sentence{side}"]}) + "\n")
    run(make_job(source, folder / "out", model__precision="exact"), folder / "job")
    found = pipeline.open_snapshot(str(folder / "out")).to_table(columns=["id", "embedding"])
    vectors = dict(zip(found["id"].to_pylist(), np.array(found["embedding"].to_pylist()), strict=True))
    cosines = [float(vectors[f"{number}-1"] @ vectors[f"{number}-2"]) for number in range(len(pairs))]
    score = 100 * float(spearmanr(cosines, [float(pair["score"]) for pair in pairs]).statistic)
    text = (
        f"{len(pairs):,} pairs of the dev split, `exact`: Spearman × 100 is **{score:.2f}** "
        f"(plain sentence-transformers: {PUBLISHED}; asked for: within 0.02)."
    )
    return Figure("STS benchmark", text, {"spearman": score, "pairs": len(pairs)})
