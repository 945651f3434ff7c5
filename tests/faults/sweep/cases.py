"""The cases of a sweep: each operation of each run × each kind of fault, and what one case is made of.

The list of cases is the same whenever and wherever it is made: a run's operations follow from its seed (see `Forks`), and in its
first turn a case has the seed of the run that the list was made from.

`first`: the first run is faulty; then the same run. `changed`: so is it, and the source changes before the run after.
`second`: the run after the source has changed is faulty. `gc`: collection is, of what a killed second run left.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.sweep.check import Findings, check, check_moment
from faults.sweep.forks import Ended, Forks
from faults.sweep.job import EDITIONS, Source, expected, run_command, write_config
from faults.sweep.kinds import KINDS, Fault
from faults.sweep.places import Place, open_place

log = logging.getLogger(__name__)

SCENARIOS = ("first", "changed", "second", "gc")
SWEPT = "swept"
"""The output of the case that is under way."""


SEEDS = {"first": "published", "changed": "published", "second": "again", "gc": "tidied"}
"""Of the runs without a fault whose operations are swept."""


@dataclass(frozen=True)
class Case:
    """One point of the sweep."""

    place: str
    scenario: str
    at: int
    method: str  # of the operation that has this number in a run without faults
    key: str
    kind: str


class Sweep:
    """Everything that the cases of a place have in common."""

    def __init__(self, name: str, place: Place, forks: Forks, source: Source, config: Path, model: str) -> None:
        self.name = name
        self.place = place
        self.forks = forks
        self._source = source
        self._config = config
        self._model = model
        self.operations: dict[str, tuple[tuple[str, str], ...]] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Go through everything without a fault: the snapshots that cases begin from, and the operations there are."""
        self.operations["first"] = self._clean("published", [self._run("published")], 1)
        self.place.copy("published", "again")
        self._source.show(2)
        self.operations["second"] = self._clean("again", [self._run("again")], 2)
        self.operations["changed"] = self.operations["first"]
        self.place.copy("published", "left")
        # Killed when all is staged and assembled and nothing published leaves the most to collect.
        publishing = [method == "put_new" and "/log/" in key for method, key in self.operations["second"]].index(True)
        assert self.forks.run([self._run("left")], SEEDS["second"], Fault("die before", publishing)).died
        self.place.copy("left", "tidied")
        self.operations["gc"] = self.forks.run([self._gc("tidied")], SEEDS["gc"]).operations
        for name in ("again", "tidied"):
            self.place.remove(name)

    def _clean(self, name: str, commands: list[list[str]], edition: int) -> tuple[tuple[str, str], ...]:
        ended = self.forks.run(commands, name)
        assert ended.codes == (0,), ended
        findings = check(self.place.root(name), self._model, expected(edition), collected=True, settled=True)
        assert not findings.wrong, findings
        return ended.operations

    def cases(self) -> list[Case]:
        """All of them, in an order that jumps about."""
        found = [
            Case(self.name, scenario, at, method, key, kind)
            for scenario in SCENARIOS
            for at, (method, key) in enumerate(self.operations[scenario])
            for kind, how in KINDS.items()
            if method in how.methods and self.name in how.places and (method != "tidy" or self.name == "local")
        ]
        random.Random(self.name).shuffle(found)
        return found

    def go(self, case: Case, turn: int) -> Counter[str]:
        """Do one case: in the first turn (0) exactly what the list says. Later turns vary what is left to chance, the order of
        work and how late is late, and the run after the faulty one is faulty too."""
        seed = f"{case} {turn}"
        faults = [Fault(case.kind, case.at, random.Random(seed).choice((0, 3, 10, 30, 100)))]
        faults += [self._another(seed)] if turn else []
        edition = 1 if case.scenario == "first" else 2
        self._begin(case)
        runs, wrong = [], []
        for number, fault in enumerate(faults):
            command = self._gc(SWEPT) if (case.scenario, number) == ("gc", 0) else self._run(SWEPT)
            by_chance = SEEDS[case.scenario] if turn == 0 else f"{seed} faulty {number}"
            runs.append(self.forks.run([command], by_chance, fault))
            wrong += check_moment(self.place.root(SWEPT), self._model, map(expected, EDITIONS))
            self._source.show(edition)
        runs.append(self.forks.run([self._run(SWEPT)], f"{seed} again"))
        settled = all(not KINDS[fault.kind].late for fault in faults)
        before = self._check(edition, collected=False, settled=settled)
        runs.append(self.forks.run([self._gc(SWEPT)], f"{seed} gc"))
        after = self._check(edition, collected=True, settled=True)
        self.place.remove(SWEPT)
        wrong += before.wrong + after.wrong + _wrong_ends(runs)
        if wrong:
            log.error("%s, turn %s, %s at %s: %s", case, turn, faults, [run.fired for run in runs], "\n".join(wrong))
        return _counts(case, turn, runs, before, after, wrong)

    def _begin(self, case: Case) -> None:
        """Output and source as they are when the faulty run begins."""
        self.forks.forget()
        if case.scenario in ("second", "gc"):
            self.place.copy("published" if case.scenario == "second" else "left", SWEPT)
        self._source.show(1 if case.scenario in ("first", "changed") else 2)

    def _check(self, edition: int, *, collected: bool, settled: bool) -> Findings:
        return check(self.place.root(SWEPT), self._model, expected(edition), collected=collected, settled=settled)

    def _another(self, seed: str) -> Fault:
        """A fault for the run after."""
        draw = random.Random(f"{seed} another")
        kind = draw.choice([kind for kind, how in KINDS.items() if self.name in how.places])
        return Fault(kind, draw.randrange(len(self.operations["first"])), draw.randrange(30))

    def _run(self, output: str) -> list[str]:
        return run_command(self._config, self.place.root(output))

    def _gc(self, output: str) -> list[str]:
        return ["gc", self.place.root(output)]


