"""Results as people read them: lines of text, without boxes and never cut, so that they are as good in a log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.text import Text

from pipeline.check.report import Report
from pipeline.commit.records import Times
from pipeline.flow.summary import Preflight, PublishedFacts, Status, Summary
from pipeline.progress.reporters import count_text, duration_text, size_text

SHOWN_FAILURES = 10
RAW_CHARACTERS = 60

Row = tuple[str, str]


def render_summary(summary: Summary) -> Text:
    """How a run ended."""
    head = Text.assemble(
        (summary.state, _STATE_STYLES[summary.state]),
        f" in {duration_text(summary.seconds)}: version {summary.version} ",
        "published" if summary.published else "stands unchanged, nothing new to publish",
    )
    rows = [
        ("snapshot", f"{count_text(summary.rows, 'row')} in {_files(summary.files, summary.bytes)}"),
        ("input", count_text(summary.input_files, "file")),
        ("this run", f"{count_text(summary.rows_encoded, 'row')}, {count_text(summary.units_encoded, 'unit')}"),
    ]
    if summary.units_encoded:
        rows += _work(summary)
    if summary.rows_quarantined:
        kinds = f" ({_kinds(summary.quarantined)})" if summary.quarantined else ""
        rows.append(("quarantined", f"{count_text(summary.rows_quarantined, 'row')}{kinds}"))
    if summary.duplicate_ids:
        rows.append(("duplicate ids", f"{count_text(summary.duplicate_ids, 'row')}, kept"))
    rows.append(("data", f"{summary.output}/data"))
    return _lines(head, *_facts(rows), *_failures(summary.failed), *_notes(summary.messages), _next(summary.next_step))


def render_preflight(preflight: Preflight) -> Text:
    """What a run would do."""
    about = "about " if preflight.rows_estimated else ""
    rows = [
        ("model", f"{preflight.model}: {preflight.dimensions} dimensions, {preflight.max_tokens} tokens a text"),
        ("device", f"{preflight.device}, {preflight.dtype}: {preflight.device_reason}"),
        ("input", _files(preflight.input_files, preflight.input_bytes) + _amount(preflight.rows, about, "row")),
        ("published", _published_before(preflight)),
    ]
    if preflight.units_committed:
        rows.append(("committed", f"{count_text(preflight.units_committed, 'unit')}, waiting to be published"))
    rows.append(("to do", _pending(preflight)))
    if preflight.pending_seconds is not None:
        replicas = "one replica" if preflight.replicas == 1 else f"{preflight.replicas:,} replicas"
        time = duration_text(preflight.pending_seconds)
        rows.append(("time", f"about {time} to encode, by a timing on this machine, with {replicas} like it"))
    if preflight.truncated_share is not None:
        share = f"{preflight.truncated_share:.1%} of the texts are longer than the model takes"
        rows.append(("truncated", f"about {share}"))
    size = "" if preflight.output_bytes is None else f", about {size_text(preflight.output_bytes)}"
    rows.append(("output", f"{preflight.output}{size}"))
    if preflight.rows_dropped:
        rows.append(("dropped", f"{count_text(preflight.rows_dropped, 'published row')} whose files are gone"))
    head = Text("plan; nothing is written", style="bold")
    return _lines(head, *_facts(rows), *_notes(preflight.messages), _next(preflight.next_step))


def render_status(status: Status) -> Text:
    """An output, as its store tells."""
    rows: list[Row] = []
    if status.published is not None:
        rows += _snapshot(status.published)
        exact = "a plain glob of data/ is exact" if status.success else "read by `embedpipe files`, not by glob"
        rows.append(("_SUCCESS", f"{'stands' if status.success else 'is not there'}: {exact}"))
    if status.units_committed:
        units, done = count_text(status.units_committed, "unit"), count_text(status.rows_committed, "row")
        rows.append(("committed", f"{units}, {done}, not yet published"))
        rows.append(("tokens", f"{status.tokens_committed:,}; {count_text(status.truncated, 'text')} truncated"))
        rows.append(("folded", count_text(status.folded, "row")))
        rows += _busy(status.times)
    if status.quarantined:
        rows.append(("quarantined", _kinds(status.quarantined)))
    if status.attempts_open:
        rows.append(("in flight", f"{count_text(status.attempts_open, 'unit')}, or left by a process that died"))
    head = Text.assemble((status.state, _STATE_STYLES[status.state]), f"  {status.output}")
    return _lines(head, *_facts(rows), *_failures(status.failed), *_notes(status.messages), _next(status.next_step))


def render_report(report: Report) -> Text:
    """What verification found, check by check."""
    if report.passed:
        verdict = ("verified", "bold green")
    else:
        verdict = (f"{count_text(len(report.failed), 'check')} failed", "bold red")
    width = max((len(check.name) for check in report.checks), default=0)
    lines = [Text.assemble(verdict, f"  version {report.version} of {report.output}")]
    for check in report.checks:
        word, style = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("not checked", "yellow")}[
            check.passed
        ]
        lines.append(Text.assemble("  ", (f"{word:<11}", style), f"  {check.name:<{width}}  {check.detail}"))
    return _lines(*lines)


def render_quarantine(table: pa.Table, limit: int) -> Text:
    """Rows kept aside: how many of each kind, then row by row where it is, why, and what stands there."""
    if not table.num_rows:
        return Text("no rows are quarantined")
    counts = {entry["values"]: entry["counts"] for entry in table["kind"].value_counts().to_pylist()}
    shown = quarantine_rows(table, limit)
    width = max(len(row["kind"]) for row in shown)
    lines = [Text(f"{count_text(table.num_rows, 'row')}: {_kinds(counts)}", style="bold")]
    for row in shown:
        name = "" if row["id"] is None else f", id {row['id']}"
        lines.append(Text(f"  {row['kind']:<{width}}  {row['uri']} at {row['position']:,}{name}: {row['reason']}"))
        if row["raw"]:
            lines.append(Text(f"  {'':<{width}}  {row['raw']}", style="dim"))
    if table.num_rows > len(shown):
        lines.append(Text(f"  and {table.num_rows - len(shown):,} more; see --limit", style="dim"))
    return _lines(*lines)


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
        *_busy(summary.times),
    ]
    if summary.gate:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.gate.items() if value != "")
        rows.append(("parity gate", values))
    return rows


def _busy(times: Times) -> list[Row]:
    """What the encoders' time went into, and what others did beside them."""
    share = times.busy_share
    if share is None:
        return []
    whole = times.encode + times.wait
    waiting, transfer = (times.wait - times.transfer) / whole, times.transfer / whole
    beside = ", ".join(
        f"{name} {value / 1000:,.1f} s"
        for name, value in (("reading", times.read), ("tokenising", times.tokenise), ("staging", times.stage))
    )
    return [("encoders", f"{share:.1%} busy, {waiting:.1%} waiting, {transfer:.1%} handing over; beside them {beside}")]


