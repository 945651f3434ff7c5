"""An encoder that only waits: what remains of a job then is the pipeline around the model.

`install` is a Ray worker's setup hook (`worker_process_setup_hook` of a runtime environment); it runs in each worker before
its first task.
"""

import os
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.encode.placement import Placement
from pipeline.flow.context import JobContext

UNIT_S = "EMBEDPIPE_SCALE_UNIT_S"
"""Setting: seconds that a unit takes, whatever is in it."""


@dataclass(frozen=True, slots=True)
class WaitingStats:
    """As much of `EncodeStats` as a job asks for."""

    batches: int = 0
    padded_tokens: int = 0


@dataclass(frozen=True, slots=True)
class NoGate:
    """Stands for the result of a parity gate where there is no model."""

    def to_json(self) -> dict[str, object]:
        return {"samples": 0, "min_cosine": "none", "max_relative_l2": "none", "reason": "an encoder that only waits"}


class WaitingEncoder:
    """What `pipeline.flow.encoding` needs of an encoder."""

    def __init__(self, dimensions: int, unit_s: float) -> None:
        self.placement = Placement("cpu", "float32", "it only waits")
        self.stats = WaitingStats()
        self._dimensions, self._unit_s = dimensions, unit_s

    def encode(self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]: some values in each vector that tell texts apart."""
        vectors = np.zeros((len(offsets) - 1, self._dimensions), np.float32)
        vectors[:, 0] = np.diff(offsets)
        vectors[:, 1] = token_ids[offsets[1:] - 2] if len(token_ids) else 0
        time.sleep(self._unit_s)  # the work of a model
        self.stats = WaitingStats(self.stats.batches + 1, self.stats.padded_tokens + len(token_ids))
        return vectors


def load_waiting(context: JobContext, threads: int | None) -> tuple[WaitingEncoder, NoGate]:
    """In place of `pipeline.flow.replica.load_replica`."""
    del threads  # nothing is computed
    return WaitingEncoder(context.dimensions, float(os.environ[UNIT_S])), NoGate()


def install() -> None:
    """Let units of this process be encoded by waiting."""
    from pipeline.flow import encoding

    vars(encoding)["load_replica"] = load_waiting
