"""Results as people read them. Columns without boxes: the same text is fine in a log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.check.report import Report
from pipeline.flow.reporters import duration_text, size_text
from pipeline.flow.summary import Preflight, PublishedFacts, Status, Summary

SHOWN_FAILURES = 10
RAW_CHARACTERS = 60

Row = tuple[str, str]


def render_summary(summary: Summary) -> RenderableType:
    """How a run ended."""
    head: list[str | Text | tuple[str, str]] = [
        Text("done" if summary.state == "done" else "incomplete", style=_STATE_STYLES[summary.state]),
        f" in {duration_text(summary.seconds)}: version {summary.version} ",
        "published" if summary.published else "stands unchanged, nothing new to publish",
    ]
    rows = [
        ("snapshot", f"{summary.rows:,} rows in {_files(summary.files, summary.bytes)}"),
        ("input", f"{summary.input_files:,} files"),
        ("this run", f"{summary.rows_encoded:,} rows, {summary.units_encoded:,} units"),
    ]
    if summary.units_encoded:
        rows += _work(summary)
    if summary.rows_quarantined:
        kinds = f" ({_kinds(summary.quarantined)})" if summary.quarantined else ""
        rows.append(("quarantined", f"{summary.rows_quarantined:,} rows{kinds}"))
    if summary.duplicate_ids:
        rows.append(("duplicate ids", f"{summary.duplicate_ids:,} rows, kept"))
    rows.append(("data", f"{summary.output}/data"))
    return Group(
        Text.assemble(*head),
        _grid(rows),
        *_failures(summary.failed),
        *_notes(summary.messages),
        _next(summary.next_step),
    )


def render_preflight(preflight: Preflight) -> RenderableType:
    """What a run would do."""
    about = "about " if preflight.rows_estimated else ""
    rows = [
        ("model", f"{preflight.model}: {preflight.dimensions} dimensions, {preflight.max_tokens} tokens a text"),
        ("device", f"{preflight.device}, {preflight.dtype}: {preflight.device_reason}"),
        (
            "input",
            _files(preflight.input_files, preflight.input_bytes) + _amount(preflight.rows, f", {about}", " rows"),
        ),
        ("published", _published_before(preflight)),
        ("committed", f"{preflight.units_committed:,} units, waiting to be published"),
        ("to do", _pending(preflight)),
    ]
    if preflight.pending_seconds is not None:
        rows.append(("time", f"about {duration_text(preflight.pending_seconds)}"))
    if preflight.truncated_share is not None:
        rows.append(
            ("truncated", f"about {preflight.truncated_share:.1%} of the texts are longer than the model takes")
        )
    if preflight.output_bytes is not None:
        rows.append(("output", f"{preflight.output}, about {size_text(preflight.output_bytes)}"))
    else:
        rows.append(("output", preflight.output))
    if preflight.rows_dropped:
        rows.append(("dropped", f"{preflight.rows_dropped:,} published rows whose files are gone"))
    notes = list(preflight.messages)
    if preflight.replaces:
        notes.insert(0, "the output holds other settings' rows: a run is refused unless --replace is given")
    return Group(
        Text("plan; nothing is written", style="bold"), _grid(rows), *_notes(notes), _next(preflight.next_step)
    )


def render_status(status: Status) -> RenderableType:
    """An output, as its store tells."""
    rows: list[Row] = []
    if status.published is not None:
        rows += _snapshot(status.published)
        exact = "a plain glob of data/ is exact" if status.success else "read by `embedpipe files`, not by glob"
        rows.append(("_SUCCESS", f"{'stands' if status.success else 'is not there'}: {exact}"))
    rows.append(("committed", f"{status.units_committed:,} units, {status.rows_committed:,} rows, not yet published"))
    if status.units_committed:
        rows.append(("tokens", f"{status.tokens_committed:,}; {status.truncated:,} texts truncated"))
        rows.append(("folded", f"{status.folded:,} rows"))
    if status.quarantined:
        rows.append(("quarantined", _kinds(status.quarantined)))
    rows.append(("in flight", f"{status.attempts_open:,} units, or left by a process that died"))
    return Group(
        Text.assemble((status.state, _STATE_STYLES[status.state]), f"  {status.output}"),
        _grid(rows),
        *_failures(status.failed),
        *_notes(status.messages),
        _next(status.next_step),
    )


def render_report(report: Report) -> RenderableType:
    """What verification found, check by check."""
    table = Table.grid(padding=(0, 2))
    for check in report.checks:
        word, style = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("not checked", "yellow")}[
            check.passed
        ]
        table.add_row(Text(word, style=style), Text(check.name), Text(check.detail))
    verdict = ("verified", "bold green") if report.passed else (f"{len(report.failed)} checks failed", "bold red")
    return Group(Text.assemble(verdict, f"  version {report.version} of {report.output}"), table)


def render_quarantine(table: pa.Table, limit: int) -> RenderableType:
    """Rows kept aside: how many of each kind, then the rows."""
    if not table.num_rows:
        return Text("no rows are quarantined")
    counts = {entry["values"]: entry["counts"] for entry in table["kind"].value_counts().to_pylist()}
    shown = quarantine_rows(table, limit)
    columns = ("kind", "uri", "position", "id", "reason", "raw")
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in shown:
        grid.add_row(*(Text("" if row[name] is None else str(row[name])) for name in columns))
    more = table.num_rows - len(shown)
    rest = [Text(f"and {more:,} more; see --limit", style="dim")] if more else []
    return Group(Text(f"{table.num_rows:,} rows: {_kinds(counts)}"), grid, *rest)


def quarantine_rows(table: pa.Table, limit: int) -> list[dict[str, Any]]:
    """The first rows as plain values; raw bytes shortened, with escapes where they aren't UTF-8."""
    rows: list[dict[str, Any]] = table.slice(0, limit).to_pylist()
    for row in rows:
        raw = row["raw"]
        if raw is not None:
            text = raw[: 4 * RAW_CHARACTERS].decode("utf-8", "backslashreplace").replace("\n", "\\n")
            row["raw"] = text if len(text) <= RAW_CHARACTERS else f"{text[: RAW_CHARACTERS - 1]}…"
    return rows