def _snapshot(facts: PublishedFacts) -> list[Row]:
    kept = f", versions from {facts.oldest} on are readable" if facts.oldest < facts.version else ""
    about = facts.facts
    limit = f" (limited to {facts.limit:,})" if facts.limit is not None else ""
    rows = [
        (
            "snapshot",
            f"version {facts.version}: {count_text(facts.rows, 'row')}{limit} in {_files(facts.files, facts.bytes)}{kept}",
        ),
        ("source rows", f"{facts.rows_in:,}, of them {facts.rows_quarantined:,} quarantined"),
    ]
    if about:
        rows.append(("model", f"{about.get('model', '?')}, {about.get('dimensions', '?')} dimensions"))
        rows.append(("published at", str(about.get("published_at", "?"))))
        rows += _busy(Times(**about.get("times", {})))
    return rows


def _published_before(preflight: Preflight) -> str:
    if not preflight.version:
        return "nothing yet"
    if preflight.replaces:
        return f"version {preflight.version}, of another spec: its rows would be replaced as a whole"
    units = count_text(preflight.units_covered, "unit")
    return f"version {preflight.version}; of it {count_text(preflight.files_covered, 'file')}, {units} stay as they are"


def _pending(preflight: Preflight) -> str:
    if not preflight.units_pending:
        return "nothing"
    rows = _amount(preflight.pending_rows, "about " if preflight.rows_estimated else "", "row")
    tokens = _amount(preflight.pending_tokens, "about ", "token")
    return f"{count_text(preflight.units_pending, 'unit')}, {size_text(preflight.pending_bytes)}{rows}{tokens}"


def _amount(value: int | None, before: str, noun: str) -> str:
    return "" if value is None else f", {before}{count_text(value, noun)}"


def _files(count: int, size: int) -> str:
    return f"{count_text(count, 'file')}, {size_text(size)}"


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))


def _failures(failed: Mapping[str, str]) -> Iterable[Text]:
    if not failed:
        return
    yield Text(f"{count_text(len(failed), 'file')} could not be read to the end; the snapshot is without:", "bold red")
    for uri, reason in sorted(failed.items())[:SHOWN_FAILURES]:
        yield Text(f"  {reason if uri in reason else f'{uri}: {reason}'}", "red")
    if len(failed) > SHOWN_FAILURES:
        yield Text(f"  and {len(failed) - SHOWN_FAILURES:,} more; --json lists them all", "red")


def _notes(messages: Sequence[str]) -> Iterable[Text]:
    for message in messages:
        yield Text(f"note: {message}", "yellow")


def _next(step: str) -> Text:
    return Text.assemble(("next: ", "dim"), step)


def _facts(rows: Sequence[Row]) -> Iterable[Text]:
    """A line for each: its name, in a column of its own, and the value."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield Text.assemble((f"  {name:<{width}}  ", "dim"), value)


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterable[Text]:
    """A line for each row, as wide as its columns need. right: those whose values end, not begin, in one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) if index in right else cell.ljust(width)
                 for index, (cell, width) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        yield Text(("  " + "  ".join(cells)).rstrip())


def _lines(*lines: Text) -> Text:
    return Text("\n").join(lines)
