"""Whole evaluations through the pipeline, held against sentence-transformers' own evaluators."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
)
from support.models import edit_json

from pipeline.config.evaluation import Evaluation
from pipeline.errors import ConfigError, EncodeError, InputError
from pipeline.evaluate.evaluate import Evaluated, Scored, evaluate
from pipeline.flow import supervisor


def rows(paths: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize(("similarity", "of"), [("cosine", "minilm"), ("euclidean", "tiny_model")])
def test_scores_are_those_of_sentence_transformers(
    sets: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path, similarity: str, of: str
) -> None:
    """In float32, whichever way the model compares its vectors."""
    model = SentenceTransformer(request.getfixturevalue(of), device="cpu", similarity_fn_name=similarity)
    model.save(str(tmp_path / "model"))
    evaluation = Evaluation.model_validate({**sets, "model": {"name": str(tmp_path / "model"), "precision": "exact"}})
    found = evaluate(evaluation).scores

    rated, labelled = rows(sets["sts"]["scored"]["paths"]), rows(sets["pairs"]["labelled"]["paths"])
    first, second = ([row[name] for row in rated] for name in ("sentence1", "sentence2"))
    sts = EmbeddingSimilarityEvaluator(first, second, [row["score"] for row in rated], write_csv=False)(model)
    binary = BinaryClassificationEvaluator(
        first, second, [row["label"] for row in labelled], write_csv=False, similarity_fn_names=[similarity]
    )(model)
    assert found["scored.spearman"] == pytest.approx(sts[f"spearman_{similarity}"], abs=1e-4)
    assert found["scored.pearson"] == pytest.approx(sts[f"pearson_{similarity}"], abs=1e-4)
    assert found["labelled.average_precision"] == pytest.approx(binary[f"{similarity}_ap"], abs=1e-4)
    assert found["labelled.accuracy"] == pytest.approx(binary[f"{similarity}_accuracy"], abs=1e-4)

    asked = sets["retrieval"]["topics"]
    corpus = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in rows(asked["corpus"])}
    relevant: dict[str, set[str]] = {}
    for row in rows(asked["qrels"]):
        relevant.setdefault(row["query-id"], set()).add(row["corpus-id"])
    queries = {row["_id"]: row["text"] for row in rows(asked["queries"])}
    theirs = InformationRetrievalEvaluator(
        queries, corpus, relevant, ndcg_at_k=[10], precision_recall_at_k=[10], write_csv=False,
        score_functions={similarity: model.similarity},
    )(model)  # fmt: skip
    assert found["topics.recall_at_10"] == pytest.approx(theirs[f"{similarity}_recall@10"], abs=1e-6)
    assert found["topics.ndcg_at_10"] == pytest.approx(theirs[f"{similarity}_ndcg@10"], abs=1e-4)
    if of == "minilm":
        assert found["scored.spearman"] > 0.5  # a good model


def test_prompts_are_a_models_own_for_each_side(
    sets: dict[str, Any], tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query embedded as a document is another vector, and a benchmark of something else."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    edit_json(model / "config_sentence_transformers.json", prompts={"query": "Q: ", "passage": "P: "})
    asked: list[tuple[str | None, str | None]] = []
    run_job = supervisor.run_job

    def watch(config: Any, **options: Any) -> Any:
        asked.append((config.model.prompt, config.model.prompt_name))
        return run_job(config, **options)

    monkeypatch.setattr("pipeline.evaluate.embed.run_job", watch)
    only = {"retrieval": sets["retrieval"], "execution": sets["execution"], "model": {"name": str(model)}}
    evaluate(Evaluation.model_validate(only))
    assert asked == [(None, "query"), (None, "passage")]
    asked.clear()
    only["retrieval"]["topics"] |= {"query_prompt": "find: "}
    evaluate(Evaluation.model_validate(only | {"model": {"name": str(model), "prompt": "text: "}}))
    (one,) = evaluate(Evaluation.model_validate(only | {"model": {"name": str(model), "prompt": "text: "}})).sets
    assert asked[:2] == asked[2:] == [("find: ", None), ("text: ", None)]
    assert (one.prompt, one.query_prompt, one.task) == (
        "text: ",
        "find: ",
        None,
    )  # what a reader of the scores has to know
    assert one.of == "queries, 12 documents"


def test_nothing_is_embedded_before_all_sets_are_judged(
    sets: dict[str, Any], tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake may be in the last file of a long evaluation."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it embeds already")

    monkeypatch.setattr("pipeline.evaluate.embed.run_job", never)
    path = Path(sets["pairs"]["labelled"]["paths"][0])
    path.write_text(path.read_text() + json.dumps({"sentence1": "a", "sentence2": "b", "label": 7}) + "\n")
    with pytest.raises(
        InputError, match=r"(?s)pairs\.labelled: 1 row .*labelled\.jsonl, line 67: column 'label' holds 7"
    ):
        evaluate(Evaluation.model_validate({**sets, "model": {"name": tiny_model}}))


def test_texts_without_a_vector_end_it(sets: dict[str, Any], tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other texts would be scored in their places."""
    run_job = supervisor.run_job
    monkeypatch.setattr(
        "pipeline.evaluate.embed.run_job",
        lambda config, **options: replace(run_job(config, **options), rows=9, quarantined={"poison": 3}),
    )
    with pytest.raises(EncodeError, match=r"3 texts of the sets have no vector \(poison 3\)"):
        evaluate(Evaluation.model_validate({**sets, "model": {"name": tiny_model}}))


def test_a_folder_that_can_not_be_made_is_told(sets: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = {**sets, "model": {"name": "m"}, "folder": str(tmp_path / "file" / "below")}
    with pytest.raises(ConfigError, match=r"folder: .*file.*; name one that can be written"):
        evaluate(Evaluation.model_validate(config))


def test_a_score_that_can_not_be_told_is_short_of_any_minimum() -> None:
    """Vectors that are all the same correlate with nothing."""
    found = Evaluated(
        model="m", revision=None, weights="", max_tokens=1, dimensions=1, similarity="cosine", dtype="float32", texts=1,
        seconds=0.0, sets=(), minimum={},
    )  # fmt: skip
    assert found.short_of == {}
    one = replace(
        found, sets=(Scored("s", "sts", 2, "pairs", {"spearman": math.nan}, "", None),), minimum={"s.spearman": 0.1}
    )
    assert list(one.short_of) == ["s.spearman"]
    assert one.to_json()["scores"] == {"s.spearman": None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sts": {}, "pairs": {}, "retrieval": {}}, "nothing to measure"),
        ({"minimum": {"scored.spearman": 86.7}}, "less than or equal to 1"),
        ({"minimum": {"scored.spearman": math.nan}}, "finite number"),
        ({"minimum": {"scored.spear": 0.5}}, "the scores will be scored.spearman, scored.pearson, labelled"),
        ({"pairs": {"scored": {"paths": ["x"]}}}, "two sets are named 'scored'"),
    ],
)
def test_a_config_that_means_nothing_is_refused(sets: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Evaluation.model_validate({**sets, "model": {"name": "m"}, **change})
