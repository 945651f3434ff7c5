"""Ids that are there twice: counted before a snapshot is published, and refused where that is asked for, whenever it is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import make_config

from pipeline.commit.snapshot import read_head
from pipeline.config.schema import Config
from pipeline.errors import InputError
from pipeline.flow import duplicate_ids, publishing
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, RunEnded
from pipeline.sink import duplicates
from pipeline.storage.open import open_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four rows, two of them of one id, in two files."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n')
    (tmp_path / "in/b.jsonl").write_text('{"id": 2, "text": "c"}\n{"id": 3, "text": "d"}\n')
    return tmp_path / "in"


def config_of(source: Path, model: str, rule: str) -> Config:
    return make_config(source, str(source.parent / "out"), model, rows__duplicate_id=rule)


def version(source: Path) -> int:
    head = read_head(open_store(str(source.parent / "out")))
    return head.entry.version if head else 0


def test_duplicates_are_refused_before_anything_is_published(source: Path, tiny_model: str) -> None:
    with pytest.raises(InputError, match=r"1 rows have an id in 'id' that another row has"):
        run_job(config_of(source, tiny_model, "refuse"))
    assert version(source) == 0


@pytest.mark.parametrize("counted", [True, False])
def test_what_was_published_with_duplicates_is_refused_as_soon_as_they_are(
    source: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """There is nothing new to publish, so nobody looked. Snapshots of before say nothing of duplicates: they are counted."""
    if not counted:
        facts = publishing._facts
        monkeypatch.setattr(publishing, "_facts", lambda job, _found: facts(job, None))
    assert run_job(config_of(source, tiny_model, "keep")).duplicate_ids == 1
    if counted:
        monkeypatch.setattr(duplicate_ids, "count_duplicates", None)  # the snapshot knows
    assert run_job(config_of(source, tiny_model, "keep")).exit_code == 0
    with pytest.raises(InputError, match=r"rows\.duplicate_id is refuse"):
        run_job(config_of(source, tiny_model, "refuse"))
    assert version(source) == 1


def test_what_was_published_without_duplicates_passes_without_being_counted_again(
    source: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "b.jsonl").unlink()
    assert run_job(config_of(source, tiny_model, "refuse")).duplicate_ids == 0
    monkeypatch.setattr(duplicate_ids, "count_duplicates", None)
    assert run_job(config_of(source, tiny_model, "refuse")).duplicate_ids == 0


def test_of_more_rows_than_memory_holds_they_are_refused_all_the_same(
    source: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were published without a word."""
    for module in (duplicate_ids, duplicates):
        monkeypatch.setattr(module, "MAX_ROWS", 1)
    with pytest.raises(InputError, match="1 rows have an id"):
        run_job(config_of(source, tiny_model, "refuse"))
    assert version(source) == 0


def test_of_more_rows_than_memory_holds_a_summary_says_that_nobody_has_counted(
    source: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_ids, "MAX_ROWS", 1)
    summary = run_job(config_of(source, tiny_model, "keep"))
    assert summary.duplicate_ids is None
    assert "duplicate ids were not counted" in "".join(summary.messages)
    assert run_job(config_of(source, tiny_model, "keep")).messages == ()  # and not at every look


def test_ids_that_this_program_names_are_counted_however_many_there_are(
    source: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In append mode a file of yesterday and one of today may have the same name below their roots."""
    for module in (duplicate_ids, duplicates):
        monkeypatch.setattr(module, "MAX_ROWS", 1)
    for day in ("1", "2"):
        (source / day).mkdir()
        (source / day / "x.jsonl").write_text('{"text": "a"}\n')
    changes: dict[str, Any] = {"input__id": None, "output__mode": "append"}
    out = str(source.parent / "out")
    assert run_job(make_config(source / "1", out, tiny_model, **changes)).rows == 1
    with pytest.raises(InputError, match="1 rows would have the id of a row of another file"):
        run_job(make_config(source / "2", out, tiny_model, **changes))


def test_a_run_that_is_refused_ends_for_those_who_follow_its_events(source: Path, tiny_model: str) -> None:
    """A dashboard that is fed with them showed it as running for ever."""
    events: list[Event] = []
    reporter: Any = SimpleNamespace(emit=events.append)
    with pytest.raises(InputError):
        run_job(config_of(source, tiny_model, "refuse"), reporter=reporter)
    assert events[-1] == RunEnded(state="failed", exit_code=InputError.exit_code)


@pytest.mark.parametrize(("share", "passes"), [(0.29, True), (0.28, False)])
def test_exactly_the_share_of_rows_that_may_be_rejected_may_be(
    tmp_path: Path, tiny_model: str, share: float, passes: bool
) -> None:
    """0.29 · 100 is less than 29 where numbers are binary."""
    (tmp_path / "in").mkdir()
    rows = [f'{{"id": {n}, "text": {"null" if n < 29 else chr(34) + "a" + chr(34)}}}\n' for n in range(100)]
    (tmp_path / "in/a.jsonl").write_text("".join(rows))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=share)
    if passes:
        assert run_job(config).rows_quarantined == 29
    else:
        with pytest.raises(Exception, match=r"29 of 100 rows \(29.0%\)"):
            run_job(config)
