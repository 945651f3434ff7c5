"""Progress: counters and rates by a clock that the test turns, and every way of showing them."""

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.errors import ConfigError
from pipeline.progress.events import Event, Note, PlanReady, Published, RunEnded, Tee, UnitDone, UnitFailed
from pipeline.progress.live import LiveReporter, draw
from pipeline.progress.reporters import (
    SILENT_S,
    JsonLinesReporter,
    LineReporter,
    count_text,
    counts_text,
    duration_text,
    plan_text,
    size_text,
)
from pipeline.progress.tally import PATIENCE, Counts, Tally

ROWS, TOKENS, BYTES = 1000, 50_000, 200_000


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plan(segments: int = 100, tokens: int | None = None) -> PlanReady:
    return PlanReady(
        files=12, files_covered=2, segments=segments, source_bytes=segments * BYTES, units_covered=3, units_committed=1,
        tokens=tokens,
    )  # fmt: skip


def unit(*, encode_s: float = 10.0, tokens: int = TOKENS, rows: int = ROWS) -> UnitDone:
    return UnitDone(
        unit="u", uri="s3://b/in.jsonl", rows_in=rows + 3, rows_out=rows, quarantined=3, folded=10, truncated=5, tokens=tokens,
        padded_tokens=tokens * 5 // 4, bytes=1 << 20, source_bytes=BYTES, encode_s=encode_s, wait_s=0.0,
    )  # fmt: skip


EVENTS: list[Event] = [
    plan(), unit(), UnitFailed("v", "s3://b/bad.jsonl", "line 3 is no JSON"), Note("planning again: a worker died"),
    Published(7, 3, 1_000_000, 500_000_000), RunEnded("incomplete", 4),
]  # fmt: skip


def run_units(count: int, seconds: float) -> tuple[Clock, Tally]:
    """A tally after units that came at a steady pace."""
    clock = Clock()
    tally = Tally(clock)
    tally.add(plan())
    for _ in range(count):
        clock.now += seconds
        tally.add(unit())
    return clock, tally


def test_counters_add_up_and_phases_follow_the_run() -> None:
    clock = Clock()
    tally = Tally(clock)
    phases = [tally.counts().phase]
    for event in EVENTS:
        tally.add(event)
        phases.append(tally.counts().phase)
    counts = tally.counts()
    assert phases == ["planning", "encoding", "encoding", "encoding", "encoding", "collecting", "incomplete"]
    assert (counts.rows, counts.rows_quarantined, counts.rows_folded, counts.rows_truncated) == (ROWS, 3, 10, 5)
    assert (counts.units, counts.units_failed, counts.files, counts.files_covered) == (1, 1, 12, 2)
    assert counts.padding_share == pytest.approx(0.2)
    assert counts.share_done == pytest.approx(0.01)
    assert counts.note == "planning again: a worker died"


def test_a_steady_pace_gives_a_steady_rate_and_a_time_left_that_counts_down() -> None:
    """A number that jumps at every unit tells nobody when to come back."""
    clock, tally = run_units(5, 10)
    left = tally.counts().seconds_left
    assert tally.counts().tokens_per_s == pytest.approx(TOKENS / 10)
    assert tally.counts().rows_per_s == pytest.approx(ROWS / 10)
    assert left == pytest.approx(950)
    for second in range(1, 101):  # ten more units, looked at every second
        clock.now += 1
        if second % 10 == 0:
            tally.add(unit())
        now = tally.counts()
        assert now.seconds_left == pytest.approx(left - second)
        assert now.tokens_per_s == pytest.approx(TOKENS / 10)


