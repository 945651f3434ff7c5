"""Batches that several threads encode at once: the same vectors, and nothing lost when one of them fails."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.encode.arrange import changes_itself, most_at_once
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
    assert sizes[0] <= 200 * 64 // 3
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
    assert encoder.stats.out_of_memory > 0


def test_one_moment_without_memory_halves_the_budget_once(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of eight threads would halve it, from 2,048 to 7, and the rest of the night is a pass for each text."""
    encoder = make(tiny_model, 8, budget=2048)
    ids, offsets = flat([16] * 2048)
    forward, first_pass = encoder._forward, threading.local()
    gate = threading.Barrier(8)

    def short_of_memory(texts: Texts, first: int, stop: int) -> torch.Tensor:
        if not hasattr(first_pass, "over") and torch.get_num_threads() == 1:
            first_pass.over = True
            gate.wait(30)
            raise torch.OutOfMemoryError("all at once")
        return forward(texts, first, stop)

    monkeypatch.setattr(encoder, "_forward", short_of_memory)
    assert np.isfinite(encoder.encode(ids, offsets)).all()
    assert encoder.token_budget >= 512
    assert encoder.stats.out_of_memory == 8


def test_a_text_alone_has_all_cores(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of them it would take so much longer that it is taken for a text that hangs, and set aside."""
    encoder, cores = make(tiny_model, 4, budget=100), []
    forward = encoder._forward

    def noting(*arguments: Any) -> torch.Tensor:
        cores.append(torch.get_num_threads())
        return forward(*arguments)

    monkeypatch.setattr(encoder, "_forward", noting)
    for lengths in ([100], [100, 100], [100] * 4):
        encoder.encode(*flat(lengths))
    assert (cores[0], set(cores[1:3]), set(cores[3:])) == (4, {2}, {1})


def test_long_passes_are_shared_by_several_cores(tiny_model: str) -> None:
    """A pass is the only sign of life: on one core the longest text of a large model would outlast any timeout."""
    encoder = make(tiny_model, 8)
    transformer = encoder._model[0]
    encoder._busy_s, encoder.max_tokens = 1.0, 1000
    assert encoder._threads_for(transformer, 100) == 6  # 10 s by all eight cores, 60 s by a sixth of them
    encoder._busy_s = 100.0
    assert encoder._threads_for(transformer, 100) == 1


def test_masks_of_windows_bound_how_many_passes_are_under_way() -> None:
    config = SimpleNamespace(local_attention=128)
    transformer = SimpleNamespace(model=SimpleNamespace(config=config))
    assert most_at_once(transformer, 8192) == 8
    assert most_at_once(transformer, 65_536) == 1
    assert most_at_once(SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace())), 65_536) > 1000


def test_without_more_threads_those_there_are_do_it_all(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes is no reason to encode a unit and throw it away."""
    ids, offsets = flat([20] * 400)
    encoder = make(tiny_model, 4)
    expected = encoder.encode(ids, offsets)
    start, started = threading.Thread.start, itertools.count()

    def refuse(thread: threading.Thread) -> None:
        if next(started) > 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found = encoder.encode(ids, offsets)
    monkeypatch.undo()
    assert np.array_equal(found, expected)


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
    assert list(seen.values()) == [1, 1, 1], seen
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
