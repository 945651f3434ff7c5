"""Batches that several threads encode at once: the same vectors, and nothing lost when one of them fails."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.encode.arrange import changes_itself
from pipeline.encode.encoder import Encoder
from pipeline.encode.layout import Packed, Padded
from pipeline.encode.placement import Placement
from pipeline.encode.settings import EncoderSettings
from pipeline.encode.share import SMALLEST_TOKENS, Batches, run_beside
from pipeline.encode.texts import Texts, longest_first
from pipeline.errors import EncodeError
from pipeline.model.inspect import inspect_model

EXACT = Placement("cpu", "float32", "the test wants it")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Other tests of this process count on theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make(model: str, threads: int, budget: int | None = None) -> Encoder:
    return Encoder(
        model, inspect_model(Path(model), "m", None), EXACT, EncoderSettings(128, token_budget=budget), threads=threads
    )


def flat(lengths: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Texts of these lengths, no two alike."""
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return (1000 + np.arange(offsets[-1], dtype=np.int64) * 7919 % 29_000).astype(np.int32), offsets


def sorted_texts(lengths: list[int]) -> Texts:
    return longest_first(*flat(lengths), "cpu")


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), max_size=60),
    budget=st.integers(1, 4000),
    threads=st.integers(1, 9),
    packed=st.booleans(),
)
def test_each_text_is_in_one_batch_and_no_batch_exceeds_the_budget(
    lengths: list[int], budget: int, threads: int, packed: bool
) -> None:
    texts, layout = sorted_texts(lengths), Packed(None) if packed else Padded(0, left=False)
    batches = Batches(texts, layout, threads)
    taken = list(iter(lambda: batches.take(budget), None))
    assert [text for first, stop in taken for text in range(first, stop)] == list(range(len(lengths)))
    assert all(layout.size(texts, *batch) <= budget or batch[1] - batch[0] == 1 for batch in taken)
    assert batches.take(budget) is None


def test_the_last_batches_are_small_so_that_all_threads_end_together() -> None:
    """With two batches for three threads one core would stand still for half of the unit."""
    texts = sorted_texts([64] * 200)
    batches = Batches(texts, Packed(None), 3)
    sizes = [64 * (stop - first) for first, stop in iter(lambda: batches.take(100_000), None)]
    assert sizes[0] <= 200 * 64 // 6
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= SMALLEST_TOKENS


@pytest.mark.parametrize("budget", [None, 300])
def test_several_at_once_give_the_vectors_of_one_and_the_same_ones_each_time(
    tiny_model: str, budget: int | None
) -> None:
    """A vector beside another row's id is the one fault nobody would ever see."""
    ids, offsets = flat([1 + 37 * n % 128 for n in range(300)])
    alone, beside = make(tiny_model, 1, budget), make(tiny_model, 3, budget)
    assert beside._threads == 3
    found = beside.encode(ids, offsets)
    assert np.abs(found - alone.encode(ids, offsets)).max() < 1e-6
    assert np.array_equal(found, beside.encode(ids, offsets)), "which thread took a batch must make no difference"
    assert beside.stats.tokens == 2 * len(ids)


def test_what_one_thread_raises_ends_the_others_and_is_raised(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that swallows it would hand out rows of memory that nobody has written to."""
    encoder = make(tiny_model, 3)
    forward, calls = encoder._forward, []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(threading.current_thread())
        if calls[-1] is not threading.main_thread():
            raise RuntimeError("index out of range in self")
        return forward(*arguments)

    monkeypatch.setattr(encoder, "_forward", failing)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="index out of range"):
        encoder.encode(*flat([100] * 3000))
    assert torch.get_num_threads() == before
    assert len(calls) < 100, "the others went on for nothing"


def test_a_text_that_has_no_room_beside_others_is_encoded_alone(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that other threads hold is no reason to refuse a text."""
    ids, offsets = flat([128, 100, 90, *[20] * 60])
    expected = make(tiny_model, 1).encode(ids, offsets)
    encoder = make(tiny_model, 3)
    forward = encoder._forward

    def short_of_memory(texts: Texts, first: int, stop: int) -> torch.Tensor:
        if torch.get_num_threads() == 1 and int(texts.lengths[first]) > 50:
            raise torch.OutOfMemoryError("while others are at work")
        return forward(texts, first, stop)

    monkeypatch.setattr(encoder, "_forward", short_of_memory)
    assert np.abs(encoder.encode(ids, offsets) - expected).max() < 1e-6
    assert encoder.stats.halvings > 0


def test_a_text_that_has_no_room_alone_either_is_an_error(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make(tiny_model, 2)
    forward = encoder._forward

    def short_of_memory(texts: Texts, first: int, stop: int) -> torch.Tensor:
        if int(texts.lengths[first]) > 50:
            raise torch.OutOfMemoryError("always")
        return forward(texts, first, stop)

    monkeypatch.setattr(encoder, "_forward", short_of_memory)
    with pytest.raises(EncodeError, match="one text of 60 tokens"):
        encoder.encode(*flat([5, 60, 5]))


def test_each_thread_has_one_core_for_torch_and_afterwards_all_is_as_before() -> None:
    """Three threads with three cores each would take turns more than they work."""
    torch.set_num_threads(3)
    seen: dict[str, int] = {}
    gate = threading.Barrier(3)

    def work() -> None:
        gate.wait(30)
        seen[threading.current_thread().name] = torch.get_num_threads()

    run_beside(work, 3)
    assert list(seen.values()) == [1, 1, 1]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("kind", "changes"), [("default", False), ("dynamic", True)])
def test_a_model_that_follows_the_longest_text_of_a_batch_has_one_batch_at_a_time(kind: str, changes: bool) -> None:
    """Its rotary frequencies are changed in place by each pass: two at once would take each other's."""
    from transformers import Qwen2Config, Qwen2Model

    rope = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 2.0}
    config = Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, rope_parameters=rope,
    )  # fmt: skip
    assert changes_itself(Qwen2Model(config)) is changes
