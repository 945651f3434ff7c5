"""Batches: order, budget, memory. And what the encoder needs around it."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.missing import without

from pipeline.encode import arrange as arranging
from pipeline.encode import placement as placing
from pipeline.encode.encoder import Encoder
from pipeline.encode.layout import Packed, Padded
from pipeline.encode.placement import Placement, choose_placement, native_bfloat16
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import ConfigError, EncodeError
from pipeline.model.inspect import inspect_model
from pipeline.model.lock import ModelLock

EXACT = Placement("cpu", "float32", "the test wants it")

Make = Callable[..., Encoder]


@pytest.fixture(scope="module")
def lock(tiny_model: str) -> ModelLock:
    return inspect_model(Path(tiny_model), "m", None)


@pytest.fixture(scope="module", params=["packed", "padded"])
def make(tiny_model: str, lock: ModelLock, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Both layouts, for a model that can have either."""
    packed = request.param == "packed"

    def make(placement: Placement = EXACT, max_tokens: int = 128, **options: Any) -> Encoder:
        encoder = Encoder(tiny_model, lock, placement, EncoderSettings(max_tokens, **options), threads=1)
        assert isinstance(encoder._layout, Packed if packed else Padded)
        return encoder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arranging, "can_pack", lambda *_: packed)
        yield make


@pytest.fixture(scope="module")
def encoder(make: Make) -> Encoder:
    return make(token_budget=300)


