"""Evaluation: labelled sets are read and judged, their texts embedded through the pipeline, and their vectors scored."""

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset

from pipeline.config.evaluation import Evaluation, Retrieval
from pipeline.config.schema import Model
from pipeline.evaluate.embed import embed_file, embed_texts, vectors_of
from pipeline.evaluate.pairs import LabelledPairs, RatedPairs, read_pairs, read_rated
from pipeline.evaluate.retrieval import RetrievalSet, read_retrieval
from pipeline.evaluate.scores import Vectors, correlations, ranking, retrieve, separation
from pipeline.flow.summary import Summary
from pipeline.model.lock import ModelLock
from pipeline.model.resolve import resolve_model
from pipeline.quality.neighbours import read_similarity

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names a model may have its prompt for documents under, as sentence-transformers looks for them."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How a model did on one set."""

    name: str
    kind: str  # sts, pairs or retrieval
    size: int  # pairs, or queries with a judgement
    of: str  # what `size` counts, and what else is to be known of it
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How a model did."""

    model: str
    revision: str | None
    dimensions: int
    similarity: str  # by which vectors were compared, as the model says
    dtype: str  # it was computed in
    texts: int  # distinct ones
    seconds: float
    sets: tuple[Scored, ...]
    minimum: Mapping[str, float]  # what was asked for, by score's name

    @property
    def scores(self) -> dict[str, float]:
        """By name, `set.measure`."""
        return {f"{one.name}.{measure}": value for one in self.sets for measure, value in one.scores.items()}

    @property
    def short_of(self) -> dict[str, float]:
        """Scores below the minimum; one that can't be told is."""
        scores = self.scores
        return {name: scores[name] for name, least in self.minimum.items() if not scores[name] >= least}

    def to_json(self) -> dict[str, Any]:
        """JSON has no number for a score that can't be told, so that is null."""
        plain = asdict(self) | {"scores": self.scores, "short_of": self.short_of}
        return dict(_without_nan(plain))


@dataclass(frozen=True, slots=True)
class _Sets:
    """All labelled sets, read."""

    sts: Mapping[str, RatedPairs]
    pairs: Mapping[str, LabelledPairs]
    retrieval: Mapping[str, RetrievalSet]


def evaluate(evaluation: Evaluation) -> Evaluated:
    """Measure what is asked. Nothing stays on disk but the model's copy.

    Raises InputError naming file and row for sets that can't be used, before anything is embedded; ModelError and ConfigError
    for a model that can't be; EncodeError where a text has no vector.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="embedpipe-evaluate-") as name:
        folder = Path(name)
        sets = _read(evaluation, folder)
        model = evaluation.model
        staged = resolve_model(model.name, model.revision, evaluation.execution.model_cache)
        similarity = read_similarity(staged.directory)
        summaries: list[Summary] = []
        scored = [
            *_on_pairs(sets, folder, evaluation, similarity, summaries),
            *(
                _on_retrieval(name, found, evaluation, staged.lock, similarity, summaries)
                for name, found in sets.retrieval.items()
            ),
        ]
    return Evaluated(
        model=staged.lock.name,
        revision=staged.lock.revision,
        dimensions=min(staged.lock.dimensions, model.truncate_dim or staged.lock.dimensions),
        similarity=similarity,
        dtype=", ".join(sorted({summary.dtype for summary in summaries})),
        texts=sum(summary.rows for summary in summaries),
        seconds=round(time.monotonic() - began, 1),
        sets=tuple(scored),
        minimum=evaluation.minimum,
    )


def _read(evaluation: Evaluation, folder: Path) -> _Sets:
    retrieval = {}
    for name, source in evaluation.retrieval.items():
        (folder / name).mkdir()
        retrieval[name] = read_retrieval(source, f"retrieval.{name}", folder / name)
    return _Sets(
        {name: read_rated(source, f"sts.{name}") for name, source in evaluation.sts.items()},
        {name: read_pairs(source, f"pairs.{name}") for name, source in evaluation.pairs.items()},
        retrieval,
    )


def _on_pairs(
    sets: _Sets, folder: Path, evaluation: Evaluation, similarity: str, summaries: list[Summary]
) -> Iterator[Scored]:
    """All sets of pairs share one job: each distinct text is embedded once."""
    everything: tuple[RatedPairs | LabelledPairs, ...] = (*sets.sts.values(), *sets.pairs.values())
    if not everything:
        return
    places = {
        text: place
        for place, text in enumerate(dict.fromkeys(t for one in everything for t in (*one.first, *one.second)))
    }
    vectors, summary = embed_texts(list(places), folder, evaluation)
    summaries.append(summary)

    def of(texts: Sequence[str]) -> Vectors:
        found: Vectors = vectors[np.array([places[text] for text in texts])]
        return found

    for name, rated in sets.sts.items():
        scores = correlations(of(rated.first), of(rated.second), rated.scores, similarity)
        yield Scored(name, "sts", len(rated.scores), "pairs", scores)
    for name, labelled in sets.pairs.items():
        beside = f", {labelled.left_out:,} left out" if labelled.left_out else ""
        scores = separation(of(labelled.first), of(labelled.second), labelled.labels, similarity)
        yield Scored(name, "pairs", len(labelled.labels), f"pairs, {labelled.positive:,} positive{beside}", scores)


def _on_retrieval(
    name: str, found: RetrievalSet, evaluation: Evaluation, lock: ModelLock, similarity: str, summaries: list[Summary]
) -> Scored:
    asked, folder = evaluation.retrieval[name], found.queries.parent
    sides = _sides(evaluation.model, asked, lock)
    queries, of_queries = embed_file(found.queries, folder / "queries", sides[0], evaluation)
    documents, of_documents = embed_file(found.documents, folder / "documents", sides[1], evaluation)
    summaries += of_queries, of_documents
    table = queries.to_table(columns=["id", "embedding"])
    run = retrieve(vectors_of(table), table["id"].to_pylist(), _batches(documents), similarity)
    beside = f", {found.left_out:,} without a judgement left out" if found.left_out else ""
    of = f"queries, {found.count:,} documents{beside}"
    return Scored(name, "retrieval", len(found.judged), of, ranking(found.judged, run))


def _sides(model: Model, asked: Retrieval, lock: ModelLock) -> tuple[Model, Model]:
    """The model for queries and for documents: with what was asked, or what the model has for each."""
    prompts = dict(lock.prompts)
    named = next((name for name in DOCUMENT_PROMPTS if name in prompts), "document")
    sides = []
    for task, prompt, own in (("query", asked.query_prompt, "query"), ("document", asked.document_prompt, named)):
        changed: dict[str, str | None] = {"prompt": prompt, "prompt_name": own if prompt is None else None}
        if task == "document" and prompt is None and (model.prompt is not None or model.prompt_name is not None):
            changed = {}  # what a job puts before its rows
        if task in lock.tasks:
            changed["task"] = task
        sides.append(model.model_copy(update=changed))
    return sides[0], sides[1]


def _batches(documents: pyarrow.dataset.Dataset) -> Iterator[tuple[list[str], Vectors]]:
    for batch in documents.to_batches(columns=["id", "embedding"]):
        if batch.num_rows:
            yield batch["id"].to_pylist(), vectors_of(batch)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
