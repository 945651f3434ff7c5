"""When the parity gate may be measured on the job's own texts."""

from types import SimpleNamespace
from typing import Any

from support.memory import MemoryStore
from support.records import spec

from pipeline.commit.attempts import list_unended
from pipeline.commit.units import list_generations
from pipeline.flow.gate_watch import MAX_DEATHS, GateWatch
from pipeline.flow.planning import Planned


def watch(store: MemoryStore) -> GateWatch:
    job: Any = SimpleNamespace(store=store, run="0" * 32, spec=spec())
    return GateWatch(job)


def planned(deaths: int = 0) -> Planned:
    plan: Any = None
    return Planned(None, False, (), plan, 0, deaths)


def test_texts_are_trusted_until_a_round_fails_before_it_has_encoded_anything() -> None:
    gate = watch(MemoryStore())
    assert gate.trusts(planned())
    gate.round_failed()
    assert not gate.trusts(planned())


def test_texts_that_have_passed_stay_trusted_whatever_dies_later() -> None:
    gate = watch(MemoryStore())
    gate.passed()
    gate.round_failed()
    assert gate.trusts(planned(MAX_DEATHS))


def test_texts_that_are_suspected_stay_so_though_units_are_encoded_without_them() -> None:
    """Else the next round would load its replicas with them again, and die, and the one after it."""
    for gate, plan in ((watch(MemoryStore()), planned()), (watch(MemoryStore()), planned(MAX_DEATHS))):
        if gate.trusts(plan):
            gate.round_failed()
        gate.passed()
        gate.round_failed()
        assert not gate.trusts(plan)


def test_a_run_is_noted_once_and_ends_in_good_order_with_its_first_unit() -> None:
    """Killed after that, it says nothing against the gate's texts."""
    store = MemoryStore()
    gate = watch(store)
    gate.begin(planned())
    gate.begin(planned())
    assert list(list_unended(store, list_generations(store)).values()) == [1]
    gate.passed()
    gate.begin(planned())
    gate.end("the run ended")
    assert not list_unended(store, list_generations(store))
    assert len(store.objects) == 2
