"""Compiled layers: taken when they are faster and right, and gone without a trace otherwise.

They are for GPUs; here they are tried on the CPU.
"""

import contextlib
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.models import SENTENCES

from pipeline.encode import compiled, linear
from pipeline.encode.compiled import try_compiled
from pipeline.encode.distance import furthest
from pipeline.encode.encoder import Encoder
from pipeline.encode.fused import FusedLayer
from pipeline.encode.placement import Placement
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import EncodeError
from pipeline.model.inspect import inspect_model
from pipeline.text.tokens import Tokens

Vectors = npt.NDArray[np.float32]
Texts = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
Make = Callable[[], Encoder]


@pytest.fixture
def make(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Replicas with torch's own products, as on a GPU; compiling is tried at once."""
    monkeypatch.setattr(linear, "prepacking_works", lambda dtype: False)
    monkeypatch.setattr(compiled, "AFTER_S", {"cpu": -1.0})
    lock = inspect_model(Path(tiny_model), "m", None)
    return lambda: Encoder(tiny_model, lock, Placement("cpu", "float32", "test"), EncoderSettings(64))


@pytest.fixture
def texts(tiny_model: str) -> Texts:
    return Tokens(tiny_model, 64).encode(SENTENCES)[:2]


def count_compiled(encoder: Encoder) -> int:
    layers = [module for module in encoder._model.modules() if isinstance(module, FusedLayer)]
    return sum("finish" in vars(layer) for layer in layers)


def expected_of(encoder: Encoder, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> Vectors:
    """Its vectors before anything is compiled."""
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "AFTER_S", {"cpu": math.inf})
        return encoder.encode(*texts)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.*is deprecated:DeprecationWarning"
)  # torch's compiler imports its old one
def test_compiled_layers_give_the_same_vectors(
    make: Make, texts: Texts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Traced as for a GPU, for any number of tokens; what is made of that there, Triton's kernels, can't be had on a CPU, and
    what is made here would take a compiler of C++ and a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    caplog.set_level(logging.INFO, logger="pipeline.encode")
    monkeypatch.setattr(compiled, "WORTH", 0.0)
    encoder = make()
    expected, once = expected_of(encoder, texts, monkeypatch), encoder.stats
    assert furthest(encoder.encode(*texts), expected) < 1e-5
    assert count_compiled(encoder) == 2
    assert encoder.stats.tokens == 2 * once.tokens  # what was tried isn't counted
    ids, offsets = texts
    assert furthest(encoder.encode(ids[: offsets[1]], offsets[:2]), expected[:1]) < 1e-5
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("compiled layers: ")
    assert line.endswith("they stay")


def compile_as(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Callable[..., torch.Tensor]]:
    """torch.compile with a result of its own."""
    return lambda layer, dynamic: lambda *given: change(layer(*given))


def fail(values: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no compiler")


@pytest.mark.parametrize(
    ("change", "rates", "said"),
    [
        (lambda values: values, [100.0, 101.0], "100 → 101 tokens/s"),  # within what measurements differ by
        (lambda values: values, [100.0, None], "100 → 0 tokens/s"),  # no memory
        (lambda values: values.roll(1, -1), [100.0, 300.0], "vectors apart by"),
        (lambda values: values * math.nan, [100.0, 300.0], "vectors apart by inf"),
        (fail, [100.0, 300.0], "can't be compiled (RuntimeError)"),
    ],
)
def test_what_is_not_faster_and_right_is_left_as_it_was(
    make: Make,
    texts: Texts,
    change: Callable[[torch.Tensor], torch.Tensor],
    rates: list[float | None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = make()
    expected = expected_of(encoder, texts, monkeypatch)
    monkeypatch.setattr(compiled, "AFTER_S", {"cpu": math.inf})
    monkeypatch.setattr(torch, "compile", compile_as(change))
    left = iter(rates)
    stay, outcome = try_compiled(encoder._model, lambda: encoder.encode(*texts), lambda: next(left))
    assert not stay
    assert said in outcome
    assert outcome.endswith("they are left as they were")
    assert count_compiled(encoder) == 0
    assert np.array_equal(encoder.encode(*texts), expected)


@pytest.mark.parametrize("fails", ["rate", "encode"])
def test_an_error_before_anything_is_compiled_leaves_all_as_it_was(
    make: Make, texts: Texts, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost the unit that is being encoded."""
    encoder = make()
    expected, once = expected_of(encoder, texts, monkeypatch), encoder.stats
    budget, real, calls = encoder.token_budget, Encoder.encode, itertools.count(1)

    def rate(self: Encoder, budget: int, *_: object) -> float:
        self.token_budget = 1
        if fails == "rate":
            raise EncodeError("one text doesn't fit")
        return 100.0

    def encode(self: Encoder, *given: npt.NDArray[Any]) -> Vectors:
        if fails == "encode" and next(calls) == 2:  # the first is the unit's own
            raise EncodeError("one text doesn't fit")
        return real(self, *given)

    monkeypatch.setattr(Encoder, "_rate", rate)
    monkeypatch.setattr(Encoder, "encode", encode)
    assert np.array_equal(encoder.encode(*texts), expected)
    assert count_compiled(encoder) == 0
    assert encoder._compile_with is None
    assert encoder.token_budget == budget
    assert encoder.stats.batches == 2 * once.batches


def test_it_is_done_where_it_is_allowed_and_nowhere_else(
    make: Make, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes minutes, which somebody has to know, and memory, which a process that tries texts apart doesn't have."""
    done: list[str] = []

    @contextlib.contextmanager
    def within() -> Iterator[None]:
        done.append("begun")
        yield
        done.append("ended")

    def compile_nothing(*_: object) -> tuple[bool, str]:
        done.append("tried")
        return True, "tried"

    monkeypatch.setattr(compiled, "try_compiled", compile_nothing)
    encoder = make()
    encoder.compile_within = None
    encoder.encode(*texts)
    assert done == []
    encoder = make()
    encoder.compile_within = within
    assert not encoder.compiled
    encoder.encode(*texts)
    assert done == ["begun", "tried", "ended"]
    assert encoder.compiled


def test_it_is_tried_once_and_only_when_a_job_has_lasted(
    make: Make, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[torch.nn.Module] = []

    def count(model: torch.nn.Module, *_: object) -> tuple[bool, str]:
        tried.append(model)
        return True, "tried"

    monkeypatch.setattr(compiled, "try_compiled", count)
    encoder = make()
    monkeypatch.setattr(compiled, "AFTER_S", {"cpu": 1000.0})
    encoder.encode(*texts)
    assert not tried
    encoder._busy_s = 1001.0
    for _ in range(3):
        encoder.encode(*texts)
    assert len(tried) == 1


def test_other_architectures_have_nothing_to_compile() -> None:
    model, nothing = torch.nn.Linear(2, 2), np.zeros((0, 2), np.float32)
    assert try_compiled(model, lambda: nothing, lambda: None) == (False, "there are no layers to compile")
