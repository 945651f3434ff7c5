"""What a training run tells: how far it is, and how it ended."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """A point of the curve."""

    step: int  # optimizer steps so far
    steps: int  # of the whole run
    epoch: float
    loss: float | None = None  # mean since the last point
    learning_rate: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # of an evaluation, by name


Report = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training run ended."""

    model: str  # directory
    dimensions: int
    parameters: int
    pairs: int  # trained on
    positive: int
    left_out: int  # of the source's rows: scores that are neither
    evaluation_pairs: int  # 0: none were given
    steps: int
    steps_before: int  # done by earlier runs of the same training
    seconds: float  # of this run
    before: Mapping[str, float]  # metrics of the model it began with
    after: Mapping[str, float]
    metric: str  # the one of `before` and `after` that matters, average precision by the loss's own distance
    device: str
    base: str | None  # what it began with; None: random weights
    evaluated_trained: int  # evaluation pairs that were trained on too

    @property
    def evaluated_on(self) -> str:
        """For people."""
        if self.evaluated_trained:
            return f"{self.evaluation_pairs:,} pairs, {self.evaluated_trained:,} of which were trained on too"
        return f"{self.evaluation_pairs:,} pairs that were not trained on"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
