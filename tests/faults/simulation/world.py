"""Everything there is in one history, and where the program meets it."""

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from faults.simulation import binding
from faults.simulation.client import ROOT, SimulatedStore
from faults.simulation.commands import Command, spec_named
from faults.simulation.disk import Disk
from faults.simulation.engine import SimulatedEngine
from faults.simulation.judge import TruthJudge
from faults.simulation.misfortune import SORE, Faults
from faults.simulation.scheduler import Scheduler
from faults.simulation.scripts import SCRIPTS, TAKING
from faults.simulation.source import CONTENTS, NAMES, TEXT_BYTES, Source, number

from pipeline.errors import InputError, StorageError, TransientStorageError
from pipeline.flow.job import Job
from pipeline.source.records import Extraction, InputFile, UnitPolicy

EXTRACTION = Extraction(
    text="text", template=None, id=None, id_type="string", keep=(), csv_delimiter=",", max_text_bytes=100, reject=()
)
POLICY = UnitPolicy(2, TEXT_BYTES, 1 << 20)
LOCK = SimpleNamespace(name="m", revision=None, weights_hash="w", normalized=True)
RATES = (0.0, 0.003, 0.01, 0.02, 0.04)
STALE = (0.03, 0.1, 0.3)


class World:
    """Everything there is in one history. The program meets it through `binding.simulated`."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None) -> None:
        rng = self.rng = random.Random(seed)
        draw = rng.random
        self.trace = trace
        self.uuid = binding.seeded_uuids(seed)
        self.partitioned = draw() < 0.3
        self.target_bytes = rng.choice((1, 150, 100_000))
        self.quarrel = draw() < 0.1
        self.script = rng.choice(SCRIPTS) if draw() < 0.2 else None
        self.most_at_once = 4 if self.quarrel or self.script else rng.choice((1, 2, 3))
        self.disk = Disk()
        self.source = Source(hashed=draw() < 0.6)
        self.scheduler = Scheduler(rng, rng.choice((0.0, 0.5, 0.9, 0.97)), rng.choice((0.0, 0.005, 0.02)))
        self.faults = Faults(
            rng,
            rng.choice(RATES),
            rng.choice((0.05, 0.15, 0.5)),
            stale=rng.choice(STALE) if draw() < 0.1 else 0.0,
            arrival=rng.choice((0.3, 0.05, 0.01)),
            sore=rng.choice(SORE),
        )
        self.workers, self.zombies = rng.choice((1, 2, 3)), rng.choice((0.0, 0.5))
        self.judge = self.disk.judge = TruthJudge(self.disk, self.source)
        self.disk.changed, self.disk.arrived = self.check_quiet, self.disturb
        self.outsider = draw() < 0.06
        self.under_way: list[Command] = []
        self.overwritten: tuple[str, InputFile | None] | None = (
            None  # what the user did last: a URI, and what was there
        )
        self.disturbed: int | None = None  # when something last happened that may leave a wrong mark standing
        self.counts: Counter[str] = Counter()
        self.calm = False  # nothing fails any more
        for name in NAMES[: 2 + int(draw() * (len(NAMES) - 2))]:
            self.source.write(name, int(draw() * CONTENTS), 0)

    def open_store(self, root: str) -> SimulatedStore:
        """The store for the process that asks."""
        return SimulatedStore(self.disk, self.scheduler, self.faults, self.trace)

    def list_source(self) -> list[InputFile]:
        """Today's files; what `discover` gives."""
        self._ask("source list", "")
        if not self.source.files:
            raise InputError("/in matches no file")
        return sorted(self.source.files.values(), key=lambda file: file.uri)

    def look(self, uri: str, operation: str = "source read") -> str | None:
        """The version a file has now."""
        self._ask(operation, uri)
        file = self.source.files.get(uri)
        return file.version if file else None

    def find(self, uri: str) -> Any:
        """What `storage.inputs.find` gives."""
        self.look(uri, "source look")
        return self.source.files.get(uri)

    def is_hollow(self) -> bool:
        """Whether a folder looks as if it weren't mounted, so that nobody can tell what has become of its files."""
        return not self.calm and self.rng.random() < 0.1

    def resolve(self, config: Any) -> Job:
        """What the names in a config stand for."""
        command = self.scheduler.current.command
        model: Any = SimpleNamespace(lock=LOCK)
        return Job(
            config, None, self.open_store(ROOT), model, EXTRACTION, POLICY, spec_named(command.spec), self.uuid().hex
        )

    def context(self, job: Job, base: int) -> Any:
        """What workers are told of a job."""
        return SimpleNamespace(
            run=job.run,
            spec_id=job.spec.spec_id,
            base=base,
            extraction=EXTRACTION,
            policy=POLICY,
            limit=None,
            dimensions=1,
            layout=None,
            open_store=lambda: self.open_store(ROOT),
        )

    def make_engine(self) -> SimulatedEngine:
        """The engine of the run that asks."""
        self.counts["runs"] += 1
        draw = (lambda: 1.0) if self.calm else self.rng.random
        return SimulatedEngine(self.scheduler, self.workers, self.zombies, draw, self.counts, self.settle)

    def check_quiet(self) -> None:
        """While nothing is going on the mark must be right."""
        disturbing = self.under_way or self.disturbed is not None or self.disk.late or self.faults.stale
        if not disturbing and not self.has_zombies():
            self.judge.check_success()

    def hand(self) -> str:
        """Who writes data files: two machines may give the same rows other bytes. Not where files are taken away, since what was
        made by one could then not be made again by another."""
        if self.outsider or self.script in TAKING:
            return "same"
        process = self.scheduler.current
        assert process is not None
        return f"{number(process.name) % 10000:04}"

    def take_away(self) -> bool:
        """Something outside takes a file away that is needed for the next version: what is staged of a unit at any time, a data
        file only where nobody can be about to publish it. Whether there was one."""
        staged, judge = self.judge.staged(), self.judge
        quiet = not (self.under_way or self.disk.late or self.has_zombies())
        found = [*staged, *(judge.assembled() if quiet else ())]
        if not found:
            return False
        lost = found[int(self.rng.random() * len(found))]
        if isinstance(lost, tuple):
            judge.taken.add(lost)
        key = lost if isinstance(lost, str) else judge.records[lost]["part"]["key"]
        self.counts["taken away"] += 1
        if self.trace:
            self.trace(f"{self.scheduler.step:5} {'outsider':18} takes {key}")
        self.disk.take(key)
        return True

    def has_zombies(self) -> bool:
        """Whether something goes on that a command which has ended left behind."""
        return any(
            p.command not in (None, *self.under_way) and not (p.finished or p.dead) for p in self.scheduler.processes
        )

    def settle(self, command: Command) -> None:
        """Keep in mind whether what ended may have left the mark standing beside what it should not.

        One that was killed may have, or that a failing store or a missing right kept from taking it away, if others set the
        mark meanwhile; until one ends well that looked at the mark after that. Whoever sets it sees files that were made for a
        version about to be published, and takes it away for one that has no right to. Of a version without such files nobody
        sees anything.
        """
        unable = not command.may_delete and (command.bare or command.ended != "well")
        helpless = command.ended == "killed" or isinstance(command.error, StorageError) or unable
        if helpless and not command.alone:
            self.disturb()
        elif command.ended != "well" or not command.may_delete:
            return
        elif self.disturbed is not None and command.settled > self.disturbed:
            self.disturbed = None

    def disturb(self) -> None:
        """From now on the mark may be wrong."""
        self.disturbed = self.scheduler.step

    def _ask(self, operation: str, what: str) -> None:
        scheduler = self.scheduler
        scheduler.pause()
        process = scheduler.current
        self.counts["source_looks"] += 1
        fault = self.faults.draw(operation, "", process.command is not None)
        if self.trace:
            self.trace(f"{scheduler.step:5} {process.name:18} {operation} {what} {fault}")
        if fault:
            self.faults.happened(operation, fault)
        if fault == "error":
            raise TransientStorageError(f"{operation} {what}: no answer")
        if fault:
            scheduler.kill(process)
