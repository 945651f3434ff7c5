"""The last event of a run that comes to no summary."""

from pathlib import Path

import pytest
from support.jobs import make_config

from pipeline.errors import CommitError, ConfigError, IncompleteError, QuarantineError
from pipeline.flow import supervisor
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, RunEnded


class Kept:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.parametrize(
    ("raised", "code", "leaves"),
    [
        (ConfigError("a"), 2, ConfigError),
        (QuarantineError("a"), 5, QuarantineError),
        (CommitError("a"), 1, CommitError),
        (KeyboardInterrupt(), 4, KeyboardInterrupt),
        (ZeroDivisionError("a"), 1, ZeroDivisionError),
        (RuntimeError("can't start new thread"), 4, IncompleteError),
        (RuntimeError("another"), 1, RuntimeError),
    ],
    ids=repr,
)
def test_the_end_is_told_whatever_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, leaves: type[BaseException]
) -> None:
    """Who follows the events would wait for ever, and takes the exit code from there."""

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(supervisor, "resolve", fail)
    kept = Kept()
    with pytest.raises(leaves):
        run_job(make_config(tmp_path / "in", str(tmp_path / "out"), "./m"), reporter=kept)
    assert kept.events == [RunEnded("failed", code)]
