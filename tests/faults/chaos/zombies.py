"""Processes that are stopped, and go on when others have done their work: zombies, who must change nothing any more.

Which of them were zombies is found out, not supposed: only who was stopped for longer than a unit may take, while a run ended
well, and did something afterwards.
"""

import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from faults.chaos.cluster import Cluster
from faults.chaos.job import TIMEOUT_S
from faults.chaos.processes import gone, parent_of, until
from faults.chaos.striker import Caught, lay
from faults.chaos.traps import PHASES

STEPS = tuple(f"after {names[0]}" for modules in PHASES.values() for names in modules.values())
"""Where a step is over."""

NEXT_S = 10
"""For who goes on to come by a place; there may be none any more."""

TASK_OF = {"reading": "read", "encoding": "encode", "staging": "stage", "assembling": "assemble"}
"""Phase → how the watchdog names what a worker is at."""

WATCHDOG = re.compile(r"(\w+) [^:\n]+: no progress for \d+ s; its process is killed")


class Run(Protocol):
    """As much of a driver as is asked for."""

    @property
    def id(self) -> int: ...
    @property
    def code(self) -> int | None: ...
    @property
    def told(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Stopped:
    """A process that was stopped."""

    process: int
    cluster: Cluster
    phase: str
    kind: str  # worker or driver
    machine: tuple[int, ...]  # its raylet and all of that one's processes, where the whole machine was stopped
    since: float
    over_before: frozenset[int]  # ids of drivers that had ended by then: what they did was not done meanwhile

    @property
    def gone(self) -> bool:
        """Whether it has ended, alone or with its cluster."""
        return gone(self.process) or not self.cluster.traps.exists()

    @property
    def late(self) -> bool:
        """Whether it has been stopped for longer than a unit may take."""
        return time.monotonic() - self.since > TIMEOUT_S


class Zombies:
    """Those of one job, over all of its runs. A context manager: nobody stays stopped."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self._stopped: list[Stopped] = []

    def __enter__(self) -> "Zombies":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._book([], last=True)

    def stop(self, cluster: Cluster, caught: Caught, phase: str, drivers: Sequence[Run], *, machine: bool) -> None:
        """Stop who is held in the middle of its work; with its machine nobody can kill it."""
        raylet, frozen = parent_of(caught.process), []
        if machine and raylet in cluster.nodes:
            cluster.strike(raylet, signal.SIGSTOP)
            frozen = [raylet, *(other.id for other in cluster.processes() if other.parent == raylet)]
        for process in (caught.process, *frozen):
            cluster.strike(process, signal.SIGSTOP)
        caught.let_go()
        if frozen:
            cluster.give_up(frozen[0])
        kind = "driver" if caught.process in {driver.id for driver in drivers} else "worker"
        over = frozenset(driver.id for driver in drivers if driver.code is not None)
        self._stopped.append(Stopped(caught.process, cluster, phase, kind, tuple(frozen), time.monotonic(), over))

    def come_back(self, drivers: Sequence[Run]) -> None:
        """Runs are over. Who was stopped goes on; but a stopped machine stays so until a run has ended well, since its work may
        still be to be done, and nobody waits for it."""
        self._book(drivers, last=False)

    def _book(self, drivers: Sequence[Run], *, last: bool) -> None:
        killed = Counter(task for driver in drivers for task in WATCHDOG.findall(driver.told))
        ended_well = {driver.id for driver in drivers if driver.code == 0}
        stay, awake = [], []
        for one in self._stopped:
            done = bool(ended_well - one.over_before - {one.process})
            if one.gone:
                self._count_gone(one, killed)
            elif one.machine and not (done or last):
                stay.append(one)
            else:
                self._continue(one, done)
                awake.append(one)
        self._stopped = stay
        for one in awake:  # when all were on their own: a machine goes on with all of its processes
            _wake(one)

    def _count_gone(self, one: Stopped, killed: Counter[str]) -> None:
        """By whom: a driver tells of each process that its watchdog has killed; else it was Ray, or the cluster's end."""
        task = TASK_OF.get(one.phase, "")
        by_watchdog = killed[task] > 0
        killed[task] -= by_watchdog
        self.counts["stopped.killed" if by_watchdog else "stopped.gone"] += 1

    def _continue(self, one: Stopped, done: bool) -> None:
        """Let it go on, late enough if its work was done by others; and count it as what it was."""
        if done:
            until(lambda: one.late, TIMEOUT_S + 1)
        late, steps = one.late, _go_on(one)
        if done and late and steps:
            self.counts.update(("zombies", f"zombies.{one.kind}"))
            self.counts["zombies.steps"] += steps
        else:
            self.counts["stopped.idle"] += 1


def _go_on(one: Stopped) -> int:
    """Let a stopped process do what it was about to do, place by place, to the end of its step; the places it came by."""
    traps, steps = one.cluster.traps, 0
    trap, held_there = traps / str(one.process), f"held {one.process} *"
    lay(trap, 1.0)
    one.cluster.strike(one.process, signal.SIGCONT)
    while until(lambda: next(traps.glob(held_there), None) or gone(one.process), NEXT_S) and not gone(one.process):
        held = next(traps.glob(held_there))
        steps += 1
        if held.name.endswith(STEPS):
            break
        lay(trap, 1.0)
        held.unlink()
    trap.unlink(missing_ok=True)
    for held in traps.glob(held_there):
        held.unlink()
    return steps


def _wake(one: Stopped) -> None:
    """The machine of a process goes on, if it was stopped; its raylet is told that it counts as dead, and ends."""
    for process in reversed(one.machine):
        one.cluster.strike(process, signal.SIGCONT)
    if one.machine and not until(lambda: gone(one.machine[0]), 20):
        one.cluster.strike(one.machine[0], signal.SIGKILL)
