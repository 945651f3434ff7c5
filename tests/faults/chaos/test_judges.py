"""Those who judge a round see what they are there for; no cluster is needed for that."""

import json
import os
import random
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import oracle
from faults.chaos import watch as watching
from faults.chaos.round import OTHER_PROMPT, REFUSED, Clusters, Round
from faults.chaos.soak import _keep
from faults.chaos.strikes import PAIRS, draw
from faults.chaos.watch import Watch
from faults.chaos.world import State


@pytest.fixture
def round_(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Round:
    """One whose cluster is none."""
    none = SimpleNamespace(processes=lambda _: [], environment=dict(os.environ), alive=True)
    monkeypatch.setattr(Clusters, "get", lambda _: none)
    made = Round(Clusters(), tmp_path / "round", str(tmp_path / "out"), tiny_model, {})
    made.world.begin(2, 4)
    return made


def ended(code: int, *, killed: bool) -> Any:
    return SimpleNamespace(code=code, killed=killed, told="what it said", started=0.0)


@pytest.mark.parametrize(("code", "killed"), [(0, False), (4, False), (-signal.SIGKILL, True), (0, True)])
def test_a_run_may_end_as_done_as_incomplete_or_by_our_own_hand(round_: Round, code: int, killed: bool) -> None:
    assert round_._end(ended(code, killed=killed)) == code
    assert (round_.counts["wrong_exits"], round_.counts[f"exits.{code}"]) == (0, 1)


@pytest.mark.parametrize("code", [1, 2, 3, 5, 6, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT])
def test_any_other_end_of_a_run_is_counted_and_told(round_: Round, caplog: pytest.LogCaptureFixture, code: int) -> None:
    """Processes that die are no reason to find the config wrong or the output damaged, and nobody else may kill the driver."""
    round_._end(ended(code, killed=False))
    assert round_.counts["wrong_exits"] == 1
    assert "what it said" in caplog.text
    round_._end(ended(REFUSED, killed=False), REFUSED)
    assert round_.counts["wrong_exits"] == 1


def test_a_round_whose_output_can_not_be_read_counts_that(round_: Round, caplog: pytest.LogCaptureFixture) -> None:
    """If it were raised, all counts of the chunk would go with it."""
    round_.judge()
    assert (round_.counts["unreadable"], round_.counts["lost"]) == (1, round_.world.rows)
    assert round_.counts["wrong_exits"] == 1, "gc finds no output either"
    assert "nothing is published" in caplog.text


def test_what_a_wrong_round_leaves_is_kept(round_: Round, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be played again, and its folders go with the chunk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "a.parquet").write_bytes(b"rows")
    kept = _keep(round_, 7)
    assert (kept / "out" / "data" / "a.parquet").read_bytes() == b"rows"
    assert len(list((kept / "in").iterdir())) == 2


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of an output whose versions have no files."""
    monkeypatch.setattr(watching, "data_files", lambda *_: set())
    (tmp_path / "_embedpipe" / "log").mkdir(parents=True)
    return tmp_path / "_embedpipe" / "log"


def publish(log_folder: Path, version: int) -> None:
    entry = {"version": version, "manifest": {"key": "manifest"}}
    (log_folder / f"{version:020}.json").write_text(json.dumps(entry))


def reader(log_folder: Path, states: list[State], model: str) -> Watch:
    """One whose turn of `open_snapshot` it isn't."""
    watch = Watch(str(log_folder.parents[1]), lambda: states, model)
    watch.counts["polls"] = 1
    return watch


def lacks(rows: list[str], texts: Mapping[str, str], *_: object) -> oracle.Verdict:
    return oracle.Verdict(len(rows), lost=[row for row in texts if row not in rows])


def test_a_reader_sees_that_a_version_holds_an_older_state(
    log_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """A snapshot that was overtaken and comes back is whole, and the rows of the one before it are lost."""
    states = [State(number, {f"row {number}": "text"}, {}) for number in range(2)]
    held = {1: 0, 2: 1, 3: 1, 4: 0}  # version → state
    monkeypatch.setattr(oracle, "rows", lambda _, entry: [f"row {held[entry['version']]}"])
    monkeypatch.setattr(oracle, "judge", lacks)
    watch = reader(log_folder, states, tiny_model)
    seen = []
    for version in held:
        publish(log_folder, version)
        seen.append(watch.look())
    assert seen == ["", "", "", "version 4 with the rows of state 0, after those of state 1"]


def test_a_version_that_was_read_whole_and_is_wrong_counts_though_a_newer_one_came_meanwhile(
    log_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """Reading takes long, and versions come soon: what is never looked at again must not be excused."""
    states = [State(0, {"a": "x", "b": "y"}, {})]

    def rows(_: object, entry: Mapping[str, Any]) -> list[str]:
        publish(log_folder, 2)
        return ["a"] if entry["version"] == 1 else ["a", "b"]

    monkeypatch.setattr(oracle, "rows", rows)
    monkeypatch.setattr(oracle, "judge", lacks)
    publish(log_folder, 1)
    watch = reader(log_folder, states, tiny_model)
    assert watch.look() == "version 1 with 1 rows, which no state of the input has"
    assert watch.look() == ""


def test_a_reader_excuses_files_that_went_when_a_newer_version_came(
    log_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """And no hash that is wrong, which no publisher has ever made."""
    states, changed = [State(0, {"a": "x"}, {})], []

    def rows(_: object, entry: Mapping[str, Any]) -> list[str]:
        if entry["version"] % 2 == 1:
            publish(log_folder, entry["version"] + 1)
            raise AssertionError("another file") if changed else oracle.Overtaken("data/a.parquet")
        return ["a"]

    monkeypatch.setattr(oracle, "rows", rows)
    monkeypatch.setattr(oracle, "judge", lacks)
    watch = reader(log_folder, states, tiny_model)
    publish(log_folder, 1)
    assert watch.look() == ""
    assert list(watch._seen) == [2]
    changed.append(True)
    publish(log_folder, 3)
    with pytest.raises(AssertionError, match="another file"):
        watch.look()


def test_rows_of_another_spec_are_allowed_only_where_it_was_asked_for(
    round_: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that publishes the vectors of another spec would pass for a right one."""
    assert [state.texts for state in round_._states()] == [round_.world.states[0].texts]
    monkeypatch.setattr(Round, "start", lambda *_, **__: ended(0, killed=False))
    round_.compete()
    assert [next(iter(state.texts.values())).startswith(OTHER_PROMPT) for state in round_._states()] == [False, True]


CHAIN = """Traceback (most recent call last):
  File "queue.py", line 7, in get
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "queue.py", line 9, in get
ValueError: b
"""
RAYS = "2026-11-30 04:38:48,125\tERROR streaming_executor_state.py:747 -- An exception was raised from a task\n" + CHAIN


@pytest.mark.parametrize(
    ("told", "own", "of_ray"),
    [
        ("12:00:00 done: 100%\n", 0, 0),
        (f"12:00:00 plan: 6 files\n{RAYS}12:00:01 planning again: the Ray graph failed: a line\n", 0, 1),
        (f"12:00:00 error: a thread died\n  {CHAIN}", 1, 0),
        (f"Exception in thread watchdog:\n{CHAIN}", 1, 0),
        (f"{RAYS}{CHAIN}", 1, 1),
        (CHAIN, 1, 0),
    ],
    ids=["none", "of Ray", "in a record", "of a thread", "one after Ray's", "alone"],
)
def test_a_traceback_that_a_run_tells_of_is_counted_and_those_that_ray_logs_are_set_apart(
    round_: Round, told: str, own: int, of_ray: int
) -> None:
    round_._end(SimpleNamespace(**vars(ended(0, killed=False)) | {"told": told}))
    assert (round_.counts["tracebacks"], round_.counts["tracebacks_of_ray"]) == (own, of_ray)


def test_a_run_that_ends_as_a_bug_counts_as_one_with_a_traceback(round_: Round) -> None:
    """It shows it on request only."""
    round_._end(ended(1, killed=False))
    assert round_.counts["tracebacks"] == 1


def test_pairs_that_nobody_was_struck_in_come_first() -> None:
    """Left to chance, some pair of phase and victim would be missing after 500 kills."""
    missing = [("staging", "gcs"), ("planning", "board"), ("publishing", "driver")]
    faults = draw(random.Random(0), 12, missing)
    assert len(faults) == 12
    assert {(fault.phase, fault.struck) for fault in faults[:3]} == set(missing)
    assert all(fault.manner == "kill" for fault in faults[:3])


def test_every_fault_that_is_drawn_is_of_a_known_pair() -> None:
    faults = [fault for seed in range(300) for fault in draw(random.Random(seed), 16)]
    assert {(fault.phase, fault.struck) for fault in faults if fault.manner == "kill"} <= set(PAIRS)
