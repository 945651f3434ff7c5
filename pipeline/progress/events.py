"""What a run reports while it goes: events, and where they may be sent.

A reporter is a context manager, so that threads, files and the terminal are given back whatever happens. The run knows
`emit` only.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class PlanReady:
    """A plan was made; what follows works through it. A later one replaces what is known to be left."""

    files: int
    files_covered: int
    segments: int  # pending
    source_bytes: int  # of the pending segments
    units_covered: int  # in the head already
    units_committed: int  # done, not yet published
    tokens: int | None = None  # estimate for the pending segments


@dataclass(frozen=True, slots=True)
class UnitDone:
    """A unit was committed by this run."""

    unit: str
    uri: str  # of its first file
    rows_in: int
    rows_out: int
    quarantined: int  # rows
    folded: int  # rows whose vector was computed for an identical text
    truncated: int  # rows
    tokens: int  # encoded
    padded_tokens: int  # computed, padding included
    bytes: int  # of its part
    source_bytes: int  # share of the input it stands for; those of a segment add up to its size
    encode_s: float
    wait_s: float  # of its replica, for something to encode


@dataclass(frozen=True, slots=True)
class UnitFailed:
    """A unit could not be finished; the run goes on without it."""

    unit: str
    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user may want to know."""

    text: str


@dataclass(frozen=True, slots=True)
class Published:
    """A snapshot was published."""

    version: int
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over."""

    state: str
    exit_code: int


Event = PlanReady | UnitDone | UnitFailed | Note | Published | RunEnded


class Reporter(Protocol):
    """Where events go. `emit` may be called from one thread only and must not raise."""

    def emit(self, event: Event) -> None:
        """Take note of an event."""
        ...


class ReporterContext(Reporter, contextlib.AbstractContextManager["ReporterContext"], Protocol):
    """A reporter that holds something to be given back."""


class NullReporter:
    """Reports nothing."""

    def emit(self, event: Event) -> None:
        """Ignore the event."""


class Tee:
    """Sends each event to several reporters, opened and closed together."""

    def __init__(self, reporters: Sequence[ReporterContext]) -> None:
        self._reporters = reporters
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for reporter in self._reporters:
            self._stack.enter_context(reporter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def emit(self, event: Event) -> None:
        """Pass the event on."""
        for reporter in self._reporters:
            reporter.emit(event)
