"""What a run tells of its encoders' time."""

import pytest

from pipeline.cli.render import render_status, render_summary
from pipeline.commit.records import Times
from pipeline.flow.status import read_status
from pipeline.flow.summary import Summary


def check_times(summary: Summary, output: str) -> None:
    """The summary of a run with one encoder that began with an empty output, and what `status` says of that."""
    times = summary.times
    assert times.encode > 0
    assert times.wait >= times.transfer >= 0
    assert times.encode + times.wait <= summary.seconds * 1000
    assert times.read + times.tokenise + times.stage > 0
    share = times.encode / (times.encode + times.wait)
    assert summary.to_json()["busy_share"] == times.busy_share == pytest.approx(share, abs=1e-4)
    assert f"{times.busy_share:.1%} busy" in render_summary(summary).plain
    status = read_status(output)
    assert status.published is not None
    assert Times(**status.published.facts["times"]) == times
    assert "% busy" in render_status(status).plain
