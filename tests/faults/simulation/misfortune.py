"""What may go wrong with each kind of operation, and how often it does in one history."""

import random
from collections import Counter
from dataclasses import dataclass, field

KINDS = {
    "get": ("error", "killed before"),
    "size": ("error", "killed before"),
    "list": ("error", "in pages", "stale", "killed before"),
    "put_new": ("error", "reply lost", "late", "conflict", "repeated", "killed before", "killed after"),
    "put": ("error", "reply lost", "late", "killed before", "killed after"),
    "delete": ("error", "reply lost", "late", "in part", "killed before", "killed after"),
    "source list": ("error", "killed before"),
    "source look": ("error", "killed before"),
    "source read": ("error", "killed before"),
}
"""What may go wrong, by operation. Who only looks and dies may as well have died before."""

TROUBLES = {operation: tuple(k for k in kinds if not k.startswith("killed")) for operation, kinds in KINDS.items()}
DEATHS = {operation: tuple(k for k in kinds if k.startswith("killed")) for operation, kinds in KINDS.items()}

AMOUNTS_TO = {"killed after": "killed before", "reply lost": "error", "late": "error", "in part": "error"}
"""What comes to the same where the operation changes nothing. Any other fault has had no effect then."""

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
    stale: float  # how likely a listing is an older one
    arrival: float  # how likely something late arrives, at each operation
    sore: str  # what such keys begin with; "": none do
    drawn: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # of those that had an effect

    def draw(self, operation: str, what: str, mortal: bool) -> str:
        """What goes wrong with the next operation, on key or prefix `what`; "" for nothing."""
        if not self.rate:
            return ""
        if self.stale and operation == "list" and self.rng.random() < self.stale:
            self.drawn += 1
            return "stale"
        oftener = OFTENER.get(operation, 1.0) * (SORER if self.sore and what.startswith(self.sore) else 1.0)
        if self.rng.random() >= min(0.5, self.rate * oftener):
            return ""
        dies = self.rng.random() < self.kill_share
        kinds = (DEATHS if dies else TROUBLES)[operation]
        kind = kinds[int(self.rng.random() * len(kinds))]
        if (dies and not mortal) or (kind == "stale" and not self.stale):
            return ""
        self.drawn += 1
        return kind

    def happened(self, operation: str, kind: str, *, effective: bool = True) -> None:
        """Count what was drawn for what it came to: `effective` says whether the operation would have changed anything, or
        given something else."""
        kind = kind if effective else AMOUNTS_TO.get(kind, "")
        if kind:
            self.counts[operation, kind] += 1
