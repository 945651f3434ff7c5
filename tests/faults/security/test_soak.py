"""What the soak counts: each case once, and nothing that nobody looked for."""

import pytest
from faults.security import soak
from faults.security.case import Case


@pytest.fixture(autouse=True)
def two_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of two cases, the second of which succeeds, and searches that find one secret each."""

    def succeed(_: object) -> None:
        raise AssertionError("it was taken")

    def search(_model: str, engine: str, _turn: int, counts: dict[str, int]) -> None:
        counts[f"searches.{engine}"] += 1
        counts["secrets_found"] += 1

    monkeypatch.setattr(soak, "ALL", [Case("harmless", lambda _: None), Case("successful", succeed)])
    monkeypatch.setattr(soak, "PASS", 4)
    monkeypatch.setattr(soak, "_search", search)
    monkeypatch.setattr(soak, "save_tiny_bert", lambda *_: "model")


def test_a_pass_is_all_cases_and_a_search_with_each_engine() -> None:
    """One number each, as there's no time for more."""
    chunks = [soak.soak(number, 0.0) for number in range(4)]
    assert [chunk.next for chunk in chunks] == [1, 2, 3, 4]
    attacked = {"security_cases": 1, "canaries_fired": 0}
    assert [dict(chunk.counts) for chunk in chunks] == [
        {"all_security_cases": 2, **attacked, "security_violations": 0},
        {**attacked, "security_violations": 1},
        {"searches.serial": 1, "secrets_found": 1},
        {"searches.ray": 1, "secrets_found": 1},
    ]


def test_a_case_that_is_made_again_is_no_other_case() -> None:
    assert dict(soak.soak(4, 0.0).counts) == {"repeated_cases": 1, "security_violations": 0, "canaries_fired": 0}
