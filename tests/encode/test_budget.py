"""The budget of tokens: the fastest one, without more trying than that takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encode.budget import BUDGETS, fastest_budget, repeated
from pipeline.encode.encoder import Encoder
from pipeline.encode.placement import Placement
from pipeline.encode.settings import EncoderSettings
from pipeline.model.resolve import resolve_model


@pytest.mark.parametrize(
    ("rates", "due", "tried"),
    [
        ([1.0, 2.0, 3.0, 3.05, 9.0], 2, 4),  # the last is not tried: rates don't rise again
        ([5.0, 4.0, 3.0, 2.0, 1.0], 0, 2),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 4, 5),
        ([1.0, 2.0, None, 9.0, 9.0], 1, 3),  # no memory for more
        ([None, None, None, None, None], 0, 2),
    ],
)
def test_the_fastest_is_taken_and_nothing_tried_beyond_it(rates: list[float | None], due: int, tried: int) -> None:
    asked: list[int] = []

    def rate(budget: int) -> float | None:
        asked.append(budget)
        return rates[BUDGETS.index(budget)]

    assert fastest_budget(rate) == BUDGETS[due]
    assert asked == list(BUDGETS[:tried])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), st.integers(1, 100))
def test_texts_are_repeated_whole(lengths: list[int], tokens: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.int32)
    many, at = repeated(ids, offsets, tokens)
    assert len(many) >= tokens
    assert len(many) - len(ids) < tokens
    for index in range(len(at) - 1):
        text = index % len(lengths)
        assert many[at[index] : at[index + 1]].tolist() == ids[offsets[text] : offsets[text + 1]].tolist()


def test_a_budget_that_memory_does_not_suffice_for_has_no_rate(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved in the midst of it, the rate would be that of another budget."""
    lock = resolve_model(tiny_model, None, None).lock
    encoder = Encoder(tiny_model, lock, Placement("cpu", "float32", "test"), EncoderSettings(64))
    ids, offsets = np.arange(100, 160, dtype=np.int32), np.array([0, 20, 40, 60])
    assert (encoder._rate(1024, ids, offsets) or 0) > 0
    forward = encoder._forward

    def tight(texts: object, first: int, stop: int) -> torch.Tensor:
        if stop - first > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(texts, first, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "_forward", tight)
    assert encoder._rate(1024, ids, offsets) is None
