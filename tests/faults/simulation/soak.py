"""Histories one after the other: how many, with how many faults, and how many of them went wrong."""

import logging
import time
from collections import Counter
from collections.abc import Iterable

from faults.ledger import Chunk
from faults.simulation.story import simulate

log = logging.getLogger(__name__)


def soak(first: int, seconds: float) -> Chunk:
    """Seeds from `first` on, for about `seconds`."""
    end = time.monotonic() + seconds
    counts: Counter[str] = Counter(violations=0)
    seed = first
    while time.monotonic() < end:
        counts += live([seed])[0]
        seed += 1
    return Chunk(seed, {"violations": 0, **counts})


def live(seeds: Iterable[int]) -> tuple[Counter[str], Counter[str]]:
    """Counts of what happened in the histories of `seeds`, and of faults by operation and kind."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in seeds:
        outcome = simulate(seed)
        for name in ("seeds", "operations", "snapshots", "reads"):
            counts[name] += outcome.counts[name]
        for (operation, kind), count in outcome.faults.items():
            counts[f"faults.{kind}"] += count
            faults[f"{operation}: {kind}"] += count
        counts["violations"] += len(outcome.violations)
        for violation in outcome.violations:
            log.error("python -m faults.simulation %d: %s", seed, violation)
    return counts, faults