_STATE_STYLES = {
    "done": "bold green",
    "published": "bold green",
    "incomplete": "bold yellow",
    "in progress": "bold yellow",
    "empty": "bold",
}


def _work(summary: Summary) -> list[Row]:
    reason = f" ({summary.device_reason})" if summary.device_reason else ""
    rows = [
        ("speed", f"{summary.rows_per_s:,.0f} rows/s, {summary.tokens_per_s:,.0f} tokens/s"),
        ("tokens", f"{summary.tokens:,}, {summary.padding_share:.1%} padding on top"),
        ("texts", f"{summary.folded:,} folded into identical ones, {summary.truncated:,} truncated"),
        ("device", f"{summary.device}, {summary.dtype}{reason}"),
    ]
    if summary.gate:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.gate.items() if value != "")
        rows.append(("parity gate", values))
    return rows


def _snapshot(facts: PublishedFacts) -> list[Row]:
    kept = f", versions from {facts.oldest} on are readable" if facts.oldest < facts.version else ""
    about = facts.facts
    limit = f" (limited to {facts.limit:,})" if facts.limit is not None else ""
    rows = [
        (
            "snapshot",
            f"version {facts.version}: {facts.rows:,} rows{limit} in {_files(facts.files, facts.bytes)}{kept}",
        ),
        ("source rows", f"{facts.rows_in:,}, of them {facts.rows_quarantined:,} quarantined"),
    ]
    if about:
        rows.append(("model", f"{about.get('model', '?')}, {about.get('dimensions', '?')} dimensions"))
        rows.append(("published at", str(about.get("published_at", "?"))))
    rows += [("without", failure) for failure in facts.failed[:SHOWN_FAILURES]]
    return rows


def _published_before(preflight: Preflight) -> str:
    if not preflight.version:
        return "nothing yet"
    return (
        f"version {preflight.version}: {preflight.files_covered:,} of the files, {preflight.units_covered:,} units stay as "
        "they are"
    )


def _pending(preflight: Preflight) -> str:
    if not preflight.units_pending:
        return "nothing"
    rows = _amount(preflight.pending_rows, ", about ", " rows")
    tokens = _amount(preflight.pending_tokens, ", about ", " tokens")
    return f"{preflight.units_pending:,} units, {size_text(preflight.pending_bytes)}{rows}{tokens}"


def _amount(value: int | None, before: str, after: str) -> str:
    return "" if value is None else f"{before}{value:,}{after}"


def _files(count: int, size: int) -> str:
    return f"{count:,} {'file' if count == 1 else 'files'}, {size_text(size)}"


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))


def _failures(failed: Mapping[str, str]) -> Iterable[RenderableType]:
    if not failed:
        return
    yield Text(f"{len(failed):,} files could not be read to their end; the snapshot is without them:", style="bold red")
    for uri, reason in sorted(failed.items())[:SHOWN_FAILURES]:
        yield Text(f"  {reason if uri in reason else f'{uri}: {reason}'}", style="red")
    if len(failed) > SHOWN_FAILURES:
        yield Text(f"  and {len(failed) - SHOWN_FAILURES:,} more; --json lists them all", style="red")


def _notes(messages: Sequence[str]) -> Iterable[RenderableType]:
    for message in messages:
        yield Text(f"note: {message}", style="yellow")


def _next(step: str) -> Text:
    return Text.assemble(("next: ", "dim"), step)


def _grid(rows: Sequence[Row]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(f"  {name}", Text(value))
    return grid
