"""What happens to a replica when its texts are to be tried apart, and while it compiles its layers."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.memory import MemoryStore

from pipeline.commit.records import NO_TIME
from pipeline.encode.placement import Way
from pipeline.errors import EncodeError
from pipeline.flow import encoding
from pipeline.flow.acks import Ack
from pipeline.flow.isolate import Isolated
from pipeline.flow.unit import EncodedUnit, PreparedUnit


class Replica:
    """Fails on whatever it is given."""

    stats = SimpleNamespace(batches=0, padded_tokens=0)
    placement = SimpleNamespace(device="cuda", dtype="float16")
    fast = True
    compile_within: Callable[[], AbstractContextManager[None]]

    def encode(self, *_: object) -> Any:
        raise RuntimeError("the kernel failed")


@dataclass(frozen=True)
class Model:
    at_most: Way | None = None

    def watch(self) -> Any:
        return SimpleNamespace(check=lambda: None)


@dataclass(frozen=True)
class Context:
    model: Model
    run: str = "r"
    spec_id: str = "s"

    def open_store(self) -> MemoryStore:
        return MemoryStore()


def make_step(monkeypatch: pytest.MonkeyPatch) -> encoding.Encoding:
    context: Any = Context(Model())
    monkeypatch.setattr(encoding, "begin_attempt", lambda *_: None)
    return encoding.Encoding(context)


def make_unit() -> PreparedUnit:
    """Of two texts."""
    pieces = [SimpleNamespace(uri="u")]
    task: Any = SimpleNamespace(unit="0" * 32, generation=0, base=0, segment="1" * 32, k=0, pieces=pieces, deaths=0)
    prepared: Any = SimpleNamespace(token_ids=np.zeros(2, np.int32), offsets=np.array([0, 1, 2]))
    return PreparedUnit(task, prepared, "", NO_TIME)


def test_a_replica_is_gone_before_another_one_is_loaded_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no room for two: then texts would be taken for too big that are not."""
    made: list[weakref.ref[Replica]] = []

    def load(*_: object) -> tuple[Replica, None]:
        replica = Replica()
        made.append(weakref.ref(replica))
        return replica, None

    def isolate(*_: object) -> None:
        assert made[-1]() is None
        raise EncodeError("looked")

    monkeypatch.setattr(encoding, "load_replica", load)
    monkeypatch.setattr(encoding, "isolate", isolate)
    ack = make_step(monkeypatch).encode(make_unit())
    assert isinstance(ack, Ack)
    assert ack.message == "looked"


@pytest.mark.parametrize("way", [Way("float32", fast=True), Way("float16", fast=False)])
def test_texts_tried_apart_are_not_encoded_in_what_the_jobs_own_texts_have_ruled_out(
    monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """The process they are tried in measures its gate without them, and would take half precision for good enough."""
    asked: list[Way | None] = []

    def isolate(context: Any, *_: object) -> Isolated:
        asked.append(context.model.at_most)
        return Isolated(np.ones((2, 2), np.float32), "cuda", way.dtype, {})

    def load(*_: object) -> tuple[Replica, None]:
        replica = Replica()
        replica.placement = SimpleNamespace(device="cuda", dtype=way.dtype)
        replica.fast = way.fast
        return replica, None

    monkeypatch.setattr(encoding, "load_replica", load)
    monkeypatch.setattr(encoding, "isolate", isolate)
    step = make_step(monkeypatch)
    for unit in (make_unit(), make_unit()):
        unit.task.deaths = 2  # type: ignore[misc]
        assert isinstance(step.encode(unit), EncodedUnit)
    assert asked == [way, way], "also while the replica is gone"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
            "of no use to it any more",
        ),
        (EncodeError("the weights have changed"), "the weights have changed"),
    ],
)
def test_a_device_that_is_of_no_use_any_more_costs_nobody_a_unit(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """After an error in a kernel each call raises. Not handled, it'd look like a bug, and Ray's graph would fail."""
    loads: list[Replica | Exception] = [Replica(), error]

    def load(*_: object) -> tuple[Replica, Any]:
        loaded = loads.pop(0)
        if isinstance(loaded, Exception):
            raise loaded
        return loaded, None

    def empty_cache() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    monkeypatch.setattr(encoding, "load_replica", load)
    vectors = np.ones((2, 2), np.float32)
    monkeypatch.setattr(encoding, "isolate", lambda *_: Isolated(vectors, "cuda", "float16", {}))
    step = make_step(monkeypatch)
    assert isinstance(step.encode(make_unit()), EncodedUnit)
    ack = step.encode(make_unit())
    assert isinstance(ack, Ack)
    assert ack.state == "error"
    assert said in ack.message
    assert "\n" not in ack.message
    assert step.worn_out is isinstance(error, RuntimeError)


def test_compiling_counts_as_getting_on_like_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes minutes in the middle of a unit, in which no batch ends: each replica would be killed after a while."""
    now, seen = [0.0], []

    class Compiling(Replica):
        def encode(self, *_: object) -> Any:
            with self.compile_within():
                for now[0] in (1.0, 60.0, 300.0):
                    seen.append(step.progress)
            return np.ones((2, 2), np.float32)

    monkeypatch.setattr(encoding, "load_replica", lambda *_: (Compiling(), SimpleNamespace(to_json=dict)))
    monkeypatch.setattr(encoding, "time", SimpleNamespace(monotonic=lambda: now[0]))
    step = make_step(monkeypatch)
    seen.append(step.progress)
    encoded = step.encode(make_unit())
    assert isinstance(encoded, EncodedUnit)
    assert len(set(seen)) == 4
    assert step.progress not in seen[1:]
    assert (encoded.times.wait, encoded.times.encode) == (300_000, 0)


def test_a_replica_that_waits_for_the_store_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit asks the store whether it is there, and tells it that it is begun. On a GPU that may be a third of the time,
    and the share that users tune their units by would say nothing of it."""
    now = [0.0]

    def take(seconds: float) -> None:
        now[0] += seconds

    class Steady(Replica):
        def encode(self, *_: object) -> Any:
            take(5.0)
            return np.ones((2, 2), np.float32)

    monkeypatch.setattr(encoding, "load_replica", lambda *_: (Steady(), SimpleNamespace(to_json=dict)))
    monkeypatch.setattr(encoding, "time", SimpleNamespace(monotonic=lambda: now[0]))
    step = make_step(monkeypatch)
    monkeypatch.setattr(encoding, "begin_attempt", lambda *_: take(2.0))
    monkeypatch.setattr(encoding, "read_unit", lambda *_: take(1.0))
    for idle in (0.0, 4.0):
        take(idle)
        encoded = step.encode(make_unit())
        assert isinstance(encoded, EncodedUnit)
        assert (encoded.times.wait, encoded.times.encode) == (3000 + 1000 * idle, 5000)
