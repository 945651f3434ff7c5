"""The serial engine around its model: loading it, and not loading it."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import make_config, write_jsonl

from pipeline.commit.keys import ATTEMPT
from pipeline.errors import IncompleteError
from pipeline.flow import serial
from pipeline.flow.serial import SerialEngine
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, PlanReady
from pipeline.storage.open import open_store


def test_loading_a_model_that_hangs_over_a_text_of_the_gates_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else looks after it, and no unit is begun yet: such a job was found in the morning, without a word."""
    ended = threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        ended.set()

    def hang(*_: object) -> Any:
        assert ended.wait(60)
        return SimpleNamespace(context=SimpleNamespace(spec_id="s"))

    monkeypatch.setattr(serial, "LOADING_S", 0.2)
    monkeypatch.setattr(serial, "Encoding", hang)
    monkeypatch.setattr(serial, "Reading", lambda *_: None)
    monkeypatch.setattr(serial, "Staging", lambda *_: None)
    monkeypatch.setattr(serial.os, "_exit", leave)
    engine = SerialEngine(1, 0.2)
    context: Any = SimpleNamespace(spec_id="s")
    assert list(engine.encode(context, [], threading.Event())) == []
    engine.close()
    assert codes[0] == 4


def test_a_run_that_is_told_to_stop_loads_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading and measuring take longer than many a scheduler waits before it kills."""
    monkeypatch.setattr(serial, "Encoding", lambda *_: pytest.fail("it was loaded"))
    stop = threading.Event()
    stop.set()
    engine = SerialEngine(1, 60.0)
    context: Any = SimpleNamespace(spec_id="s")
    assert list(engine.encode(context, [], stop)) == []
    engine.close()


class StopsWhenPlanned:
    """Has the run told to stop as soon as there is a plan."""

    def emit(self, event: Event) -> None:
        if isinstance(event, PlanReady):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_told_to_stop_while_it_plans_begins_nothing(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that is begun and killed counts against the job's own texts."""
    monkeypatch.setattr(serial, "Encoding", lambda *_: pytest.fail("it was loaded"))
    write_jsonl(tmp_path / "in.jsonl", range(5))
    out = str(tmp_path / "out")
    with pytest.raises(IncompleteError, match="stopped on request; 0 units"):
        run_job(make_config(tmp_path / "in.jsonl", out, tiny_model), reporter=StopsWhenPlanned())
    assert list(open_store(out).list(ATTEMPT)) == []
