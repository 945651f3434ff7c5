"""When the parity gate may be measured on the job's own texts."""

from types import SimpleNamespace
from typing import Any

from support.memory import MemoryStore
from support.records import spec

from pipeline.commit.attempts import list_unended
from pipeline.commit.units import list_generations
from pipeline.flow.gate_watch import MAX_DEATHS, GateWatch
from pipeline.flow.planning import Planned
from pipeline.spec import gate_unit


def watch(store: MemoryStore) -> GateWatch:
    """Of a run that begins now."""
    job: Any = SimpleNamespace(store=store, run="0" * 32, spec=spec())
    gate = GateWatch(job)
    gate.begin(planned(store))
    return gate


def planned(store: MemoryStore) -> Planned:
    """As `plan_now` sees the gate."""
    unit, generations = gate_unit(spec().spec_id), list_generations(store)
    unended = {name: count for (name, _), count in list_unended(store, generations).items()}
    plan: Any = None
    return Planned(None, False, (), plan, generations.get(unit, -1) + 1, unended.get(unit, 0))


def deaths(store: MemoryStore) -> int:
    return planned(store).gate_deaths


def test_texts_are_suspected_after_two_rounds_that_fail_before_they_have_encoded_anything() -> None:
    """One may be a machine that was taken away."""
    gate = watch(MemoryStore())
    assert gate.trusts
    gate.round_failed()
    assert gate.trusts
    gate.round_failed()
    assert not gate.trusts


def test_runs_that_died_count_like_rounds_that_failed() -> None:
    store = MemoryStore()
    watch(store)
    gate = watch(store)
    assert gate.trusts
    gate.round_failed()
    assert not gate.trusts
    assert not watch(store).trusts, "its note is still open"


def test_a_runs_own_note_is_no_death() -> None:
    """Its next round sees it, and nobody has died twice."""
    store = MemoryStore()
    watch(store)
    gate = watch(store)
    gate.begin(planned(store))
    assert deaths(store) == 2
    assert gate.trusts


def test_texts_that_have_passed_stay_trusted_whatever_dies_later() -> None:
    gate = watch(MemoryStore())
    gate.passed()
    gate.round_failed()
    gate.round_failed()
    assert gate.trusts


def test_texts_that_are_suspected_stay_so_though_units_are_encoded_without_them() -> None:
    """Else the next round would load its replicas with them again, and die, and the one after it."""
    store = MemoryStore()
    for _ in range(MAX_DEATHS):
        watch(store)
    died, failed = watch(store), watch(MemoryStore())
    failed.round_failed()
    failed.round_failed()
    for gate in (died, failed):
        gate.passed()
        assert not gate.trusts


def test_a_run_is_noted_once_and_ends_in_good_order_with_its_first_unit() -> None:
    """Killed after that, it says nothing against the gate's texts."""
    store = MemoryStore()
    gate = watch(store)
    gate.begin(planned(store))
    assert deaths(store) == 1
    gate.passed()
    gate.begin(planned(store))
    gate.end()
    assert deaths(store) == 0
    assert len(store.objects) == 2


def test_a_run_that_gives_up_over_rounds_that_fail_counts_as_one_that_died() -> None:
    """With one round a run, each would load its replicas with the same texts, and none ever get on."""
    store = MemoryStore()
    gate = watch(store)
    gate.round_failed()
    gate.end()
    assert deaths(store) == 1


def test_deaths_are_forgotten_with_the_publication_also_by_those_who_may_not_collect() -> None:
    """What was pending is done: the texts that were suspected are not asked for again."""
    store = MemoryStore()
    for _ in range(MAX_DEATHS):
        watch(store)
    gate = watch(store)
    gate.passed()
    gate.published()
    assert deaths(store) == 0
    assert watch(store).trusts
