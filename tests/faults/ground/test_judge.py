"""Who counts the cases sees what they are there for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from faults import oracle
from faults.ground import soak
from faults.ground.running import Outcome
from faults.ground.scenarios import Proof

DONE = Outcome(0)


def proof(first: Outcome, *, struck: bool = True) -> Proof:
    """A case of which all is right but, perhaps, how its first run ended."""
    return Proof(first, DONE, oracle.Verdict(1), (), struck, may_end=(4,))


def test_a_run_must_end_with_a_code_that_tells_what_happened() -> None:
    """A wrong config (2) or damage from outside (6) sends its reader the wrong way."""
    assert proof(DONE).right
    assert proof(Outcome(4)).right
    assert not any(proof(Outcome(code)).right for code in (1, 2, 3, 5, 6))
    assert not proof(Outcome(4), struck=False).right, "nothing has happened to it"


def count(monkeypatch: pytest.MonkeyPatch, played: Proof | Exception) -> Counter[str]:
    """What the soak counts for a case."""

    def play(*_: object) -> tuple[str, Proof]:
        if isinstance(played, Exception):
            raise played
        return "disk", played

    monkeypatch.setattr(soak, "play", play)
    counts: Counter[str] = Counter()
    soak._count(7, Path(), "model", counts)
    return +counts


def test_a_case_whose_moment_never_came_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(monkeypatch, proof(DONE)) == {"ground_cases": 1, "ground_cases.disk": 1}
    assert count(monkeypatch, proof(DONE, struck=False)) == {"unstruck": 1}


def test_what_is_wrong_is_counted_and_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert count(monkeypatch, proof(Outcome(6)))["wrong_exits"] == 1
    unreadable = Proof(DONE, DONE, oracle.Verdict(0, lost=["a"], unreadable="gone"), (), True, ())
    assert count(monkeypatch, unreadable)["unreadable"] == 1
    assert count(monkeypatch, AssertionError("a head that can't be read")) == {"violations": 1}
    assert count(monkeypatch, replace(proof(DONE), untold="another number format"))["violations"] == 1
    assert caplog.text.count("play(7, folder, model)") == 4
