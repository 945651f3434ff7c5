"""Those who judge a round see what they are there for; no cluster is needed for that."""

import json
import os
import random
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import oracle
from faults.chaos import watch as watching
from faults.chaos.round import REFUSED, Clusters, Round
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


def test_a_reader_sees_that_a_version_holds_an_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """A snapshot that was overtaken and comes back is whole, and the rows of the one before it are lost."""
    states = [State(number, {"a": f"text {number}"}, {"a": {}}) for number in range(2)]
    held = {1: 0, 2: 1, 3: 1, 4: 0}  # version → state
    monkeypatch.setattr(watching, "data_files", lambda *_: set())
    monkeypatch.setattr(oracle, "rows", lambda _, entry: [entry["version"]])
    monkeypatch.setattr(
        oracle,
        "judge",
        lambda rows, texts, *_: oracle.Verdict(1, lost=[] if texts is states[held[rows[0]]].texts else ["a"]),
    )
    watch = Watch(str(tmp_path), lambda: states, tiny_model)
    watch.counts["polls"] = 1  # not the turn of `open_snapshot`
    (tmp_path / "_embedpipe" / "log").mkdir(parents=True)
    seen = []
    for version in held:
        entry = {"version": version, "manifest": {"key": "manifest"}}
        (tmp_path / "_embedpipe" / "log" / f"{version:020}.json").write_text(json.dumps(entry))
        seen.append(watch.look())
    assert seen == ["", "", "", "version 4 with the rows of state 0, after those of state 1"]


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
