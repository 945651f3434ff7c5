"""Protocols that are broken on purpose: one that goes unnoticed says that the simulation is too weak."""

import dataclasses

import pytest
from faults.simulation.mutants import MUTANTS, Mutant, catching_seed
from faults.simulation.mutation import put
from faults.simulation.soak import MOST_SEARCHED, is_caught

from pipeline.commit import snapshot


@pytest.mark.timeout(600)  # only where it has to search
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_protocol_is_caught(mutant: Mutant) -> None:
    assert is_caught(mutant), f"{mutant.name} went unnoticed for {MOST_SEARCHED} histories: {mutant.story}"


def test_a_mutant_that_only_crashes_is_no_proof() -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyError("its own mistake")

    broken = Mutant("crash", "", lambda: put(snapshot.publish, crash))
    assert catching_seed(broken, range(5)) is None
    assert catching_seed(dataclasses.replace(broken, crashes=True), range(5)) is not None