def flat(lengths: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Texts of these lengths; those at different places differ."""
    ids = [1000 + (np.arange(n, dtype=np.int32) * 37 + 11 * index) % 20000 for index, n in enumerate(lengths)]
    flat_ids = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    return flat_ids.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def take(
    ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], order: list[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    texts = [ids[offsets[i] : offsets[i + 1]] for i in order]
    return np.concatenate(texts), np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(1, 60), min_size=1, max_size=25))
def test_texts_in_another_order_have_the_same_vectors_in_that_order(
    encoder: Encoder, data: st.DataObject, lengths: list[int]
) -> None:
    """A vector beside another row's id is the one fault nobody would ever see."""
    order = data.draw(st.permutations(range(len(lengths))))
    ids, offsets = flat(lengths)
    found = encoder.encode(*take(ids, offsets, order))
    assert np.abs(found - encoder.encode(ids, offsets)[order]).max() < 1e-6


def test_a_text_has_the_same_vector_alone_and_in_company(make: Make) -> None:
    ids, offsets = flat([50, 3, 1, 128, 64, 2, 2, 90])
    alone = make(token_budget=1)
    together = make(token_budget=100_000)
    assert np.abs(alone.encode(ids, offsets) - together.encode(ids, offsets)).max() < 1e-6
    assert (alone.stats.batches, together.stats.batches) == (8, 1)


def test_a_unit_without_texts_has_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode(*flat([])).shape == (0, 32)


def test_a_text_without_tokens_has_the_same_finite_vector_wherever_it_is(
    tiny_model: str, lock: ModelLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers without special tokens give none for an empty text, and a model can't run on a width of zero. Texts are
    padded then."""
    monkeypatch.setattr(arranging, "can_pack", lambda *_: False)
    ids, offsets = flat([0, 5, 0])
    alone, together = (
        Encoder(tiny_model, lock, EXACT, EncoderSettings(128, token_budget=budget), threads=1).encode(ids, offsets)
        for budget in (1, 1000)
    )
    assert np.isfinite(alone).all()
    assert np.abs(alone - together).max() < 1e-6


def test_batches_hold_the_budget_and_little_padding_or_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make(token_budget=256)
    shapes = spy(encoder, monkeypatch)
    lengths = list(range(1, 129))
    encoder.encode(*flat(lengths))
    assert all(rows * width <= 256 for rows, width in shapes)
    stats = encoder.stats
    assert (stats.tokens, stats.batches, stats.out_of_memory) == (sum(lengths), len(shapes), 0)
    assert stats.padded_tokens == sum(rows * width for rows, width in shapes)
    if isinstance(encoder._layout, Packed):
        assert {rows for rows, _ in shapes} == {1}
        assert stats.padded_tokens == stats.tokens
        assert len(shapes) < 1.5 * sum(lengths) / 256
    else:
        widths = [width for _, width in shapes]
        assert widths == sorted(widths, reverse=True)
        assert stats.padded_tokens < 1.25 * stats.tokens


def spy(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, limit: int | None = None) -> list[tuple[int, int]]:
    """Shapes of all forward passes; those over `limit` tokens find no memory."""
    shapes: list[tuple[int, int]] = []
    backbone: Any = encoder._model[0]
    forward = backbone.model.forward

    def scripted(*args: Any, **arguments: Any) -> Any:
        rows, width = arguments["input_ids"].shape
        shapes.append((rows, width))
        if limit is not None and rows * width > limit:
            raise torch.OutOfMemoryError(f"Tried to allocate {rows * width} tokens")
        return forward(*args, **arguments)

    monkeypatch.setattr(backbone.model, "forward", scripted)
    return shapes


def test_out_of_memory_halves_the_batch_and_changes_no_vector(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, offsets = flat([60, 3, 17, 60, 60, 60, 1, 44, 60, 12] * 4)
    expected = make(token_budget=4096).encode(ids, offsets)
    encoder = make(token_budget=4096)
    shapes = spy(encoder, monkeypatch, limit=200)
    assert np.abs(encoder.encode(ids, offsets) - expected).max() < 1e-6
    # 40 × 60 = 2400 → 1200 → 600 → 300 → 150, packed 1508 → 754 → 377 → 188 or less: found once, and kept for the rest of
    # the unit and the next ones
    halvings = 3 if isinstance(encoder._layout, Packed) else 4
    assert encoder.stats.out_of_memory == halvings
    assert sum(rows * width > 200 for rows, width in shapes) == halvings
    assert encoder.stats.tokens == len(ids)
    encoder.encode(ids, offsets)
    assert encoder.stats.out_of_memory == halvings


def test_memory_below_the_longest_text_allowed_is_found_once_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget may fall below the model's limit: only one text at a time is ever needed."""
    encoder = make(token_budget=512, max_tokens=128)
    spy(encoder, monkeypatch, limit=40)
    encoder.encode(*flat([20] * 64))
    assert encoder.stats.out_of_memory == 4  # 500 → 240 → 120 → 60 → 20, since whole texts are counted


def test_a_single_text_that_is_too_much_is_an_error_that_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make()
    spy(encoder, monkeypatch, limit=50)
    with pytest.raises(EncodeError, match="one text of 60 tokens"):
        encoder.encode(*flat([5, 60, 5]))


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_torch_says_out_of_memory_in_other_words_too(make: Make, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    encoder = make()
    forward, times = encoder._forward, iter(range(100))

    def scripted(*arguments: Any) -> torch.Tensor:
        if next(times) == 0:
            raise RuntimeError(message)
        return forward(*arguments)

    monkeypatch.setattr(encoder, "_forward", scripted)
    assert np.isfinite(encoder.encode(*flat([5, 6]))).all()
    assert encoder.stats.out_of_memory == 1


def test_any_other_failure_of_the_model_is_not_taken_for_lack_of_memory(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make()

    def fail(*arguments: Any) -> torch.Tensor:
        raise RuntimeError("index out of range in self")

    monkeypatch.setattr(encoder, "_forward", fail)
    with pytest.raises(RuntimeError, match="index out of range"):
        encoder.encode(*flat([5, 6]))


def test_vectors_of_another_length_than_the_lock_says_are_refused(tiny_model: str, lock: ModelLock) -> None:
    with pytest.raises(EncodeError, match=r"32\) for 7 texts; its lock says 48"):
        Encoder(tiny_model, replace(lock, dimensions=48), EXACT, EncoderSettings(128))


@pytest.mark.parametrize(
    ("precision", "device", "gpu", "native", "expected"),
    [
        ("exact", "auto", True, True, ("cuda", "float32")),
        ("exact", "auto", False, True, ("cpu", "float32")),
        ("gated", "auto", True, False, ("cuda", "float16")),
        ("gated", "cuda", True, False, ("cuda", "float16")),
        ("gated", "cpu", True, True, ("cpu", "bfloat16")),
        ("gated", "auto", False, True, ("cpu", "bfloat16")),
        ("gated", "auto", False, False, ("cpu", "float32")),
    ],
)
def test_device_and_format_are_chosen_for_a_reason(
    monkeypatch: pytest.MonkeyPatch, precision: Any, device: Any, gpu: bool, native: bool, expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(placing, "native_bfloat16", lambda: native)
    chosen = choose_placement(precision, device)
    assert (chosen.device, chosen.dtype) == expected
    assert chosen.reason


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        choose_placement("exact", "cuda")


@pytest.mark.parametrize(("flags", "torch_says", "native"), [
    ("avx2 avx512_bf16", True, True), ("amx_bf16 amx_tile", True, True), ("asimd bf16 i8mm", True, True),
    ("avx512_bf16", False, False), ("avx2 avx512f", True, False),
])  # fmt: skip
def test_bfloat16_is_native_only_where_the_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, torch_says: bool, native: bool
) -> None:
    """oneDNN says it supports bfloat16 on CPUs that emulate it, 40 to 500 times slower."""
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: torch_says)
    assert native_bfloat16() is native


def test_the_encoder_runs_with_nothing_but_torch_and_sentence_transformers(tiny_model: str) -> None:
    """As a library on a machine that has no Ray, no object store and no YAML. (huggingface_hub itself imports yaml.)"""
    code = f"""
        import builtins, sys
        real = builtins.__import__

        def strict(name, globals=None, *rest, **named):
            if (globals or {{}}).get("__name__", "").startswith("pipeline."):
                assert name.split(".")[0] not in ("pydantic", "yaml", "fsspec", "filelock", "transformers"), name
            return real(name, globals, *rest, **named)

        builtins.__import__ = strict
        from pathlib import Path
        import numpy as np
        from pipeline.encode.encoder import Encoder
        from pipeline.encode.placement import choose_placement
        from pipeline.encode.settings import EncoderSettings
        from pipeline.model.inspect import inspect_model

        lock = inspect_model(Path({tiny_model!r}), "m", None)
        encoder = Encoder({tiny_model!r}, lock, choose_placement("exact", "cpu"), EncoderSettings(128))
        print(encoder.encode(np.array([101, 2000, 102], np.int32), np.array([0, 3])).shape)
        assert not [name for name in sys.modules if name.startswith(("pipeline.config", "pipeline.storage", "pipeline.spec"))]
    """
    bare = without(("ray", "s3fs", "duckdb", "pyarrow", "typer", "datasets", "dill", "accelerate"), code)
    done = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "(1, 32)\n", done.stderr


def test_reading_and_driving_stay_free_of_torch() -> None:
    """torch costs every reader, stager and the driver 300 MB and four seconds."""
    code = """
        import sys
        import pipeline, pipeline.flow.supervisor, pipeline.flow.unit, pipeline.encode.placement, pipeline.quality.sample
        import pipeline.model.resolve, pipeline.model.convert, pipeline.text.prepare, pipeline.text.tokens
        print([name for name in ("torch", "transformers", "sentence_transformers") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_tokens_are_made_without_torch_for_a_usual_model(tiny_model: str) -> None:
    code = f"""
        import sys
        from pipeline.text.tokens import Tokens
        print(Tokens({tiny_model!r}, 128).encode(["some text"])[2].tolist(), "torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[4] False\n", done.stderr
