"""Retrieval sets: read as they lie, judged as a whole, and scored as by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.config.evaluation import Retrieval
from pipeline.errors import InputError
from pipeline.evaluate import retrieval
from pipeline.evaluate import scores as scoring
from pipeline.evaluate.retrieval import read_retrieval
from pipeline.evaluate.scores import ranking, retrieve

CORPUS = [
    {"_id": "d1", "title": "Tides", "text": "The sea rises and falls."},
    {"_id": "d2", "title": "", "text": "Trams run on rails."},
    {"_id": "d3", "title": "Moss", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "sea"}, {"_id": "q2", "text": "rail"}, {"_id": "q3", "text": "nobody judged it"}]
QRELS = [("q1", "d1", "2"), ("q1", "d3", "0"), ("q2", "d2", "1")]


def write(folder: Path, kind: str = "jsonl", **changes: list[Any]) -> Retrieval:
    corpus, queries = changes.get("corpus", CORPUS), changes.get("queries", QUERIES)
    qrels = changes.get("qrels", QRELS)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        if kind == "jsonl":
            text = "".join(json.dumps(row) + "\n" for row in rows)
        else:
            lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
            text = "".join("\t".join(line) + "\n" for line in lines)
        (folder / f"{name}.{kind}").write_text(text)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(row) for row in qrels)]
    (folder / "qrels" / "test.tsv").write_text("".join(f"{line}\n" for line in lines))
    return Retrieval(
        corpus=(str(folder / f"corpus.{kind}"),), queries=(str(folder / f"queries.{kind}"),),
        qrels=(str(folder / "qrels" / "test.tsv"),),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_a_set_is_read_as_it_lies(tmp_path: Path, kind: str) -> None:
    """Title and text make a document; a query without a judgement says nothing."""
    found = read_retrieval(write(tmp_path, kind), "retrieval.faq", tmp_path)
    documents = dict(zip(*pq.read_table(found.documents).to_pydict().values(), strict=True))
    assert documents == {"d1": "Tides The sea rises and falls.", "d2": "Trams run on rails.", "d3": "Moss"}
    assert pq.read_table(found.queries).to_pydict() == {"id": ["q1", "q2"], "text": ["sea", "rail"]}
    assert found.judged == {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}
    assert (found.count, found.left_out) == (3, 1)


def test_ids_may_be_numbers_and_judgements_jsonl(tmp_path: Path) -> None:
    corpus = [{**row, "_id": n} for n, row in enumerate(CORPUS)]
    source = write(tmp_path, corpus=corpus, queries=[{"_id": 7, "text": "sea"}])
    path = tmp_path / "qrels.jsonl"
    path.write_text(json.dumps({"query-id": 7, "corpus-id": 0, "score": 1}) + "\n")
    found = read_retrieval(source.model_copy(update={"qrels": (str(path),)}), "retrieval.faq", tmp_path)
    assert found.judged == {"7": {"0": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"qrels": [*QRELS, ("q9", "d1", "1")]}, r"retrieval\.faq\.qrels: 1 row .*test\.tsv, row 3: query 'q9' is not among"),
        ({"qrels": [*QRELS, ("q1", "d9", "1")]}, r"test\.tsv, row 3: document 'd9' is not in the corpus"),
        ({"qrels": [("q1", "d1", "yes")]}, r"row 0: column 'score' holds 'yes'; expected a whole number"),
        ({"qrels": [("q1", "d1", "5000000000")]}, "row 0: column 'score' holds '5000000000'; expected a whole .* at most 1,000"),
        ({"qrels": [("q1", "d1", "1e30")]}, "row 0: column 'score' holds '1e30'; expected a whole number, at most 1,000"),
        ({"qrels": [("q1", "d1", "inf")]}, "row 0: column 'score' holds 'inf'; expected a whole number"),
        ({"qrels": [("q1", "d1", "0")]}, "no document is relevant to any query"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, r"corpus\.jsonl, line 4: id 'd1' is there twice"),
        ({"qrels": [*QRELS, ("q1", "d1", "1")]}, r"row 3: document 'd1' is judged twice for query 'q1', and not alike"),
        ({"queries": [*QUERIES, {"_id": "q4", "text": " "}]}, r"line 4: column 'text' holds ' '; expected text"),
        ({"corpus": [*CORPUS, {"_id": "d4", "title": "", "text": 5}]}, r"line 4: column 'text' holds 5; expected text"),
        ({"corpus": [*CORPUS, {"_id": None, "title": "a", "text": "b"}]}, r"column '_id' holds nothing; expected an id"),
        ({"queries": [*QUERIES, {"_id": "q4", "text": None}]}, r"retrieval\.faq\.queries: 1 row .*queries\.jsonl, line 4"),
        ({"corpus": [*CORPUS, {"_id": ["d4"], "title": "", "text": "b"}]}, r"column '_id' holds \['d4'\]; expected an id"),
        ({"corpus": [*CORPUS, {"_id": "d4", "title": [], "text": "b"}]}, r"column 'title' holds \[\]; expected text"),
        ({"corpus": [{"_id": "d1", "text": "without a title"}]}, "no column 'title'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named_with_file_and_row(
    tmp_path: Path, changes: dict[str, list[Any]], said: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){said}"):
        read_retrieval(write(tmp_path, **changes), "retrieval.faq", tmp_path)


def test_scores_are_those_of_the_definition() -> None:
    """nDCG with graded gains, by hand: q1 finds its two documents at ranks 2 and 1, q2 finds nothing."""
    judged = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}}
    run = {"q1": {"b": 0.9, "a": 0.8, "x": 0.7}, "q2": {"x": 0.9}}
    gain = 1 / math.log2(2) + 2 / math.log2(3)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    found = ranking(judged, run)
    assert found["ndcg_at_10"] == pytest.approx(gain / ideal / 2)
    assert (found["recall_at_10"], found["recall_at_100"]) == (0.5, 0.5)


def test_the_highest_grade_that_is_taken_is_counted_exactly() -> None:
    """Beyond trec_eval's integers a gain comes out as another number, or the process ends after everything was embedded."""
    found = ranking({"q": {"a": retrieval.MOST_RELEVANT, "b": 1}}, {"q": {"b": 0.9, "a": 0.8}})
    gain, ideal = 1 + 1000 / math.log2(3), 1000 + 1 / math.log2(3)
    assert found["ndcg_at_10"] == pytest.approx(gain / ideal, rel=1e-9)