def _wrong_ends(runs: Sequence[Ended]) -> list[str]:
    """Runs that ended as none may: the last two are clean, those before may die by their fault or be incomplete."""
    *faulty, again, gc = runs
    wrong = [run for run in faulty if run.lost or not (run.died or set(run.codes) <= {0, 4})]
    wrong += [run for run in (again, gc) if run.codes != (0,)]
    return [f"a run ended with {run.lost or run.codes}:\n{run.told}" for run in wrong]


def _done(case: Case, turn: int, faulty: Ended) -> dict[str, int]:
    """As what a case counts. A point is one of the list, and its fault has happened to the very operation that the list names."""
    if turn:
        return {"double_faults": int(faulty.fired is not None), "double_faults_unfired": int(faulty.fired is None)}
    struck = faulty.fired == (case.method, case.key) and faulty.died == case.kind.startswith("die")
    return {"points": int(struck), f"points.{case.kind}": int(struck), "unfired": int(not struck)}


def _counts(
    case: Case, turn: int, runs: Sequence[Ended], before: Findings, after: Findings, wrong: list[str]
) -> Counter[str]:
    return Counter(
        {
            **_done(case, turn, runs[0]),
            "reruns": len(runs) - 2,
            "rows": after.rows,
            "lost": max(before.lost, after.lost),
            "duplicated": max(before.duplicated, after.duplicated),
            "mispaired": max(before.mispaired, after.mispaired),
            "leftovers": after.leftovers,
            "tracebacks": sum("Traceback" in run.told or 1 in run.codes for run in runs),
            "violations": int(bool(wrong)),
        }
    )


@contextmanager
def open_sweep(name: str, folder: Path, model: str) -> Iterator[Sweep]:
    """A place ready to be swept."""
    with ExitStack() as stack:
        place = stack.enter_context(open_place(name, folder / "outputs"))
        source = Source(folder / "source")
        config = folder / "job.yaml"
        write_config(config, source, model)
        forks = stack.enter_context(Forks(folder / "forks", folder, source.files(), place.settings))
        yield Sweep(name, place, forks, source, config, model)
