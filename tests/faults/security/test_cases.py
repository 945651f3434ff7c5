"""Every attack ends in a refusal or in nothing; no canary dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.security.canary import Canary
from faults.security.case import Case, World
from faults.security.cases import ALL


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    with Canary(tmp_path_factory.mktemp("canary")) as bird:
        yield bird


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name.encode("ascii", "backslashreplace").decode()[:60])
def test_an_attack_comes_to_nothing(case: Case, tmp_path: Path, tiny_model: str, canary: Canary) -> None:
    assert case.violation(World(tmp_path, tiny_model, canary)) == ""


def test_there_are_enough_attacks_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in ALL}) == len(ALL) >= 150
