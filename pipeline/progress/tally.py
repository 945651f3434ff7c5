"""Events → counters, rates and the time left. Pure but for the clock it is given."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.progress.events import Event, Note, PlanReady, Published, RunEnded, UnitDone, UnitFailed

MEMORY_S = 120.0
"""Rates forget with this time constant: long enough to be steady, short enough to follow a replica that joins."""

PATIENCE = 3
"""A silence of so many times what is remembered means that work has slowed down; a shorter one, that units differ."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where a run stands. Counters are of this run; rates are smoothed."""

    phase: str
    seconds: float  # since the reporter was made
    files: int
    files_covered: int
    units: int
    units_failed: int
    rows: int  # embedded
    rows_quarantined: int
    rows_folded: int
    rows_truncated: int
    tokens: int
    padding_share: float
    source_bytes: int  # of the pending input, as of the last plan
    source_bytes_done: int  # of them
    rows_per_s: float
    tokens_per_s: float
    seconds_left: float | None  # None: nothing to tell it from yet
    note: str

    @property
    def share_done(self) -> float:
        """Of the pending input's bytes; 1 when nothing was pending."""
        return min(1.0, self.source_bytes_done / self.source_bytes) if self.source_bytes else 1.0


class Tally:
    """Adds up events.

    Rates are changed by finished units only: between two of them nothing is known, and a rate that sinks until the next
    one comes would make the time left jump. Tokens left are bytes left times the tokens a byte has given so far.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._plan: PlanReady | None = None
        self._planned_at = self._started
        self._last_unit_at: float | None = None
        self._recent = _Recent()
        self._phase, self._note = "planning", ""
        self._units = self._failed = 0
        self._rows = self._quarantined = self._folded = self._truncated = 0
        self._tokens = self._padded = 0
        self._bytes = self._bytes_since_plan = 0

    def add(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case PlanReady():
                self._plan, self._planned_at, self._bytes_since_plan = event, self._clock(), 0
                self._phase = "encoding" if event.segments else "publishing"
            case UnitDone():
                self._add_unit(event)
            case UnitFailed():
                self._failed += 1
                self._note = f"{event.uri}: {event.reason}"
            case Note():
                self._note = event.text
            case Published():
                self._phase = "collecting"
            case RunEnded():
                self._phase = event.state

    def counts(self) -> Counts:
        """Where things stand now."""
        now, plan = self._clock(), self._plan
        return Counts(
            phase=self._phase,
            seconds=now - self._started,
            files=plan.files if plan else 0,
            files_covered=plan.files_covered if plan else 0,
            units=self._units,
            units_failed=self._failed,
            rows=self._rows,
            rows_quarantined=self._quarantined,
            rows_folded=self._folded,
            rows_truncated=self._truncated,
            tokens=self._tokens,
            padding_share=1 - self._tokens / self._padded if self._padded else 0.0,
            source_bytes=plan.source_bytes if plan else 0,
            source_bytes_done=self._bytes_since_plan,
            rows_per_s=self._recent.rate(self._recent.rows, self._silence(now)),
            tokens_per_s=self._recent.rate(self._recent.tokens, self._silence(now)),
            seconds_left=self._seconds_left(now),
            note=self._note,
        )

    def _add_unit(self, unit: UnitDone) -> None:
        now = self._clock()
        # The first unit's time is what it took to encode: the start of processes and models is over by then.
        since = (
            now - self._last_unit_at if self._last_unit_at is not None else min(unit.encode_s, now - self._planned_at)
        )
        self._last_unit_at = now
        self._recent.add(since, unit.rows_out, unit.tokens)
        self._units += 1
        self._rows += unit.rows_out
        self._quarantined += unit.quarantined
        self._folded += unit.folded
        self._truncated += unit.truncated
        self._tokens += unit.tokens
        self._padded += unit.padded_tokens
        self._bytes += unit.source_bytes
        self._bytes_since_plan += unit.source_bytes

    def _silence(self, now: float) -> float:
        return 0.0 if self._last_unit_at is None else now - self._last_unit_at

    def _tokens_left(self) -> float | None:
        if self._plan is None:
            return None
        left = max(0, self._plan.source_bytes - self._bytes_since_plan)
        if self._bytes and self._tokens:
            return left * self._tokens / self._bytes
        if self._plan.tokens is None:
            return None
        return self._plan.tokens * left / max(1, self._plan.source_bytes)

    def _seconds_left(self, now: float) -> float | None:
        tokens, silence = self._tokens_left(), self._silence(now)
        rate = self._recent.rate(self._recent.tokens, silence)
        if tokens is None or not rate:
            return None
        return max(0.0, tokens / rate - silence)


class _Recent:
    """Sums over finished units in which older ones count less."""

    def __init__(self) -> None:
        self.seconds = self.rows = self.tokens = 0.0

    def add(self, seconds: float, rows: int, tokens: int) -> None:
        kept = math.exp(-seconds / MEMORY_S)
        self.seconds = self.seconds * kept + seconds
        self.rows = self.rows * kept + rows
        self.tokens = self.tokens * kept + tokens

    def rate(self, total: float, silence: float) -> float:
        """Per second. It sinks in a long silence only."""
        seconds = max(self.seconds, silence / PATIENCE)
        return total / seconds if seconds > 0 else 0.0
