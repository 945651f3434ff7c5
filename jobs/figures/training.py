"""Training: a small encoder of the model card's shape, from random weights, on the STS benchmark; its curve as a picture."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.figures.common import PROJECT, Figure, table, timed
from pipeline.config.load import load_training
from pipeline.config.training import Loss, Training

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
    values = {name: found[name] for name in ("before", "after", "seconds")}
    return Figure("Training", describe(found, load_training(RECIPE)), values)


def describe(found: Mapping[str, Any], recipe: Training) -> str:
    """What was trained, and how it went. found: as `embedpipe train --json` tells it."""
    shape, before, after = recipe.model, found["before"], found["after"]
    rows = [
        (
            name.replace("_ap", " average precision").replace("_", " "),
            f"{before[f'evaluation_{name}']:.4f}",
            f"{after[f'evaluation_{name}']:.4f}",
        )
        for name in ("euclidean_ap", "cosine_ap", "euclidean_accuracy", "euclidean_f1")
    ]
    return (
        f"A small encoder of the card's shape (RoBERTa → {shape.pooling} pooling → Dense to {shape.dimensions} with "
        f"{shape.activation}{f' → Dropout {shape.dropout:g}' if shape.dropout else ', without its Dropout'}; contrastive loss "
        f"with margin {recipe.loss.margin:g} instead of {Loss().margin:g}) from random weights and a tokenizer trained on the "
        f"pairs' own text, by configs/train/small.yaml: {found['pairs']:,} pairs of the train split (scored 4 and more, or 1 and "
        f"less), {found['steps']:,} steps in {found['seconds']:.0f} s on {found['device']}, evaluated on "
        f"{found['evaluation_pairs']:,} pairs of the dev split, {found['evaluated_trained']:,} of which are in the train split "
        "too.\n\n" + table(("", "before", "after"), rows) + "\n\n![Loss and average precision by step](training.svg)"
    )
