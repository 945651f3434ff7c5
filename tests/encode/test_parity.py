"""The encoder's vectors are sentence-transformers' own: every standard module, every kind of backbone, all lengths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize, Pooling, Router
from support.models import HIDDEN, SENTENCES, make_transformer, save_model
from torch import nn

from pipeline.encode.encoder import Encoder, load_model
from pipeline.encode.placement import Placement
from pipeline.model.inspect import inspect_model
from pipeline.model.lock import ModelLock
from pipeline.sample import find_docstrings
from pipeline.text.tokens import Tokens

EXACT = Placement("cpu", "float32", "the test wants it")
WORDS = " ".join(SENTENCES).split()
TEXTS = ["", " \n\t ", "a", "東京 <pad> [SEP] </s> ÅB", *(" ".join(WORDS[: n]) for n in range(1, 60, 7)), " ".join(WORDS * 9), "a"]
"""All lengths: nothing, blank, one token, special tokens in the text, far too long, the same again."""


def encode(
    directory: str, lock: ModelLock, texts: list[str], *, prompt: str = "", **options: Any
) -> npt.NDArray[np.float32]:
    """What the pipeline does with texts between reading and staging."""
    max_tokens = options.pop("max_tokens", lock.max_tokens)
    ids, offsets, _ = Tokens(directory, max_tokens).encode([prompt + text for text in texts])
    encoder = Encoder(directory, lock, EXACT, max_tokens=max_tokens, prompt=prompt, **options)
    return encoder.encode(ids, offsets)


def expect(directory: str, lock: ModelLock, texts: list[str], **arguments: Any) -> npt.NDArray[np.float32]:
    """The plain recipe, cut where the model's own limit is."""
    model = load_model(directory, "cpu")
    model.max_seq_length = lock.max_tokens
    return np.asarray(model.encode(texts, batch_size=5, show_progress_bar=False, **arguments))


def assert_same(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Row by row within 1e-6 of the row's length; a row of zeros is one in both."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    lengths = np.linalg.norm(expected, axis=1)
    distances = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    assert (distances <= 1e-6 * lengths).all(), (distances / lengths).max()


KINDS = ["bert", "distilbert", "mpnet", "roberta", "xlm-roberta", "modernbert", "qwen2"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_backbone_gives_its_own_vectors(tmp_path: Path, kind: str) -> None:
    """Positions that begin behind the padding index, no special tokens at all, rotary and relative positions."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    assert_same(encode(directory, lock, TEXTS), expect(directory, lock, TEXTS))
