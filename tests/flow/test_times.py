"""Where the time of a run went: kept with each unit, added up for the summary, for `status` and with the snapshot."""

import json
from pathlib import Path

import pytest
from support.jobs import make_config
from support.models import SENTENCES
from support.times import check_times

import pipeline
from pipeline.cli.render import render_summary
from pipeline.commit.records import NO_TIME, Times
from pipeline.flow.summary import Summary


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lines = (json.dumps({"id": str(n), "text": SENTENCES[n % 4] * 9 + str(n)}) + "\n" for n in range(400))
    (tmp_path / "in.jsonl").write_text("".join(lines))
    return tmp_path / "in.jsonl"


def test_a_run_says_what_its_encoders_did(tmp_path: Path, source: Path, tiny_model: str) -> None:
    """On Ray they are held to the same in test_ray."""
    summary = pipeline.run(make_config(source, str(tmp_path / "out"), tiny_model, units__rows=100))
    check_times(summary, str(tmp_path / "out"))


def test_times_add_up_step_by_step() -> None:
    one = Times(read=1, tokenise=2, wait=30, transfer=4, encode=70, stage=6)
    assert one + one == Times(2, 4, 60, 8, 140, 12)
    assert sum([one, one], NO_TIME) == one + one
    assert one.busy_share == 0.7
    assert NO_TIME.busy_share is None


def test_a_run_that_encoded_nothing_says_nothing_of_encoders() -> None:
    summary = Summary("done", 0, "/out", 1, False, 1, 1, 0, 1, 0, 0)
    assert summary.to_json()["busy_share"] is None
    assert "busy" not in render_summary(summary).plain
