"""One fault at each operation of a small job, then the job again: a sample of all the points that `make soak` goes through."""

import itertools
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults.sweep.cases import SCENARIOS, Case, Sweep, open_sweep
from faults.sweep.check import check
from faults.sweep.job import expected
from faults.sweep.kinds import KINDS, OPERATIONS
from faults.sweep.mutants import MUTANTS
from faults.sweep.soak import ZERO, digest, go, numbered

POINTS = {"local": 30, "s3": 10}
"""Of all scenarios. A point takes longer on S3, most of it in the server."""

pytestmark = pytest.mark.timeout(600)  # for a machine that has other things to do


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Iterator[Sweep]:
    """A local folder ready to be swept."""
    with open_sweep("local", tmp_path_factory.mktemp("sweep"), tiny_model) as sweep:
        yield sweep


def sample(cases: Iterable[Case], count: int) -> list[Case]:
    """Each kind of fault, then each kind in each scenario, then each at each kind of operation; anywhere in the runs."""
    left = list(cases)
    random.Random(f"sample of {len(left)}").shuffle(left)
    taken: dict[Case, None] = {}
    for traits in (
        lambda case: case.kind,
        lambda case: (case.kind, case.scenario),
        lambda case: (case.kind, case.method),
    ):
        first = {traits(case): case for case in reversed(left)}
        taken.update(dict.fromkeys(sorted(first.values(), key=left.index)))
    return list(itertools.islice(taken, count))


def sweep_sample(sweep: Sweep) -> Counter[str]:
    """Counts of this run's share of the points."""
    counts: Counter[str] = Counter()
    for case in sample(sweep.cases(), POINTS[sweep.name]):
        counts.update(sweep.go(case, 0))
    return counts


def found_nothing(counts: Counter[str], place: str) -> bool:
    """Whether all that must be 0 is, and every kind of fault was there."""
    kinds = [kind for kind, how in KINDS.items() if place in how.places]
    return not any(counts[name] for name in ZERO) and all(counts[f"points.{kind}"] for kind in kinds)


def test_a_fault_at_any_operation_loses_and_doubles_nothing_on_a_local_disk(local: Sweep) -> None:
    assert {case.scenario for case in sample(local.cases(), POINTS["local"])} == set(SCENARIOS)
    counts = sweep_sample(local)
    assert found_nothing(counts, "local"), counts


def test_a_fault_at_any_operation_loses_and_doubles_nothing_on_s3(tmp_path: Path, tiny_model: str) -> None:
    with open_sweep("s3", tmp_path, tiny_model) as sweep:
        counts = sweep_sample(sweep)
    assert found_nothing(counts, "s3"), counts


def test_every_kind_of_operation_of_a_store_is_swept_in_every_scenario(local: Sweep) -> None:
    cases = local.cases()
    assert {case.method for case in cases} == OPERATIONS
    for scenario in SCENARIOS:
        numbers = {case.at for case in cases if case.scenario == scenario}
        assert numbers == set(range(len(local.operations[scenario])))


@pytest.mark.parametrize(
    ("mutant", "scenario", "kind", "key"),
    [
        ("errors count as stored", "first", "no answer once", "_embedpipe/part/"),
        ("half-written files stay", "first", "die within", "_embedpipe/part/"),
        ("the mark is never taken away", "second", "die after", "_embedpipe/log/"),
        ("kept columns are shifted", "first", "lost reply", "_embedpipe/part/"),
    ],
)
def test_the_sweep_notices_a_broken_program(local: Sweep, mutant: str, scenario: str, kind: str, key: str) -> None:
    case = next(
        case
        for case in sorted(local.cases(), key=lambda case: case.at)
        if (case.scenario, case.kind, case.method) == (scenario, kind, "put_new")
        and local.operations[scenario][case.at][1].startswith(key)
    )
    assert not local.go(case, 0)["violations"]
    local.forks.mutant = mutant
    try:
        assert local.go(case, 0)["violations"]
    finally:
        local.forks.mutant = ""


def test_each_way_to_break_the_program_is_tried() -> None:
    tried = test_the_sweep_notices_a_broken_program.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {mutant for mutant, *_ in tried} == set(MUTANTS)


@pytest.mark.parametrize(
    "key",
    [
        "data/lang=en/0-stray.parquet",
        "_embedpipe/part/aa/stray.parquet",
        "_embedpipe/attempt/aa/stray.json",
        "_embedpipe/assembly/0-stray/0.json",
        "_embedpipe/manifest/1-stray.parquet",
        "_embedpipe/probe/stray/race",
        "_embedpipe/tmp/stray",
        "_embedpipe/quarantine/aa/" + "-".join(["a" * 32, "0", "b" * 32]) + ".parquet",
    ],
)
def test_what_nobody_refers_to_is_seen(local: Sweep, tiny_model: str, key: str) -> None:
    local.place.copy("published", "strayed")
    stray = Path(local.place.root("strayed"), key)
    stray.parent.mkdir(parents=True, exist_ok=True)
    (Path(local.place.root("strayed")) / "_SUCCESS").unlink()
    stray.write_bytes(b"")
    found = check(local.place.root("strayed"), tiny_model, expected(1), collected=True, settled=False)
    local.place.remove("strayed")
    assert found.wrong == [f"left: {key}"]


def test_the_soak_goes_on_where_it_stopped_and_then_takes_two_faults_at_once(local: Sweep) -> None:
    cases = len(local.cases())
    chunk = go({"local": local}, 0, until=0.0)
    assert (chunk.next, chunk.counts["points"], chunk.counts["violations"]) == (1, 1, 0)
    assert chunk.counts[f"cases.{digest(numbered({'local': local}))}"] == 1
    second_turn = go({"local": local}, cases, until=0.0)
    assert (second_turn.next, second_turn.counts["violations"]) == (cases + 1, 0)
    assert (second_turn.counts["points"], second_turn.counts["double_faults"]) == (0, 1)


def test_a_number_stands_for_the_same_case_wherever_the_sweep_is_prepared(
    local: Sweep, tmp_path: Path, tiny_model: str
) -> None:
    """Chunks of the soak each prepare anew, and go on by number: else some cases would be done twice and others never."""
    model = tmp_path / "another" / "place"
    shutil.copytree(tiny_model, model)
    with open_sweep("local", tmp_path / "sweep", str(model)) as again:
        assert numbered({"local": again}) == numbered({"local": local})


def test_another_list_of_cases_has_another_digest(local: Sweep) -> None:
    cases = numbered({"local": local})
    assert len({(case.scenario, case.at, case.kind) for case in cases}) == len(cases)
    assert digest(cases) == digest([replace(case, key=re.sub("[0-9a-f]{32}", "0" * 32, case.key)) for case in cases])
    assert len({digest(cases), digest(cases[1:]), digest([*cases[1:], cases[0]])}) == 3


@pytest.mark.parametrize("change", [{"at": 10_000}, {"key": "another key"}])
def test_a_fault_that_does_not_happen_where_it_should_makes_no_point(local: Sweep, change: dict[str, Any]) -> None:
    case = next(case for case in local.cases() if (case.kind, case.scenario) == ("no answer once", "gc"))
    counts = local.go(replace(case, **change), 0)
    assert (counts["points"], counts["points.no answer once"], counts["unfired"], counts["violations"]) == (0, 0, 1, 0)
