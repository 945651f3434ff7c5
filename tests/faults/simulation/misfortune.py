"""What may go wrong with each kind of operation, and how often it does in one history."""

import random
from collections import Counter
from dataclasses import dataclass, field

KINDS = {
    "get": ("error", "killed before", "killed after"),
    "size": ("error", "killed before", "killed after"),
    "list": ("error", "in pages", "stale", "killed before", "killed after"),
    "put_new": ("error", "reply lost", "late", "conflict", "repeated", "killed before", "killed after"),
    "put": ("error", "reply lost", "late", "killed before", "killed after"),
    "delete": ("error", "reply lost", "late", "in part", "killed before", "killed after"),
    "source list": ("error", "killed before", "killed after"),
    "source look": ("error", "killed before", "killed after"),
    "source read": ("error", "killed before", "killed after"),
}
"""What may go wrong, by operation."""

OFTENER = {"put_new": 3.0, "put": 15.0, "delete": 8.0, "size": 15.0, "source look": 6.0, "source list": 2.0}
"""What changes the store, or is seldom asked, goes wrong more often than what is read all the time."""


@dataclass
class Faults:
    """How often what goes wrong."""

    rng: random.Random
    rate: float
    kill_share: float
    stale: bool
    arrival: float  # how likely something late arrives, at each operation
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def draw(self, operation: str, mortal: bool) -> str:
        """What goes wrong with the next operation; "" for nothing."""
        if not self.rate or self.rng.random() >= min(0.5, self.rate * OFTENER.get(operation, 1.0)):
            return ""
        kinds = KINDS[operation]
        if self.rng.random() < self.kill_share:
            if not mortal:
                return ""
            kind = kinds[-2 + (self.rng.random() < 0.5)]
        else:
            kind = kinds[int(self.rng.random() * (len(kinds) - 2))]
        if kind == "stale" and not self.stale:
            return ""
        self.counts[operation, kind] += 1
        return kind
