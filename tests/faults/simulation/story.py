"""One history: what the user does, in an order and with faults that all follow from one seed, and how it must end."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from faults.simulation import binding
from faults.simulation.commands import Command, draw_commands, execute, read
from faults.simulation.scheduler import Endless, Process
from faults.simulation.source import CONTENTS, NAMES, torn_row
from faults.simulation.world import World


@dataclass
class Outcome:
    """What a seed came to."""

    seed: int
    violations: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    bugs: list[Exception] = field(default_factory=list)


def simulate(seed: int, trace: Callable[[str], None] | None = None) -> Outcome:
    """The history of a seed."""
    world = World(seed, trace)
    with binding.replaced([*binding.fast_records(), *binding.simulated(world)]):
        try:
            _live(world)
            _end(world)
        except Endless as error:
            world.judge.violations.append(str(error))
        finally:
            world.scheduler.end()
    world.judge.violations += [repr(bug) for bug in world.scheduler.bugs]
    world.counts["operations"] += world.scheduler.step - world.counts["source_looks"]
    world.counts["snapshots"] += world.judge.snapshots.version
    world.counts["seeds"] += 1
    return Outcome(seed, world.judge.violations, world.counts, world.faults.counts, world.scheduler.bugs)


def start(world: World, command: Command) -> Process:
    """Start a command; what it leaves behind is kept in mind when it ends."""

    def ended(_: Process) -> None:
        world.under_way.remove(command)
        if command.kind != "retry":
            world.settle(command)
        if world.trace:
            world.trace(
                f"{world.scheduler.step:5} {command.name:18} ended: {command.ended} {command.error or ''}".rstrip()
            )
        world.check_quiet()

    world.under_way.append(command)
    command.begun = world.disk.now
    if len(world.under_way) > 1 or world.disk.late or world.has_zombies():
        for other in world.under_way:
            other.alone = False
    process = world.scheduler.spawn(command.name, lambda: execute(world, command), command)
    process.at_end.append(ended)
    return process


def _live(world: World) -> None:
    """Users, readers and commands, with faults, until all of them have ended."""
    scheduler, rng = world.scheduler, world.rng
    commands, changes, times = draw_commands(rng, quarrel=world.quarrel), int(rng.random() * 7), rng.choice((0, 1, 4))
    if world.script is not None:
        commands, changes = world.script(), 0

    def launch() -> None:
        for command in commands:
            scheduler.park(int(rng.random() * rng.choice((5, 60, 400))))
            while len(world.under_way) >= (1 if command.waits else world.most_at_once):
                scheduler.park(10)
            if command.kind == "change":
                _change_source(world)
            elif command.kind == "undo":
                _undo(world)
            elif command.kind == "take":
                world.take_away()
            else:
                start(world, command)

    def change() -> None:
        for _ in range(changes):
            scheduler.park(int(rng.random() * rng.choice((20, 100, 300))))
            _change_source(world)

    def take() -> None:
        taken = 0
        for _ in range(30):
            scheduler.park(int(rng.random() * 40))
            taken += rng.random() < 0.3 and world.take_away()
            if taken == 2:
                break

    scheduler.spawn("launcher", launch)
    if world.outsider:
        scheduler.spawn("outsider", take)
    scheduler.spawn("user", change)
    if times:
        scheduler.spawn("reader", lambda: read(world, times))
    scheduler.run()


def _change_source(world: World) -> None:
    """The user writes or removes a file, and sometimes takes that back soon."""
    source, draw = world.source, world.rng.random
    uri = NAMES[int(draw() * len(NAMES))]
    before = source.files.get(uri)
    world.overwritten = uri, before
    removes = before is not None and draw() < 0.45
    _write(world, uri, None if removes else int(draw() * CONTENTS))
    if before is not None and draw() < 0.4:
        world.scheduler.park(int(draw() * 40))
        _undo(world)


def _undo(world: World) -> None:
    """The user takes back what was done last."""
    if world.overwritten is not None:
        uri, before = world.overwritten
        _write(world, uri, int(before.version[0]) if before is not None else None)
        world.overwritten = None


def _write(world: World, uri: str, content: int | None) -> None:
    world.disk.now += 1
    if content is not None:
        world.source.write(uri, content, world.disk.now)
    elif uri in world.source.files:
        world.source.remove(uri, world.disk.now)
    world.disk.now += 1
    if world.trace:
        file = world.source.files.get(uri)
        world.trace(f"{world.scheduler.step:5} {'user':18} {uri} is now {file.version if file else 'gone'}")


def _end(world: World) -> None:
    """Faults stop and what is under way arrives: then a run must make the output equal the source, and a collection clean it."""
    world.faults.rate, world.faults.stale, world.scheduler.sleepy, world.calm = 0.0, 0.0, 0.0, True
    while world.disk.late:
        world.disk.deliver(world.rng)
    if not world.source.files:
        world.source.write(NAMES[0], 0, world.disk.now)
    last = Command("run", "last run", replace=True)
    _whole(world, last)
    if last.ended == "RefusedError":
        last = Command("run", "last run, dropping", replace=True, allow_drop=True)
        _whole(world, last)
    if world.judge.taken and world.judge.waiting():
        # What was to be tried again is left to the next run where its file has turned out to be unreadable in this one.
        last = Command("run", "last run, for what was taken away", replace=True, allow_drop=True)
        _whole(world, last)
    collection = Command("gc", "last gc")
    _whole(world, collection)
    world.judge.violations += [
        f"after the last collection {key} is left" for key in world.judge.leftovers(abandoned=False)
    ]
    abandoning = Command("gc", "gc --abandon", abandon=True)
    _whole(world, abandoning)
    for command in (last, collection, abandoning):
        if command.ended != "well":
            world.judge.violations.append(f"{command.name} ended with {command.ended}: {command.error}")
    _check_end(world)


def _whole(world: World, command: Command) -> None:
    """Nothing else goes on and nothing fails: whatever went before, the mark is right when it has ended."""
    start(world, command)
    world.scheduler.run()
    if command.ended == "well":
        world.judge.check_success()


def _check_end(world: World) -> None:
    wrong, head, source = world.judge.violations, world.judge.snapshots.head, world.source
    if head is None:
        wrong.append("the last run has published nothing")
        return
    for uri, file in source.files.items():
        if torn_row(uri, file.version) is not None and uri in head.failed:
            continue
        if uri in head.failed or head.uris.get(uri) != file.version:
            wrong.append(f"at the end the head has {uri}@{head.uris.get(uri)}, the source {file.version}")
    wrong += [f"at the end {unit} was not worked again, as was asked for" for unit in world.judge.waiting()]
    wrong += [f"at the end the head has {uri}, which is gone" for uri in head.uris if uri not in source.files]
    wrong += [f"at the end the head is without {uri}, which is gone" for uri in head.failed if uri not in source.files]
    wrong += [f"at the end {key} is left" for key in world.judge.leftovers(abandoned=True)]
    if world.disk.get("_SUCCESS") is None:
        wrong.append("at the end there is no _SUCCESS")
    most = world.counts["runs"] + world.counts["excuses"] + world.faults.drawn
    for unit, attempts in world.judge.attempts.items():
        if attempts > most * (1 + world.judge.reworked.get(unit, 0)):
            wrong.append(f"unit {unit} was worked {attempts} times")
