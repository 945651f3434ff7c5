"""Packed attention against the formula, text by text."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.encode import attention
from pipeline.encode.attention import attend, attend_packed

SIZE = 8


def formula(
    q: Any, k: Any, v: Any, *, causal: bool = False, window: int | None = None, scale: float | None = None
) -> Any:
    """softmax(q·k)·v of one text [tokens, heads, size], in float64."""
    q, k, v = (part.double().transpose(0, 1) for part in (q, k, v))
    k, v = (part.repeat_interleave(len(q) // len(part), 0) for part in (k, v))
    scores = q @ k.transpose(1, 2) * (scale or 1 / math.sqrt(q.shape[2]))
    place = torch.arange(q.shape[1])
    distance = place[:, None] - place
    hidden = torch.zeros_like(distance, dtype=torch.bool)
    if causal:
        hidden |= distance < 0
    if window is not None:
        hidden |= distance.abs() >= window
    return (scores.masked_fill(hidden, -math.inf).softmax(-1) @ v).transpose(0, 1)


def draw(runs: list[tuple[int, int]], heads: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(count * length for count, length in runs))
    tokens = sum(count * length for count, length in runs)
    return [torch.randn(tokens, n, SIZE, generator=generator).to(dtype) for n in (4, heads, heads)]


def starts_of(runs: list[tuple[int, int]]) -> torch.Tensor:
    lengths = [length for count, length in runs for _ in range(count)]
    return torch.tensor([0, *lengths]).cumsum(0).int()


@settings(deadline=None, max_examples=60)
@given(
    runs=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=6),
    heads=st.sampled_from([4, 2, 1]),
    causal=st.booleans(),
    window=st.sampled_from([None, 1, 5, 100]),
    scale=st.sampled_from([None, 0.5]),
    group=st.sampled_from([1, 16, 512]),
)
def test_each_text_sees_itself_alone(
    runs: list[tuple[int, int]], heads: int, causal: bool, window: int | None, scale: float | None, group: int
) -> None:
    """A text that sees its neighbour has a vector that is nearly right, and another one in every batch."""
    q, k, v = draw(runs, heads)
    starts = starts_of(runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "GROUP_TOKENS", group)
        found = attend(q, k, v, runs=runs, starts=starts, scale=scale, causal=causal, window=window)
    assert found.shape == q.shape
    for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own = slice(first, stop)
        expected = formula(q[own], k[own], v[own], causal=causal, window=window, scale=scale)
        assert torch.allclose(found[own].double(), expected, atol=1e-5)


def test_scores_are_computed_in_float32_whatever_comes_in() -> None:
    """bfloat16 has eight bits: a score of 40 would be rounded to a quarter, and its weight by 28%."""
    q, k, v = draw([(3, 30)], 4, torch.bfloat16)
    q, k = q * 5, k * 5
    found = attend(q, k, v, runs=[(3, 30)], starts=starts_of([(3, 30)]))
    assert found.dtype == torch.bfloat16
    expected = torch.cat([formula(*(part[n : n + 30] for part in (q, k, v))) for n in (0, 30, 60)])
    assert (found.double() - expected).abs().max() < 0.01


def test_parts_of_one_product_are_taken_as_they_lie() -> None:
    """Query, key and value are columns of one matrix, not copied."""
    q, k, v = draw([(2, 7), (1, 3)], 4)
    merged = torch.stack([q, k, v], 1)
    options: dict[str, Any] = {"runs": [(2, 7), (1, 3)], "starts": starts_of([(2, 7), (1, 3)])}
    assert torch.equal(attend(*merged.unbind(1), **options), attend(q, k, v, **options))


@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize("module_says", [True, False])
def test_transformers_is_answered_in_its_own_shapes(asked: bool | None, module_says: bool) -> None:
    runs = [(2, 5)]
    q, k, v = draw(runs, 2)
    module = torch.nn.Module()
    module.is_causal = module_says  # type: ignore[assignment]
    found, weights = attend_packed(
        module, *(part.transpose(0, 1)[None] for part in (q, k, v)), None, scaling=0.3, is_causal=asked,
        runs=runs, cu_seq_lens_q=starts_of(runs), dropout=0.0, position_ids=None,
    )  # fmt: skip
    causal = module_says if asked is None else asked
    assert weights is None
    assert torch.equal(found[0], attend(q, k, v, runs=runs, starts=starts_of(runs), scale=0.3, causal=causal))
    assert causal != torch.equal(found[0], attend(q, k, v, runs=runs, starts=starts_of(runs), scale=0.3))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_texts_of_one_length_are_attended_to_as_a_matrix(scale: float | None, causal: bool) -> None:
    """On a GPU by cuDNN; here by what torch has instead."""
    run = (5, 17)
    q, k, v = draw([run], 4)
    found = attention._attend_to_equal(q, k, v, run, scale, causal)
    assert found.shape == q.shape
    expected = attend(q, k, v, runs=[run], starts=starts_of([run]), scale=scale, causal=causal)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 5), (True, 5)])
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("runs", [[(3, 40), (5, 17), (2, 1)], [(9, 33)]])
def test_a_gpu_gives_the_same(
    runs: list[tuple[int, int]], heads: int, causal: bool, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys for all heads or for some; texts of several lengths, and of one."""
    monkeypatch.setattr(attention, "EQUAL_TOKENS", 1)
    given = draw(runs, heads, torch.float16)
    options: dict[str, Any] = {"runs": runs, "causal": causal, "window": window}
    found = attend(*(part.cuda() for part in given), starts=starts_of(runs).cuda(), **options)
    assert torch.allclose(found.cpu(), attend(*given, starts=starts_of(runs), **options), atol=2e-3)


def test_windows_of_many_lengths_are_kept_in_few_masks() -> None:
    """One for each length would be 64 MiB apiece for texts of 8,192 tokens, and long texts are of many lengths."""
    attention._band.cache_clear()
    for length in range(70, 129):
        attend(*draw([(1, length)], 2), starts=starts_of([(1, length)]), runs=[(1, length)], window=9)
    assert attention._band.cache_info().currsize == 1
    assert attention._band(128, 9, causal=False).untyped_storage().nbytes() == 128**2
