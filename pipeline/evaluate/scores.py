"""Scores of vectors, by libraries that are made for them: scipy, scikit-learn, sentence-transformers, trec_eval."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sentence_transformers.util import SimilarityFunction

from pipeline.evaluate.embed import Vectors

RETRIEVED = 100
"""Documents retrieved for a query: as many as the furthest measure looks at."""

BLOCK_QUERIES = 256

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
    queries: Vectors,
    judged: Mapping[str, Mapping[str, int]],
    documents: Iterable[tuple[Sequence[str], Vectors]],
    similarity: str,
) -> dict[str, dict[str, float]]:
    """Query → the `RETRIEVED` most similar documents and how similar they are. A document with the query's own name is left out,
    as it is the query itself, unless it is judged.

    queries: in the order of `judged`, query → document → relevance. documents: names and vectors, batch by batch; held are one
    batch, its similarities to `BLOCK_QUERIES` queries, and what is best so far.
    """
    function = SimilarityFunction.to_similarity_fn(similarity)
    blocks = [torch.from_numpy(queries[at : at + BLOCK_QUERIES]) for at in range(0, len(queries), BLOCK_QUERIES)]
    best = [(torch.empty((len(block), 0)), torch.empty((len(block), 0), dtype=torch.int64)) for block in blocks]
    known: list[str] = []
    for ids, vectors in documents:
        batch = torch.from_numpy(vectors)
        for at, block in enumerate(blocks):
            best[at] = _better(best[at], function(block, batch), len(known))
        known.extend(ids)
    scores, places = (torch.cat(parts).tolist() for parts in zip(*best, strict=True))
    found: dict[str, dict[str, float]] = {}
    for query, own, near in zip(judged, scores, places, strict=True):
        named = ((known[place], score) for place, score in zip(near, own, strict=True))
        others = [(name, score) for name, score in named if name != query or name in judged[query]]
        found[query] = dict(others[:RETRIEVED])
    return found


def _better(
    best: tuple[torch.Tensor, torch.Tensor], similarities: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The most similar documents and their places, of the best so far and a batch's [queries, documents] from `first` on."""
    most = RETRIEVED + 1  # the query itself may be one
    here, order = similarities.topk(min(most, similarities.shape[1]), dim=1)
    scores, places = torch.cat((best[0], here), dim=1), torch.cat((best[1], order + first), dim=1)
    scores, order = scores.topk(min(most, scores.shape[1]), dim=1)
    return scores, places.gather(1, order)


def ranking(judged: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over all queries, from 0 to 1; as with BEIR, one that nothing is relevant to counts, as 0.

    judged: query → document → relevance. run: as `retrieve` gives it.
    """
    import pytrec_eval

    plain = {query: dict(documents) for query, documents in judged.items()}
    by_query = pytrec_eval.RelevanceEvaluator(plain, {"ndcg_cut.10", "recall.10,100"}).evaluate(dict(run))
    return {name: float(np.mean([of[key] for of in by_query.values()])) for name, key in TREC_MEASURES.items()}


def _similarities(first: Vectors, second: Vectors, similarity: str) -> npt.NDArray[np.float32]:
    """Of each pair; more is more similar, whatever the function."""
    pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity)
    found: npt.NDArray[np.float32] = pairwise(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    return found
