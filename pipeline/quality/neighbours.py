"""Recall of neighbours: how many of the texts nearest to a text by one kind of vectors are found by another, cheaper one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.util import SimilarityFunction

from pipeline.model.modules import read_json

K = 10
"""Neighbours of a text that are looked for."""

BLOCK_TEXTS = 256
"""Texts whose neighbours are looked for at a time; bounds the memory, at n similarities each."""

PROBED_TEXTS = 100
"""For which all others that are as near as their neighbours are counted."""

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
SLACK = 1e-6
"""Of a similarity, relative: two texts are equally near within the last digits."""


def read_similarity(model_directory: str) -> str:
    """What the model says its vectors are compared by: cosine where it says nothing, or what sentence-transformers' models of
    one vector a text don't know."""
    said = read_json(Path(model_directory, "config_sentence_transformers.json"), {})
    name = said.get("similarity_fn_name") if isinstance(said, dict) else None
    return name if name in SIMILARITIES else "cosine"


class Neighbours:
    """Each text's K nearest others, by reference vectors."""

    def __init__(self, reference: npt.NDArray[np.float32], similarity: str) -> None:
        """reference: [n, dimensions], n > K. similarity: see `read_similarity`."""
        self._reference = torch.from_numpy(reference)
        self._similarity = SimilarityFunction.to_similarity_fn(similarity)
        self._pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity)
        # The least of them, not the last: a matrix of distances is less exact than distances one by one.
        found = [self._similarities(rows, near).amin(dim=1) for rows, near in self._nearest(self._reference)]
        self._least = torch.cat(found)  # how similar a text's K-th neighbour is
        self._least -= SLACK * self._least.abs()

    def recall(self, vectors: npt.NDArray[np.float32]) -> float:
        """Of each text's K nearest by `vectors` [n, any dimensions], the share that is as near by the reference as its own K
        nearest are; the mean over all texts. So one of several equally near texts is as good as another."""
        hits = sum(
            int((self._similarities(rows, near) >= self._least[rows, None]).sum())
            for rows, near in self._nearest(torch.from_numpy(vectors))
        )
        return hits / (len(self._reference) * K)

    def chance(self) -> float:
        """The recall of ten texts taken blindly: how many of all others are as near as the K nearest. It is K of them where each
        text has an order of its own, and 1 where all vectors are the same, so that any setting finds what there is to find."""
        texts = len(self._reference)
        others = torch.arange(texts)
        probed = torch.linspace(0, texts - 1, min(PROBED_TEXTS, texts)).long()
        near = 0
        for text in probed.tolist():
            found = self._pairwise(self._reference[text].expand_as(self._reference), self._reference)
            near += int((found[others != text] >= self._least[text]).sum())
        return near / (len(probed) * (texts - 1))

    def _nearest(self, vectors: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Texts [b], and their K nearest others, nearest first [b, K], block by block."""
        for first in range(0, len(vectors), BLOCK_TEXTS):
            rows = torch.arange(first, min(first + BLOCK_TEXTS, len(vectors)))
            similarities = self._similarity(vectors[rows], vectors)
            similarities[torch.arange(len(rows)), rows] = -torch.inf
            yield rows, similarities.topk(K, dim=1).indices

    def _similarities(self, rows: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """By the reference [b, K]."""
        one, other = self._reference[rows.repeat_interleave(K)], self._reference[near.flatten()]
        return self._pairwise(one, other).reshape(-1, K)
