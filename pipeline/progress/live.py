"""The live view: one panel that stays where it is while logs scroll by above it."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.progress.controls import PICTURES
from pipeline.progress.events import Event
from pipeline.progress.reporters import duration_text, size_text
from pipeline.progress.tally import Counts, Tally
from pipeline.storage.environment import redact


class LiveReporter:
    """Redraws a panel four times a second. Logs must go through the same console."""

    def __init__(self, console: Console) -> None:
        self._tally = Tally(time.monotonic)
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def emit(self, event: Event) -> None:
        """Count the event; the next redraw shows it."""
        with self._lock:
            self._tally.add(event)

    def _draw(self) -> RenderableType:
        with self._lock:
            counts = self._tally.counts()
        return draw(counts)


def draw(counts: Counts) -> RenderableType:
    """The panel."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column()
    head.add_column(ratio=1)
    head.add_column(justify="right")
    left = f"{duration_text(counts.seconds_left)} left" if counts.seconds_left else ""
    bar = ProgressBar(total=1.0, completed=counts.share_done if counts.source_bytes else 0.0)
    waiting = counts.phase != "encoding"
    head.add_row(
        Text(counts.phase, style="bold"),
        Text(duration_text(counts.seconds), style="dim") if waiting else bar,
        Text("" if waiting else f"{counts.share_done:.0%}  {left}"),
    )
    lines: list[RenderableType] = [head]
    if counts.files:
        lines.append(_figures(counts))
    if counts.note:
        note = redact(counts.note).translate(PICTURES)
        lines.append(Text(note, style="yellow", overflow="ellipsis", no_wrap=True))
    return Group(*lines)


def _figures(counts: Counts) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(4):
        grid.add_column()
    grid.add_row(
        _figure("rows", f"{counts.rows:,}"),
        _figure("rows/s", f"{counts.rows_per_s:,.0f}"),
        _figure("folded", f"{counts.rows_folded:,}"),
        _figure("quarantined", f"{counts.rows_quarantined:,}", alarm=counts.rows_quarantined > 0),
    )
    grid.add_row(
        _figure("tokens", f"{counts.tokens:,}"),
        _figure("tokens/s", f"{counts.tokens_per_s:,.0f}"),
        _figure("padding", f"{counts.padding_share:.0%}"),
        _figure("truncated", f"{counts.rows_truncated:,}"),
    )
    grid.add_row(
        _figure("units", f"{counts.units:,}"),
        _figure("failed", f"{counts.units_failed:,}", alarm=counts.units_failed > 0),
        _figure("files", f"{counts.files:,} ({counts.files_covered:,} before)"),
        _figure("to read", size_text(max(0, counts.source_bytes - counts.source_bytes_done))),
    )
    return grid


def _figure(name: str, value: str, *, alarm: bool = False) -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, "bold yellow" if alarm else "bold"))
