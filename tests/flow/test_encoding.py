"""What happens to a replica when its texts are to be tried apart."""

import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.memory import MemoryStore

from pipeline.commit.records import NO_TIME
from pipeline.errors import EncodeError
from pipeline.flow import encoding
from pipeline.flow.acks import Ack
from pipeline.flow.unit import PreparedUnit


class Replica:
    """Fails on whatever it is given."""

    stats = SimpleNamespace(batches=0, padded_tokens=0)

    def encode(self, *_: object) -> Any:
        raise RuntimeError("the kernel failed")


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
    context: Any = SimpleNamespace(
        open_store=MemoryStore, model=SimpleNamespace(watch=lambda: None), run="r", spec_id="s"
    )
    pieces = [SimpleNamespace(uri="u")]
    task: Any = SimpleNamespace(unit="0" * 32, generation=0, base=0, segment="1" * 32, k=0, pieces=pieces, deaths=0)
    monkeypatch.setattr(encoding, "begin_attempt", lambda *_: None)
    prepared: Any = SimpleNamespace(token_ids=np.zeros(2, np.int32), offsets=np.array([0, 1, 2]))
    unit = PreparedUnit(task, prepared, "", NO_TIME)
    ack = encoding.Encoding(context).encode(unit)
    assert isinstance(ack, Ack)
    assert ack.message == "looked"
