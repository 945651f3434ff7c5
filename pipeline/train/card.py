"""The model's card: README.md beside it, filled from what was really run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config.pairs import Pairs
from pipeline.config.training import Training
from pipeline.config.yaml_text import write_yaml
from pipeline.export.card import table
from pipeline.storage.environment import redact
from pipeline.train.records import Trained

CURVE = "curve.svg"
"""Beside the card: loss and metric by step."""

TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction"]


def write_card(folder: Path, model: Any, training: Training, trained: Trained, parts: Mapping[str, str]) -> None:
    """Write README.md into the model's `folder`. model: the SentenceTransformer, as it is saved there. parts: what it was trained
    with, by name."""
    head = write_yaml({"pipeline_tag": "sentence-similarity", "library_name": "sentence-transformers", "tags": TAGS})
    sections = [f"---\n{head}---", *_sections(model, training, trained, parts)]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _sections(model: Any, training: Training, trained: Trained, parts: Mapping[str, str]) -> Iterator[str]:
    yield f"# {Path(trained.model).parent.name}"
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
    values = training.schedule.model_dump(exclude={"checkpoint_steps"})
    values["steps_per_epoch"] = trained.steps // training.schedule.epochs
    values["evaluation_steps"] = (values["evaluation_steps"] or values["steps_per_epoch"]) if trained.metric else "none"
    yield table(("", ""), list(parts.items()))
    yield table(("parameter", "value"), [(name, f"{value}") for name, value in values.items()])
    yield "### Data"
    yield _data(training)
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


def _data(training: Training) -> str:
    sources = {"trained on": training.pairs, "evaluated on": training.evaluation}
    given = {name: dict(_source(pairs)) for name, pairs in sources.items() if pairs is not None}
    rows = dict.fromkeys(row for facts in given.values() for row in facts)
    return table(("", *given), [(row, *(facts.get(row, "") for facts in given.values())) for row in rows])


def _source(pairs: Pairs) -> Iterator[tuple[str, str]]:
    yield "files", redact(", ".join(pairs.paths))
    yield "columns", ", ".join((pairs.first, pairs.second, pairs.label))
    if pairs.only:
        yield "rows", ", ".join(f"{column} = {value}" for column, value in pairs.only.items())
    if pairs.positive_from is not None:
        yield "belong together", f"from {pairs.positive_from:g} on"
        yield "don't", f"up to {pairs.negative_to:g}"
