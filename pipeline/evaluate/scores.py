"""Scores of vectors, by libraries that are made for them: scipy, scikit-learn, sentence-transformers, trec_eval."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sentence_transformers.util import SimilarityFunction

Vectors = npt.NDArray[np.float32]

RETRIEVED = 100
"""Documents retrieved for a query: as many as the furthest measure looks at."""

TREC_MEASURES = {"ndcg_at_10": "ndcg_cut_10", "recall_at_10": "recall_10", "recall_at_100": "recall_100"}


def correlations(first: Vectors, second: Vectors, scores: Sequence[float], similarity: str) -> dict[str, float]:
    """Of similarities of pairs [n, dimensions] with people's scores, from -1 to 1."""
    from scipy.stats import pearsonr, spearmanr

    found = _similarities(first, second, similarity)
    return {"spearman": float(spearmanr(scores, found).statistic), "pearson": float(pearsonr(scores, found).statistic)}


def separation(first: Vectors, second: Vectors, labels: Sequence[int], similarity: str) -> dict[str, float]:
    """How well similarities of pairs [n, dimensions] tell labels 1 and 0 apart, from 0 to 1. Accuracy is that at the threshold
    that is best for these pairs."""
    from sklearn.metrics import average_precision_score

    found = _similarities(first, second, similarity)
    accuracy, _ = BinaryClassificationEvaluator.find_best_acc_and_threshold(found, np.asarray(labels), True)
    return {"average_precision": float(average_precision_score(labels, found)), "accuracy": float(accuracy)}


def retrieve(
    queries: Vectors, names: Sequence[str], documents: Iterable[tuple[Sequence[str], Vectors]], similarity: str
) -> dict[str, dict[str, float]]:
    """Query → the `RETRIEVED` most similar documents and how similar they are, without the one of its own name.

    documents: names and vectors, batch by batch; one batch is held at a time.
    """
    function = SimilarityFunction.to_similarity_fn(similarity)
    wanted = torch.from_numpy(queries)
    known: list[str] = []
    best = torch.empty((len(queries), 0))
    places = torch.empty((len(queries), 0), dtype=torch.int64)
    for ids, vectors in documents:
        here = torch.arange(len(known), len(known) + len(ids)).expand(len(queries), -1)
        known.extend(ids)
        both = torch.cat((best, function(wanted, torch.from_numpy(vectors))), dim=1)
        # One more than is wanted: a query may be one of the documents.
        best, order = both.topk(min(RETRIEVED + 1, both.shape[1]), dim=1)
        places = torch.cat((places, here), dim=1).gather(1, order)
    return {
        query: dict([(known[p], s) for p, s in zip(near, scores, strict=True) if known[p] != query][:RETRIEVED])
        for query, near, scores in zip(names, places.tolist(), best.tolist(), strict=True)
    }


def ranking(judged: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over all queries, from 0 to 1. judged: query → document → relevance. run: as `retrieve` gives it."""
    import pytrec_eval

    plain = {query: dict(documents) for query, documents in judged.items()}
    by_query = pytrec_eval.RelevanceEvaluator(plain, {"ndcg_cut.10", "recall.10,100"}).evaluate(dict(run))
    return {name: float(np.mean([of[key] for of in by_query.values()])) for name, key in TREC_MEASURES.items()}


def _similarities(first: Vectors, second: Vectors, similarity: str) -> npt.NDArray[np.float32]:
    """Of each pair; more is more similar, whatever the function."""
    pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity)
    found: npt.NDArray[np.float32] = pairwise(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    return found
