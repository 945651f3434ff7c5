"""The model's card: README.md beside it, filled from what was really run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config.training import Training
from pipeline.config.yaml_text import write_yaml
from pipeline.export.card import table
from pipeline.train.records import Trained

CURVE = "curve.svg"
"""Beside the card: loss and metric by step."""

TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction"]


def write_card(folder: Path, model: Any, training: Training, trained: Trained) -> None:
    """Write README.md into the model's `folder`. model: the SentenceTransformer, as it is saved there."""
    head = write_yaml({"pipeline_tag": "sentence-similarity", "library_name": "sentence-transformers", "tags": TAGS})
    parts = [f"---\n{head}---", *_parts(model, training, trained)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _parts(model: Any, training: Training, trained: Trained) -> Iterator[str]:
    yield f"# {Path(training.output).name}"
    yield (
        "This is a [sentence-transformers](https://www.SBERT.net) model: it maps sentences and paragraphs to a "
        f"{trained.dimensions} dimensional dense vector space, for semantic search or clustering."
    )
    yield table(
        ("", ""),
        [
            ("dimensions", f"{trained.dimensions}"),
            ("parameters", f"{trained.parameters:,}"),
            ("longest text", f"{model.max_seq_length:,} tokens"),
            ("distance it was trained for", training.loss.distance),
        ],
    )
    yield "## Usage"
    yield (
        "```python\n"
        "from sentence_transformers import SentenceTransformer\n\n"
        f"model = SentenceTransformer({trained.model!r})\n"
        'embeddings = model.encode(["This is an example sentence", "Each sentence is converted"])\n'
        "print(embeddings.shape)\n"
        "```"
    )
    yield "Many rows at once, with embedpipe: `model.name` is this directory."
    yield "## Evaluation"
    yield _evaluation(trained)
    yield "## Training"
    yield (
        f"{trained.pairs:,} pairs ({trained.positive:,} of them belong together"
        + (f"; {trained.left_out:,} more had a score in between and were left out" if trained.left_out else "")
        + f"), begun with {trained.base or 'random weights'}, {trained.steps:,} steps of {training.schedule.batch_size} pairs "
        f"on {trained.device}, by embedpipe {pipeline.__version__}."
    )
    yield f"![Loss and metric by step]({CURVE})"
    loss, schedule = training.loss, training.schedule
    yield f"**Loss**: `ContrastiveLoss` with distance {loss.distance} and margin {loss.margin:g}."
    values = schedule.model_dump(exclude={"checkpoint_steps"}, exclude_none=True)
    yield table(("parameter", "value"), [(name, f"{value}") for name, value in values.items()])
    yield "## Full Model Architecture"
    yield f"```\n{model}\n```"


def _evaluation(trained: Trained) -> str:
    if not trained.metric:
        return "No pairs were held out to evaluate it on."
    rows = [
        (name.partition("_")[2].replace("_", " "), f"{trained.before[name]:.4f}", f"{value:.4f}")
        for name, value in trained.after.items()
        if not name.endswith("threshold") and "_max_" not in name
    ]
    return f"On {trained.evaluated_on}:\n\n" + table(("", "before", "after"), rows)