def test_a_query_that_nothing_is_relevant_to_scores_0(tmp_path: Path) -> None:
    """As with BEIR and trec_eval; left out, the mean would be of other queries than theirs."""
    found = read_retrieval(
        write(tmp_path, qrels=[("q1", "d1", "1"), ("q2", "d2", "0"), ("q2", "d1", "-1")]), "r", tmp_path
    )
    assert found.unanswerable == 1
    assert ranking(found.judged, {"q1": {"d1": 0.9}, "q2": {"d2": 0.9}})["recall_at_10"] == 0.5


def nearest(queries: Any, documents: Any, similarity: str) -> Any:
    """By definition, in double precision [queries, documents]."""
    one, other = queries.astype(np.float64), documents.astype(np.float64)
    if similarity == "cosine":
        one, other = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (one, other))
    if similarity in ("cosine", "dot"):
        return one @ other.T
    return -np.linalg.norm(one[:, None] - other[None], ord=2 if similarity == "euclidean" else 1, axis=2)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("size", [1, 7, 500])
def test_what_is_retrieved_does_not_depend_on_batches(
    monkeypatch: pytest.MonkeyPatch, size: int, similarity: str
) -> None:
    """Nor on blocks of queries."""
    monkeypatch.setattr(scoring, "RETRIEVED", 20)
    monkeypatch.setattr(scoring, "BLOCK_QUERIES", 3)
    draw = np.random.default_rng(0)
    documents = draw.standard_normal((300, 16)).astype(np.float32)
    queries = draw.standard_normal((5, 16)).astype(np.float32)
    names = [f"d{n}" for n in range(300)]
    batches = [(names[i : i + size], documents[i : i + size]) for i in range(0, 300, size)]
    found = retrieve(queries, {f"q{n}": {} for n in range(5)}, batches, similarity)
    due = np.argsort(-nearest(queries, documents, similarity), axis=1)[:, :20]
    assert [list(of) for of in found.values()] == [[names[i] for i in row] for row in due]


def test_a_query_that_is_one_of_the_documents_is_no_answer_to_itself_unless_it_is_judged() -> None:
    """In a set of duplicate questions it would always come first. Where ids only happen to be the same, it may be the answer."""
    vectors = np.eye(4, dtype=np.float32)
    names = ["1", "2", "3", "4"]
    found = retrieve(vectors[:2], {"1": {"2": 1}, "2": {"2": 1}}, [(names, vectors)], "cosine")
    assert set(found["1"]) == {"2", "3", "4"}
    assert next(iter(found["2"])) == "2"
    assert len(found["2"]) == 4
