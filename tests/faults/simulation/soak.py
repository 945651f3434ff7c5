"""Histories one after the other: how many, with how many faults, and how many of them went wrong."""

import gc
import logging
import time
from collections import Counter
from collections.abc import Iterable
from itertools import count, takewhile

from faults.ledger import Chunk
from faults.simulation.binding import forget
from faults.simulation.caught import SEEDS
from faults.simulation.mutants import MUTANTS, catching_seed
from faults.simulation.mutation import Mutant
from faults.simulation.story import Outcome, simulate

MOST_SEARCHED = 5000
"""Histories in which a mutant is looked for when its remembered one has changed."""

COLLECT_EVERY = 50

log = logging.getLogger(__name__)


def soak(first: int, seconds: float) -> Chunk:
    """Seeds from `first` on, for about `seconds`; before the very first of them all mutants, however long they take."""
    counts: Counter[str] = Counter(violations=0)
    if first == 0:
        alive = [mutant.name for mutant in MUTANTS if not is_caught(mutant)]
        counts.update(mutants=len(MUTANTS), mutants_alive=len(alive))
        if alive:
            log.error("nobody notices %s", ", ".join(alive))
    end = time.monotonic() + seconds
    counts.update(live(takewhile(lambda _: time.monotonic() < end, count(first)))[0])
    return Chunk(first + counts["seeds"], counts)


def is_caught(mutant: Mutant) -> bool:
    """Whether the invariants notice a broken protocol, and nothing is wrong with the whole one in the same history."""
    seed = catching_seed(mutant, (SEEDS.get(mutant.name, 0), *range(MOST_SEARCHED)))
    return seed is not None and not simulate(seed).violations


def _simulate(seed: int, *, collect: bool) -> Outcome:
    """A history, without Python's own garbage collection in the midst of it, which would take an eighth of the time.

    What it remembers goes before that collection does: looking through the records of thousands of histories took longer than
    the histories.
    """
    gc.disable()
    try:
        return simulate(seed)
    finally:
        gc.enable()
        if collect:
            forget()
            gc.collect()


def live(seeds: Iterable[int]) -> tuple[Counter[str], Counter[str]]:
    """Counts of what happened in the histories of `seeds`, and of faults by operation and kind."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    gc.freeze()  # what was there before is not looked through each time: torch's part of it alone takes a tenth of a second
    try:
        for number, seed in enumerate(seeds):
            outcome = _simulate(seed, collect=number % COLLECT_EVERY == 0)
            counts.update(outcome.counts)
            for (operation, kind), times in outcome.faults.items():
                counts[f"faults.{kind}"] += times
                faults[f"{operation}: {kind}"] += times
            counts["violations"] += len(outcome.violations)
            for violation in outcome.violations:
                log.error("python -m faults.simulation %d: %s", seed, violation)
    finally:
        gc.unfreeze()
    return counts, faults
