"""Evaluation: labelled sets are read and judged, their texts embedded through the pipeline, and their vectors scored."""

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset

from pipeline.config.evaluation import Evaluation, Retrieval
from pipeline.config.schema import Model
from pipeline.errors import ConfigError
from pipeline.evaluate.embed import Embedder, Vectors, vectors_of
from pipeline.evaluate.pairs import LabelledPairs, RatedPairs, read_pairs, read_rated
from pipeline.evaluate.retrieval import RetrievalSet, read_retrieval
from pipeline.evaluate.scores import correlations, ranking, retrieve, separation
from pipeline.flow.summary import Summary
from pipeline.model.lock import ModelLock
from pipeline.model.resolve import resolve_model
from pipeline.progress.events import NullReporter, Reporter
from pipeline.quality.neighbours import read_similarity

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names a model may have its prompt for documents under, in the order that sentence-transformers gives them."""

BATCH_ROWS = 16_384
"""Documents whose vectors are held at a time."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How a model did on one set."""

    name: str
    kind: str  # sts, pairs or retrieval
    size: int  # pairs, or queries with a judgement
    of: str  # what `size` counts, and what else is to be known of it
    scores: Mapping[str, float]
    prompt: str  # before every text; in retrieval, before every document
    task: str | None  # the way of these texts through a model that has several
    query_prompt: str | None = None  # before every query, in retrieval


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How a model did."""

    model: str
    revision: str | None
    weights: str  # sha256 over the model's weights
    dimensions: int
    max_tokens: int
    similarity: str  # by which vectors were compared, as the model says
    dtype: str  # it was computed in
    texts: int  # that were embedded
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


def evaluate(evaluation: Evaluation, reporter: Reporter | None = None) -> Evaluated:
    """Measure what is asked. What is written meanwhile goes away, but for the model's copy in its cache.

    Raises InputError naming file and row for sets that can't be used, before anything is embedded; ModelError and ConfigError
    for a model or a folder that can't be; EncodeError where a text has no vector.
    """
    began = time.monotonic()
    with _workplace(evaluation.folder) as folder:
        sets = _read(evaluation, folder)
        run = _Run(evaluation, Embedder(evaluation.execution, reporter or NullReporter()), folder)
        scored = (*run.on_pairs(sets), *run.on_retrieval(sets))
    lock = run.staged.lock
    config = evaluation.model
    return Evaluated(
        model=lock.name,
        revision=lock.revision,
        weights=lock.weights_hash,
        dimensions=min(lock.dimensions, config.truncate_dim or lock.dimensions),
        max_tokens=min(lock.max_tokens, config.max_tokens or lock.max_tokens),
        similarity=run.similarity,
        dtype=", ".join(sorted({summary.dtype for summary in run.summaries})),
        texts=sum(summary.rows for summary in run.summaries),
        seconds=round(time.monotonic() - began, 1),
        sets=scored,
        minimum=evaluation.minimum,
    )


@contextmanager
def _workplace(folder: str | None) -> Iterator[Path]:
    try:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="embedpipe-evaluate-", dir=folder)
    except OSError as error:
        raise ConfigError(
            f"folder: {error.filename or folder}: {error.strerror}; name one that can be written"
        ) from error
    with made as name:
        yield Path(name)


def _read(evaluation: Evaluation, folder: Path) -> _Sets:
    retrieval = {}
    for number, (name, source) in enumerate(evaluation.retrieval.items()):
        own = folder / f"retrieval-{number}"
        own.mkdir()
        retrieval[name] = read_retrieval(source, f"retrieval.{name}", own)
    return _Sets(
        {name: read_rated(source, f"sts.{name}") for name, source in evaluation.sts.items()},
        {name: read_pairs(source, f"pairs.{name}") for name, source in evaluation.pairs.items()},
        retrieval,
    )


class _Run:
    """One evaluation, once its sets are read."""

    def __init__(self, evaluation: Evaluation, embedder: Embedder, folder: Path) -> None:
        model = evaluation.model
        self.evaluation, self.embedder, self.folder = evaluation, embedder, folder
        self.staged = resolve_model(model.name, model.revision, evaluation.execution.model_cache)
        self.similarity = read_similarity(self.staged.directory)
        self.summaries: list[Summary] = []  # of the jobs

    def on_pairs(self, sets: _Sets) -> Iterator[Scored]:
        """All sets of pairs share one job: each distinct text is embedded once."""
        everything: tuple[RatedPairs | LabelledPairs, ...] = (*sets.sts.values(), *sets.pairs.values())
        if not everything:
            return
        texts = dict.fromkeys(text for one in everything for text in (*one.first, *one.second))
        vectors, embedded = self.embedder.embed_texts(list(texts), self.folder, self.evaluation.model)
        self.summaries.append(embedded.summary)
        how = embedded.recipe["prompt"], embedded.recipe["task"]
        places = {text: place for place, text in enumerate(texts)}

        def of(some: Sequence[str]) -> Vectors:
            found: Vectors = vectors[np.array([places[text] for text in some])]
            return found

        for name, rated in sets.sts.items():
            scores = correlations(of(rated.first), of(rated.second), rated.scores, self.similarity)
            yield Scored(name, "sts", len(rated.scores), "pairs", scores, *how)
        for name, labelled in sets.pairs.items():
            beside = f", {labelled.left_out:,} left out" if labelled.left_out else ""
            scores = separation(of(labelled.first), of(labelled.second), labelled.labels, self.similarity)
            of_pairs = f"pairs, {labelled.positive:,} positive{beside}"
            yield Scored(name, "pairs", len(labelled.labels), of_pairs, scores, *how)

    def on_retrieval(self, sets: _Sets) -> Iterator[Scored]:
        """Each set has a job for its queries and one for its documents."""
        for name, found in sets.retrieval.items():
            folder = found.queries.parent
            sides = _sides(self.evaluation.model, self.evaluation.retrieval[name], self.staged.lock)
            queries = self.embedder.embed_file(found.queries, folder / "queries", sides[0])
            documents = self.embedder.embed_file(found.documents, folder / "documents", sides[1])
            self.summaries += queries.summary, documents.summary
            table = queries.vectors.to_table(columns=["id", "embedding"])
            asked = {query: found.judged[query] for query in table["id"].to_pylist()}
            run = retrieve(vectors_of(table), asked, _batches(documents.vectors), self.similarity)
            yield Scored(
                name,
                "retrieval",
                len(asked),
                _of_retrieval(found),
                ranking(asked, run),
                documents.recipe["prompt"],
                documents.recipe["task"],
                queries.recipe["prompt"],
            )


def _of_retrieval(found: RetrievalSet) -> str:
    unanswerable = f" ({found.unanswerable:,} with nothing relevant, which score 0)" if found.unanswerable else ""
    beside = f", {found.left_out:,} without a judgement left out" if found.left_out else ""
    return f"queries{unanswerable}, {found.count:,} documents{beside}"


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
    for batch in documents.to_batches(columns=["id", "embedding"], batch_size=BATCH_ROWS):
        if batch.num_rows:
            yield batch["id"].to_pylist(), vectors_of(batch)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
