"""Carries out faults on a cluster, and counts them."""

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.chaos.cluster import Cluster
from faults.chaos.job import Driver
from faults.chaos.processes import gone, parent_of, until
from faults.chaos.strikes import Fault

CATCH_S = 120


@dataclass(frozen=True)
class Caught:
    """A process held at a place."""

    file: Path
    process: int

    def let_go(self) -> None:
        """It goes on, once it isn't stopped."""
        self.file.unlink(missing_ok=True)


class Striker:
    """Sets traps on one cluster, and strikes."""

    def __init__(self, cluster: Cluster, counts: Counter[str]) -> None:
        self.cluster, self.counts = cluster, counts
        self._set: set[Path] = set()  # traps of which nothing was caught since

    def set(self, faults: Sequence[Fault]) -> None:
        """Set a trap for each fault; the first process to come by is held. When that one dies of something else, the next one."""
        for trap, chance in [(self._trap(fault), fault.chance) for fault in faults]:
            if trap not in self._set:
                lay(trap, chance)
                self._set.add(trap)

    def catch(self, faults: Sequence[Fault], over: Callable[[], bool]) -> tuple[Fault, Caught] | None:
        """Wait for who is caught first; None when it's over before."""
        self.set(faults)
        found: list[tuple[Fault, Caught]] = []

        def look() -> bool:
            found.extend((fault, caught) for fault in faults if (caught := self._held(fault)) is not None)
            return bool(found) or over()

        until(look, CATCH_S)
        if not found:
            return None
        self._set.discard(self._trap(found[0][0]))
        return found[0]

    def clear(self) -> None:
        """Take all traps away, and let go whoever is held."""
        for file in self.cluster.traps.iterdir():
            file.unlink(missing_ok=True)

    def kill(self, fault: Fault, caught: Caught, drivers: Sequence[Driver]) -> bool:
        """Kill the victim while the caught process is held; whether there was one."""
        victim = self._victim(fault, caught, drivers)
        found = victim is not None and self.cluster.strike(victim, signal.SIGKILL)
        if found:
            until(lambda: gone(victim), 10)
            self.counts.update(
                ("kills", f"kills.{fault.phase}", f"victim.{fault.struck}", f"kills.{fault.phase}.{fault.struck}")
            )
            for driver in drivers:
                driver.killed |= driver.id == victim
        caught.let_go()
        if self.cluster.alive:
            self.cluster.mend()
        return found

    def _victim(self, fault: Fault, caught: Caught, drivers: Sequence[Driver]) -> int | None:
        if fault.victim == "holder":
            return caught.process
        if fault.victim == "gcs":
            return self.cluster.gcs
        if fault.victim == "driver":
            return self._driver_of(caught, drivers)
        if fault.victim == "board":
            return self._board_of(caught)
        parent = parent_of(caught.process)
        return parent if parent in self.cluster.nodes else self.cluster.nodes[0]

    def _driver_of(self, caught: Caught, drivers: Sequence[Driver]) -> int | None:
        """The one that is in that phase, as it's of the same job; another one is elsewhere. Any, where that can't be told."""
        job = self.cluster.job_of(caught.process)
        jobs = {driver.id: self.cluster.job_of(driver.id) for driver in drivers if driver.code is None}
        fitting = [process for process, own in jobs.items() if "" in (own, job) or own == job]
        return min(fitting, key=lambda process: jobs[process] != job, default=None)

    def _board_of(self, caught: Caught) -> int | None:
        """That of the same job: boards of others, and of runs that are over, are there too. A driver that has not met Ray yet has
        none."""
        job = self.cluster.job_of(caught.process)
        boards = [process.id for process in self.cluster.processes(r"ray::Board")]
        return next((board for board in boards if job and self.cluster.job_of(board) == job), None)

    def _trap(self, fault: Fault) -> Path:
        return self.cluster.traps / f"{fault.phase} {fault.place}"

    def _held(self, fault: Fault) -> Caught | None:
        for file in self.cluster.traps.glob(f"held * {fault.phase} {fault.place}"):
            process = int(file.name.split()[1])
            if not gone(process):
                return Caught(file, process)
            file.unlink(missing_ok=True)
            lay(self._trap(fault), fault.chance)
        return None


def lay(trap: Path, chance: float) -> None:
    """Set a trap. Written aside and renamed: who comes by in between finds none, not half of one."""
    new = trap.with_name(f"new {trap.name}")
    new.write_text(str(chance))
    new.rename(trap)
