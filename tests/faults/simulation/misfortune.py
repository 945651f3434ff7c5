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

SORE = ("", "", "", "data/", "_embedpipe/unit/", "_embedpipe/assembly/", "_embedpipe/log/", "_SUCCESS")
"""Keys around which more goes wrong in a history than elsewhere: some mistakes show only where a process dies at one place."""

SORER = 10.0

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
    sore: str  # what such keys begin with; "": none do
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def draw(self, operation: str, what: str, mortal: bool) -> str:
        """What goes wrong with the next operation, on key or prefix `what`; "" for nothing."""
        if not self.rate:
            return ""
        oftener = OFTENER.get(operation, 1.0) * (SORER if self.sore and what.startswith(self.sore) else 1.0)
        if self.rng.random() >= min(0.5, self.rate * oftener):
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
