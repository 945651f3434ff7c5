"""Reporters without a terminal: log lines, and a file of JSON lines."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pipeline.errors import ConfigError
from pipeline.progress.events import Event, Note, PlanReady, Published, UnitFailed
from pipeline.progress.tally import Counts, Tally
from pipeline.storage.environment import redact

log = logging.getLogger("embedpipe.progress")

EVERY_S = 5.0
SILENT_S = 60.0
"""A line comes at least this often, so that a hung job can be told from a dead one."""


class LineReporter:
    """One log line every few seconds while units finish."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tally = Tally(clock)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._units_told = 0
        self._told_at = clock()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.tell(final=True)

    def emit(self, event: Event) -> None:
        """Count the event; what is rare is told at once."""
        with self._lock:
            self._tally.add(event)
        match event:
            case PlanReady() if event.segments:
                log.info("plan: %s", plan_text(event))
            case UnitFailed():
                log.warning("%s: could not be finished: %s", event.uri, event.reason)
            case Note():
                log.info("%s", event.text)
            case Published():
                rows, files = count_text(event.rows, "row"), count_text(event.files, "file")
                log.info("published version %d: %s in %s, %s", event.version, rows, files, size_text(event.bytes))

    def tell(self, *, final: bool = False) -> None:
        """Log where things stand, unless nothing has changed and a line came not long ago."""
        with self._lock:
            counts = self._tally.counts()
            news = counts.units != self._units_told
            if not news and (final or self._clock() - self._told_at < SILENT_S):
                return
            self._units_told, self._told_at = counts.units, self._clock()
        log.info("%s", counts_text(counts))

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.tell()


class JsonLinesReporter:
    """Appends every event to a local file, one JSON object a line with `time` (UTC) and `event`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8", buffering=1)  # a line reaches the file at once
        except OSError as error:
            raise ConfigError(f"execution.events: {self._path} can't be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def emit(self, event: Event) -> None:
        """Append the event. A disk that is full costs the events, not the run."""
        if self._file is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            line = json.dumps({"time": now, "event": type(event).__name__, **_redacted(asdict(event))})
            self._file.write(line + "\n")
        except OSError as error:
            log.warning("%s: no more events are written: %s", self._path, error.strerror)
            self._file = None


def _redacted(values: dict[str, Any]) -> dict[str, Any]:
    """Before it is JSON, where a secret may be spelt otherwise. Reasons repeat what others say: stores, servers, files."""
    return {name: redact(value) if isinstance(value, str) else value for name, value in values.items()}


def plan_text(plan: PlanReady) -> str:
    """A plan on one line."""
    return (
        f"{count_text(plan.files, 'file')}, {plan.files_covered:,} of them published already; "
        f"{count_text(plan.segments, 'piece')} to read ({size_text(plan.source_bytes)}); "
        f"units: {plan.units_covered:,} published, {plan.units_committed:,} committed"
    )


def counts_text(counts: Counts) -> str:
    """Counters on one line."""
    parts = [
        f"{counts.share_done:.0%}",
        f"{count_text(counts.rows, 'row')} ({counts.rows_per_s:,.0f}/s)",
        f"{count_text(counts.tokens, 'token')} ({counts.tokens_per_s:,.0f}/s)",
        count_text(counts.units, "unit"),
        f"padding {counts.padding_share:.0%}",
        f"folded {counts.rows_folded:,}",
        f"quarantined {counts.rows_quarantined:,}",
    ]
    if counts.units_failed:
        parts.append(f"failed units {counts.units_failed:,}")
    if counts.seconds_left:
        parts.append(f"{duration_text(counts.seconds_left)} left")
    waiting = "" if counts.phase == "encoding" else f"{counts.phase}: "
    return waiting + ", ".join(parts)


def count_text(count: int, noun: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_text(size: float) -> str:
    """Bytes as people read them."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("KB", "MB", "GB"):
        size /= 1000
        if round(size, 1) < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} TB"


def duration_text(seconds: float) -> str:
    """Seconds as people read them: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
