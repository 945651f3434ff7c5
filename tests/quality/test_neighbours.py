"""Recall of neighbours, held against sorting everything."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.quality import neighbours
from pipeline.quality.neighbours import K, Neighbours, read_similarity


def vectors(count: int, dimensions: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def nearest(found: npt.NDArray[np.float32], similarity: str) -> list[set[int]]:
    """By sorting all distances, in double precision."""
    own = found.astype(np.float64)
    if similarity == "cosine":
        own /= np.linalg.norm(own, axis=1, keepdims=True)
    if similarity in ("cosine", "dot"):
        scores = own @ own.T
    else:
        scores = -np.linalg.norm(own[:, None] - own[None], ord=2 if similarity == "euclidean" else 1, axis=2)
    np.fill_diagonal(scores, -np.inf)
    return [set(row) for row in np.argsort(-scores, axis=1)[:, :K].tolist()]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(K + 1, 60), st.integers(2, 24), st.integers(0, 1000),
    st.sampled_from(["cosine", "dot", "euclidean", "manhattan"]),
)  # fmt: skip
def test_recall_is_the_share_of_neighbours_that_are_found_again(
    count: int, dimensions: int, seed: int, similarity: str
) -> None:
    reference = vectors(count, dimensions, seed)
    other = reference + 0.5 * vectors(count, dimensions, seed + 1)
    due = nearest(reference, similarity)
    hits = sum(len(one & two) for one, two in zip(due, nearest(other, similarity), strict=True))
    found = Neighbours(reference, similarity)
    assert found.recall(other) == pytest.approx(hits / (count * K), abs=1.5 / (count * K))
    assert found.recall(reference) == 1.0


def test_blocks_are_of_no_consequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is left out of its own neighbours, in whichever block it is."""
    reference, other = vectors(100, 8, 0), vectors(100, 8, 1)
    whole = Neighbours(reference, "cosine").recall(other)
    monkeypatch.setattr(neighbours, "BLOCK_TEXTS", 7)
    assert Neighbours(reference, "cosine").recall(other) == whole
    assert 0.05 < whole < 0.25  # of 99 others each has ten


def test_of_equally_near_texts_one_is_as_good_as_another() -> None:
    """A model that gives many texts the same vector, zeros after ReLU for example, has no order of them."""
    reference = np.zeros((40, 4), np.float32)
    reference[:20, 0] = 1.0
    shuffled = reference.copy()
    shuffled[:20, 1] = np.linspace(0, 1e-3, 20)
    assert Neighbours(reference, "euclidean").recall(shuffled) == 1.0


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_what_texts_taken_blindly_find_is_ten_of_all_others_or_whatever_is_as_near(similarity: str) -> None:
    """Where all vectors are one, every setting has a recall of 1, and would meet any demand."""
    assert Neighbours(vectors(300, 8, 0), similarity).chance() == pytest.approx(10 / 299)
    one = np.repeat(vectors(1, 64, 0), 300, axis=0)
    assert Neighbours(one, similarity).recall(vectors(300, 8, 1)) == Neighbours(one, similarity).chance() == 1.0
    half = np.concatenate((one[:150], vectors(150, 64, 1)))
    assert 0.2 < Neighbours(half, similarity).chance() < 0.4


def test_texts_that_are_nearly_the_same_are_found_by_their_own_vectors() -> None:
    """Distances near zero are all rounding in a matrix product, and a template has thousands of such texts."""
    reference = vectors(1, 64, 0) + 1e-4 * vectors(200, 64, 1)
    assert Neighbours(reference, "euclidean").recall(reference) == 1.0
    assert Neighbours(reference, "cosine").recall(reference) == 1.0
    assert Neighbours(reference, "euclidean").chance() > 0.5  # and by many others, which then is no finding


def test_small_vectors_are_told_apart_as_large_ones_are() -> None:
    reference, other = vectors(200, 8, 0), vectors(200, 8, 1)
    small = np.float32(1e-3)
    assert Neighbours(reference * small, "dot").recall(other) == Neighbours(reference, "dot").recall(other) < 0.5


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, "cosine"),
        ("dot", "dot"),
        ("euclidean", "euclidean"),
        ("manhattan", "manhattan"),
        ("dot_score", "cosine"),
        ("maxsim", "cosine"),
        (3, "cosine"),
    ],
)
def test_a_model_says_how_its_vectors_are_compared(tmp_path: Path, said: object, found: str) -> None:
    assert read_similarity(str(tmp_path)) == "cosine"
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": said}))
    assert read_similarity(str(tmp_path)) == found
