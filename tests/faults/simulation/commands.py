"""What a user starts on an output: runs of several kinds, collections, retries of quarantined rows, and readers."""

import random
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from faults.simulation.client import ROOT
from faults.simulation.endings import wrong_with_retry, wrong_with_run
from faults.simulation.stand_ins import rows_of

from pipeline.commit.snapshot import read_head
from pipeline.config.schema import Config, Execution, Input, Model, Output
from pipeline.errors import CommitError, EmbedpipeError, Overtaken, StorageError, VerificationError
from pipeline.flow import maintenance, supervisor
from pipeline.progress.events import NullReporter
from pipeline.spec import Spec, make_spec


@cache
def spec_named(name: str) -> Spec:
    """One of the specs a job may have."""
    return make_spec({"name": name, "outputs": [{"dimensions": 1}]}, {}, None)


@dataclass(eq=False)
class Command:
    """One command with its options, and how it went."""

    kind: str  # run, gc, retry; of files: change, undo, take
    name: str
    spec: str = "a"
    replace: bool = False
    append: bool = False
    retain: int = 1
    allow_drop: bool = False
    may_delete: bool = True
    share: float = 1.0  # of the input that may be without vectors
    impatient: bool = False  # the user stops it, perhaps
    abandon: bool = False
    waits: bool = False  # until all before it have ended
    lull: str = ""  # keys before which it stands still for long
    dozes: str = ""  # what it stands still for before it lists that
    fated: str = ""  # keys before which it is killed
    dies_after: str = ""  # keys after which it is killed
    alone: bool = True  # nothing else was under way at the same time
    begun: int = 0  # by the disk's clock
    settled: int = -1  # when it last looked at `_SUCCESS`, or put it
    ended: str = "killed"
    error: EmbedpipeError | None = None
    bare: bool = False  # what it published last has no other data files than the version before

    @property
    def spec_id(self) -> str:
        """Identity of its spec."""
        return spec_named(self.spec).spec_id


def draw_commands(rng: random.Random, *, quarrel: bool) -> list[Command]:
    """What the users of one history do. In a quarrel they try rows again all the time and give up what others are at, many at
    once: what is rare otherwise, and goes wrong there."""
    append, retain, replacing = rng.random() < 0.25, rng.choice((1, 1, 2)), rng.random() < 0.3
    drops, keeps, share = rng.random() < 0.6, rng.random() < 0.25, rng.choice((1.0, 1.0, 1.0, 1.0, 0.4, 0.0))
    runs, collections, abandons = (0.4, 0.7, 0.7) if quarrel else (0.6, 0.82, 0.3)
    commands = []
    for number in range(rng.choice((5, 6, 7, 8) if quarrel else (1, 2, 3, 4, 5, 6))):
        draw = rng.random()
        if draw < runs or number == 0:
            commands.append(
                Command(
                    "run",
                    f"run{number}",
                    spec=rng.choice("ab") if replacing else "a",
                    replace=replacing and rng.random() < 0.8,
                    append=append and rng.random() < 0.8,
                    retain=retain if rng.random() < 0.75 else 4 - retain,
                    allow_drop=drops,
                    may_delete=not (keeps and rng.random() < 0.7),
                    share=share,
                    impatient=rng.random() < 0.1,
                )
            )
        elif draw < collections:
            commands.append(Command("gc", f"gc{number}", abandon=rng.random() < abandons))
        else:
            commands.append(Command("retry", f"retry{number}"))
    return commands


@cache
def config_of(append: bool, retain: int, share: float) -> Config:
    """A job's config; what isn't named here is never asked for."""
    return Config(
        input=Input(paths=("/in",)),
        model=Model(name="m"),
        output=Output(path="/out", mode="append" if append else "mirror", retain=retain, max_rejected_share=share),
        execution=Execution(engine="serial"),
    )


class _Patience:
    """In place of the event that a signal sets: asked often enough, it is lost."""

    def __init__(self, world: Any, chance: float) -> None:
        self._world, self._chance, self._lost = world, chance, False

    def is_set(self) -> bool:
        if self._chance and not self._lost and self._world.rng.random() < self._chance:
            self._lost = True
            self._world.counts["stopped"] += 1
        return self._lost


def execute(world: Any, command: Command) -> None:
    """Carry a command out in the process that calls; what it may not end with, or leave undone, is a violation."""
    judge = world.judge
    try:
        wrong: list[str] = []
        if command.kind == "run":
            config = config_of(command.append, command.retain, command.share)
            stop: Any = _Patience(world, 0.02 if command.impatient else 0.0)
            summary = supervisor._Run(config, None, command.allow_drop, command.replace, NullReporter(), stop).go()
            wrong = wrong_with_run(judge, command, summary)
        elif command.kind == "gc":
            maintenance.collect_garbage(ROOT, dry_run=False, abandon=command.abandon)
        else:
            was, highest = judge.snapshots.head, dict(judge.highest)
            maintenance.retry_quarantine(ROOT)
            wrong = wrong_with_retry(judge, command, was, highest)
        command.ended = "well"
        judge.violations += [] if world.faults.stale else wrong
    except EmbedpipeError as error:
        command.ended, command.error = type(error).__name__, error
        contradiction = isinstance(error, CommitError | VerificationError) and not isinstance(error, Overtaken)
        refused = isinstance(error, StorageError) and not error.retry and command.may_delete
        if (contradiction or refused) and not world.faults.stale:
            judge.violations.append(f"{command.name}: {type(error).__name__}: {error}")


def read(world: Any, times: int) -> None:
    """Read the output by its manifest, as often as asked; each time one whole version must come out."""
    for _ in range(times):
        world.scheduler.park(int(world.rng.random() * 150))
        try:
            _read_once(world)
        except StorageError:
            continue
        except (CommitError, VerificationError) as error:
            if not world.faults.stale:
                world.judge.violations.append(f"reader: {error}")


def _read_once(world: Any) -> None:
    store = world.open_store(ROOT)
    snapshots = world.judge.snapshots
    before = snapshots.version
    last = -1
    while (head := read_head(store)) is not None:
        version = head.entry.version
        values = [store.get(key) for key in head.files]
        if None not in values:
            rows = Counter(row.partition("!")[0] for value in values for row in rows_of(value))
            if rows != snapshots.all[version - 1].embedded:
                world.judge.violations.append(f"a reader of version {version} saw other rows than were published")
            if not before <= version <= snapshots.version and not world.faults.stale:
                world.judge.violations.append(f"a reader saw version {version}, which was not the head")
            world.counts["reads"] += 1
            return
        if version == last and not world.faults.stale:
            world.judge.violations.append(f"a reader found files of version {version} gone, and it was still the head")
        if version == last:
            return
        last = version
