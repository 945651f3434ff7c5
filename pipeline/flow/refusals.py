"""When a run gives up because nothing is taken any more: a disk that is full stays so, however many units are encoded."""

import time
from collections.abc import Callable

from pipeline.flow.acks import Ack

MOST = 8
"""Units in a row that may end in an error that asking again doesn't mend. One may have a name that the store can't take."""

PATIENCE_S = 120.0
"""Since the first of them. One machine of a cluster may lack something, and fail fast; the others do a unit in that time."""


class Refusals:
    """Of one run, as its acknowledgements come in."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._since = 0.0

    def are_too_many(self, ack: Ack) -> bool:
        """Whether the run should end with this one's error."""
        if ack.state == "done":
            self._count = 0
        elif ack.state == "error" and ack.error is not None and not ack.error.retry:
            self._since = self._since if self._count else self._clock()
            self._count += 1
            return self._count >= MOST and self._clock() - self._since >= PATIENCE_S
        return False
