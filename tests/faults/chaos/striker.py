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
from faults.chaos.traps import PHASES

CATCH_S = 120
STEPS = tuple(f"after {names[0]}" for modules in PHASES.values() for names in modules.values())
"""Where a worker's step is over."""


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
        # Workers, each with its raylet and all of its processes where the whole machine was stopped.
        self._stopped: list[tuple[int, list[int]]] = []

    def set(self, faults: Sequence[Fault]) -> None:
        """Set a trap for each fault; the first process to come by is held."""
        for fault in faults:
            if self._held(fault) is None:
                _lay(self._trap(fault), fault.chance)

    def catch(self, faults: Sequence[Fault], over: Callable[[], bool]) -> tuple[Fault, Caught] | None:
        """Wait for who is caught first; None when it's over before."""
        self.set(faults)
        found: list[tuple[Fault, Caught]] = []

        def look() -> bool:
            found.extend((fault, caught) for fault in faults if (caught := self._held(fault)) is not None)
            return bool(found) or over()

        until(look, CATCH_S)
        return found[0] if found else None

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

    def stop(self, caught: Caught, *, machine: bool) -> None:
        """Stop a worker in the middle of its work; with its machine nobody can kill it."""
        raylet, frozen = parent_of(caught.process), []
        if machine and raylet in self.cluster.nodes:
            self.cluster.strike(raylet, signal.SIGSTOP)
            frozen = [raylet, *(other.id for other in self.cluster.processes() if other.parent == raylet)]
        for process in (caught.process, *frozen):
            self.cluster.strike(process, signal.SIGSTOP)
        caught.let_go()
        if frozen:
            self.cluster.give_up(frozen[0])
        self._stopped.append((caught.process, frozen))

    def come_back(self) -> None:
        """What was stopped and still lives goes on, now that the runs are over."""
        for process, frozen in self._stopped:
            self.counts.update(("stopped.killed",) if gone(process) else ("zombies", "zombies.worker"))
            self._go_on(process)
            if frozen:
                self._wake(frozen)
        self._stopped.clear()

    def _wake(self, frozen: Sequence[int]) -> None:
        """A machine goes on; its raylet is told that it counts as dead, and ends."""
        for process in reversed(frozen):
            self.cluster.strike(process, signal.SIGCONT)
        if not until(lambda: gone(frozen[0]), 20):
            self.cluster.strike(frozen[0], signal.SIGKILL)

    def _go_on(self, process: int) -> None:
        """Let a stopped worker do what it was about to do, place by place, to the end of its step."""
        traps = self.cluster.traps
        trap = traps / str(process)
        _lay(trap, 1.0)
        self.cluster.strike(process, signal.SIGCONT)
        while until(lambda: next(traps.glob(f"held {process} *"), None) or gone(process), 10) and not gone(process):
            held = next(traps.glob(f"held {process} *"))
            self.counts.update(("zombies.steps",))
            if held.name.endswith(STEPS):
                held.unlink()
                break
            _lay(trap, 1.0)
            held.unlink()
        trap.unlink(missing_ok=True)

    def _victim(self, fault: Fault, caught: Caught, drivers: Sequence[Driver]) -> int | None:
        if fault.victim == "holder":
            return caught.process
        if fault.victim == "driver":
            return next((driver.id for driver in drivers if driver.code is None), None)
        if fault.victim == "gcs":
            return self.cluster.gcs
        if fault.victim == "board":
            return next((process.id for process in self.cluster.processes(r"ray::Board")), None)
        parent = parent_of(caught.process)
        return parent if parent in self.cluster.nodes else self.cluster.nodes[0]

    def _trap(self, fault: Fault) -> Path:
        return self.cluster.traps / f"{fault.phase} {fault.place}"

    def _held(self, fault: Fault) -> Caught | None:
        for file in self.cluster.traps.glob(f"held * {fault.phase} {fault.place}"):
            process = int(file.name.split()[1])
            if not gone(process):
                return Caught(file, process)
            file.unlink(missing_ok=True)
        return None


def _lay(trap: Path, chance: float) -> None:
    """Written aside and renamed: who comes by in between finds none, not half of one."""
    new = trap.with_name(f"new {trap.name}")
    new.write_text(str(chance))
    new.rename(trap)
