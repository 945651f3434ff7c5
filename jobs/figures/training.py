"""Training: a small encoder of the model card's shape, from random weights, on the STS benchmark; its curve as a picture."""

import json
import shutil
import sys
from pathlib import Path

from jobs.figures.common import PROJECT, Figure, table, timed

CURVE = PROJECT / "docs" / "training.svg"
RECIPE = PROJECT / "configs" / "train" / "small.yaml"


def measure(folder: Path, benchmark: Path) -> Figure:
    """`benchmark`: see sts.py. The recipe is configs/train/small.yaml, with the benchmark's train split for its pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    ran = timed(
        [
            sys.executable, "-m", "pipeline", "train", "--config", str(RECIPE), "--json",
            "--set", f"pairs.paths=[{benchmark}]", "--set", f"evaluation.paths=[{benchmark}]",
            "--set", f"output={folder / 'out'}",
        ]
    )  # fmt: skip
    if ran.code != 0:
        raise RuntimeError(f"training ended with {ran.code}:\n{ran.err}")
    found = json.loads(ran.out)
    shutil.copy(folder / "out" / "model" / "curve.svg", CURVE)
    before, after = found["before"], found["after"]
    rows = [
        (
            name.replace("_ap", " average precision").replace("_", " "),
            f"{before[f'evaluation_{name}']:.4f}",
            f"{after[f'evaluation_{name}']:.4f}",
        )
        for name in ("euclidean_ap", "cosine_ap", "euclidean_accuracy", "euclidean_f1")
    ]
    text = (
        "A small encoder of the card's shape (RoBERTa → max pooling → Dense to 153 with ReLU → Dropout, contrastive loss) from "
        "random weights and a tokenizer trained on the pairs' own text, by configs/train/small.yaml: "
        f"{found['pairs']:,} pairs of the train split (scored 4 and more, or 1 and less), {found['steps']:,} steps in "
        f"{found['seconds']:.0f} s on a CPU, evaluated on {found['evaluation_pairs']:,} pairs of the dev split.\n\n"
        + table(("", "before", "after"), rows)
        + "\n\n![Loss and average precision by step](training.svg)"
    )
    return Figure("Training", text, {"before": before, "after": after, "seconds": found["seconds"]})
