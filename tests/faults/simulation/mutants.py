"""Broken variants of the protocol. A simulation that doesn't catch each of them could not be believed about the real one."""

from collections.abc import Iterable

# Imported for what they add to the list of mutants.
from faults.simulation import broken_collection, broken_publishing, broken_reading, broken_units
from faults.simulation.binding import replaced
from faults.simulation.mutation import MUTANTS, Mutant
from faults.simulation.story import Outcome, simulate

__all__ = [
    "MUTANTS",
    "Mutant",
    "broken_collection",
    "broken_publishing",
    "broken_reading",
    "broken_units",
    "catching_seed",
]


def catching_seed(broken: Mutant, seeds: Iterable[int]) -> int | None:
    """The first seed whose history shows that the protocol is broken.

    One in which a process ended with a bug says nothing about the protocol, and may be the mutant's own mistake: it counts only
    where the mutant is known to show like that.
    """
    with replaced(broken.replacements()):
        return next((seed for seed in seeds if _is_noticed(broken, simulate(seed))), None)


def _is_noticed(broken: Mutant, outcome: Outcome) -> bool:
    return bool(outcome.violations) and (broken.crashes or not outcome.bugs)