def test_the_time_left_goes_by_tokens_not_by_rows() -> None:
    """Short texts first would promise an early end."""
    clock, tally = run_units(5, 10)
    before = tally.counts().seconds_left
    clock.now += 40
    tally.add(unit(tokens=4 * TOKENS, rows=ROWS // 4))  # as many tokens a second, a sixteenth of the rows
    after = tally.counts()
    assert after.tokens_per_s == pytest.approx(TOKENS / 10)
    assert before is not None
    assert after.seconds_left is not None
    assert after.seconds_left > before - 40, "there are more tokens in a byte than was thought"


def test_a_replica_that_joins_is_followed_within_minutes() -> None:
    clock, tally = run_units(20, 10)
    for _ in range(80):
        clock.now += 5
        tally.add(unit())
    assert tally.counts().tokens_per_s == pytest.approx(TOKENS / 5, rel=0.1)


def test_starting_up_is_not_counted_as_slow_encoding() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.add(plan())
    assert tally.counts().seconds_left is None, "nothing to tell it from"
    clock.now += 300  # processes start, models load
    tally.add(unit(encode_s=10))
    assert tally.counts().seconds_left == pytest.approx(990)


def test_a_job_that_hangs_shows_a_sinking_rate_and_never_a_negative_time() -> None:
    clock, tally = run_units(5, 10)
    clock.now += 10_000
    counts = tally.counts()
    assert counts.tokens_per_s == pytest.approx(PATIENCE * 5 * TOKENS / 10_000, rel=0.2)
    assert counts.seconds_left is not None
    assert counts.seconds_left > 10_000


def test_waiting_for_a_larger_unit_does_not_make_the_time_left_grow() -> None:
    """Early on there is one unit to tell from, and the next may be twice as large."""
    clock, tally = run_units(1, 10)
    left = tally.counts().seconds_left
    for _ in range(20):
        clock.now += 1
        now = tally.counts().seconds_left
        assert now is not None
        assert left is not None
        assert now <= left
        left = now


def test_planning_again_starts_the_share_anew_and_keeps_the_counters() -> None:
    _, tally = run_units(50, 10)
    assert tally.counts().share_done == pytest.approx(0.5)
    tally.add(plan(segments=50))
    counts = tally.counts()
    assert (counts.rows, counts.share_done) == (50 * ROWS, 0.0)
    assert counts.seconds_left == pytest.approx(500)
    tally.add(plan(segments=0))
    assert (tally.counts().phase, tally.counts().share_done) == ("publishing", 1.0)


def test_a_plan_that_knows_its_tokens_needs_no_unit_for_its_size() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.add(plan(tokens=100 * TOKENS))
    tally.add(unit(tokens=0))
    assert tally.counts().seconds_left is None
    clock.now += 10
    tally.add(unit())
    assert tally.counts().seconds_left is not None


def test_log_lines_come_while_units_finish_and_at_least_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Between two lines a hung job and a dead one look the same."""
    caplog.set_level(logging.INFO, "embedpipe.progress")
    clock = Clock()
    reporter = LineReporter(clock)
    reporter.tell()
    assert not caplog.messages
    reporter.emit(plan())
    clock.now += 10
    reporter.emit(unit())
    reporter.tell()
    reporter.tell()
    assert len(caplog.messages) == 2, "no news, no line"
    clock.now += SILENT_S
    reporter.tell()
    assert len(caplog.messages) == 3
    reporter.tell(final=True)
    assert len(caplog.messages) == 3


def test_the_log_tells_what_the_run_tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "embedpipe.progress")
    with LineReporter(Clock()) as reporter:
        for event in EVENTS:
            reporter.emit(event)
    assert caplog.messages == [
        "plan: 12 files, 2 of them published already; 100 pieces to read (20.0 MB); units: 3 published, 1 committed",
        "s3://b/bad.jsonl: could not be finished: line 3 is no JSON",
        "planning again: a worker died",
        "published version 7: 1,000,000 rows in 3 files, 500.0 MB",
        "incomplete: 1%, 1,000 rows (0/s), 50,000 tokens (0/s), 1 unit, padding 20%, folded 10, quarantined 3, failed units 1",
    ]


def test_events_are_json_lines_appended_run_after_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    odd = Note("odd: \ud800 \u2028 ü")  # a text of the input may come along with an error
    for _ in range(2):
        with JsonLinesReporter(path) as reporter:
            for event in [*EVENTS, odd]:
                reporter.emit(event)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["event"] for line in lines] == 2 * [
        "PlanReady", "UnitDone", "UnitFailed", "Note", "Published", "RunEnded", "Note",
    ]  # fmt: skip
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert lines[1]["rows_out"] == ROWS
    assert lines[6]["text"] == odd.text


SECRET = 'planted "secret" \\ ü'
"""Spelt otherwise in JSON."""


def test_neither_events_nor_the_live_view_repeat_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason is what somebody else said: a store may repeat the key it was given."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    failed = UnitFailed("v", f"https://me:{SECRET[:7]}@host/bad.jsonl", f"403: the key {SECRET} is not known")
    tally = Tally(Clock())
    with JsonLinesReporter(tmp_path / "events") as reporter:
        for event in (failed, Note(f"planning again: {SECRET}")):
            reporter.emit(event)
            tally.add(event)
    console = Console(file=io.StringIO(), width=100)
    console.print(draw(tally.counts()))
    assert isinstance(console.file, io.StringIO)
    lines = [json.loads(line) for line in (tmp_path / "events").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["uri"] == "https://***@host/bad.jsonl"
    assert lines[0]["reason"] == "403: the key *** is not known"
    assert lines[1]["text"] == "planning again: ***"
    assert "planning again: ***" in console.file.getvalue()


def test_a_place_where_events_cant_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"execution\.events"), JsonLinesReporter(tmp_path / "file" / "events"):
        pass


def test_a_full_disk_costs_the_events_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with JsonLinesReporter(Path("/dev/full")) as reporter:
        for event in EVENTS:
            reporter.emit(event)
    assert [message for message in caplog.messages if "no more events" in message] == [
        "/dev/full: no more events are written: No space left on device"
    ]


def test_a_tee_opens_feeds_and_closes_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "embedpipe.progress")
    path = tmp_path / "events"
    with Tee([LineReporter(Clock()), JsonLinesReporter(path)]) as tee:
        tee.emit(Note("both"))
    assert caplog.messages == ["both"]
    assert '"both"' in path.read_text()


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("events", [[], EVENTS[:1], EVENTS[:2], EVENTS, [plan(0)]], ids=len)
def test_the_live_view_fits_its_terminal(width: int, events: list[Event]) -> None:
    """A panel wider than the terminal is redrawn over and over, line below line."""
    clock = Clock()
    tally = Tally(clock)
    for event in events:
        clock.now += 10
        tally.add(event)
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    lines = console.render_lines(draw(tally.counts()), pad=False)
    assert 1 <= len(lines) <= (8 if width == 60 else 5)
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


def test_the_live_view_leaves_the_terminal_as_it_was() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with pytest.raises(RuntimeError, match="away"), LiveReporter(console) as reporter:  # noqa: PT012
        for event in EVENTS:
            reporter.emit(event)
        raise RuntimeError("away")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("\x1b[?25h") == 1, "the cursor is back"


def counts(**changes: object) -> Counts:
    _, tally = run_units(1, 10)
    found = tally.counts()
    return Counts(**({name: getattr(found, name) for name in Counts.__slots__} | changes))  # type: ignore[arg-type]


def test_numbers_read_as_people_write_them() -> None:
    assert [count_text(n, "row") for n in (0, 1, 1234)] == ["0 rows", "1 row", "1,234 rows"]
    assert [size_text(n) for n in (0, 999, 1000, 999_949, 999_960, 1.5e9, 2e15)] == [
        "0 B", "999 B", "1.0 KB", "999.9 KB", "1.0 MB", "1.5 GB", "2,000.0 TB",
    ]  # fmt: skip
    assert [duration_text(n) for n in (0.04, 9.94, 42, 59.6, 185, 7800)] == [
        "0.0 s", "9.9 s", "42 s", "1 min 00 s", "3 min 05 s", "2 h 10 min",
    ]  # fmt: skip
    assert "12 files, 2 of them published already; 1 piece to read" in plan_text(plan(1))
    assert counts_text(counts(seconds_left=61.0)).endswith(", 1 min 01 s left")
    assert "left" not in counts_text(counts(seconds_left=0.0))
