"""Simulated processes, one greenlet each, and who goes on next. Everything is decided by one seeded generator."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import greenlet

MOST_STEPS = 30_000
"""A history that goes on longer than this never ends."""


class Killed(BaseException):
    """Ends a simulated process at once: whatever it still tries on its way out does nothing."""


class Endless(BaseException):
    """A history that does not come to its end."""


class Process:
    """Something that can die alone: a driver, a worker, a collector, a reader."""

    def __init__(self, name: str, body: Callable[[], None], command: Any, hub: greenlet.greenlet) -> None:
        self.name = name
        self.command = command  # what the user started, of which this is a part
        self.dead = False
        self.finished = False
        self.waiting = False
        self.bug: Exception | None = None  # what it ended with, where that is nothing it should
        self.at_end: list[Callable[[Process], None]] = []
        self.greenlet = greenlet.greenlet(lambda: self._run(body), hub)

    def _run(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Killed:
            pass
        except Exception as error:
            self.bug = error
        finally:
            self.finished = True


class Scheduler:
    """Runs processes until none is left.

    stay: how likely a process goes on before another has its turn. sleepy: how likely it stands still for long, anywhere.
    """

    def __init__(self, rng: random.Random, stay: float, sleepy: float) -> None:
        self.rng = rng
        self.sleepy = sleepy
        self.stay = stay
        self.step = 0  # operations so far
        self.clock = 0  # steps, and the time in which everybody stood still
        self.processes: list[Process] = []
        self.runnable: list[Process] = []
        self.current: Process | None = None
        self._parked: list[tuple[int, int, Process]] = []
        self._hub = greenlet.getcurrent()
        self._doomed: list[Process] = []
        self.bugs: list[Exception] = []
        self._count = itertools.count()

    def spawn(self, name: str, body: Callable[[], None], command: Any = None) -> Process:
        """A new process; it begins when its turn comes."""
        process = Process(name, body, command, self._hub)
        self.processes.append(process)
        self.runnable.append(process)
        return process

    def pause(self) -> None:
        """Let others go first, perhaps. Called before everything that other processes can see."""
        process = self._me()
        self.step += 1
        self.clock += 1
        if self.step > MOST_STEPS:
            raise Endless(f"no end after {self.step} steps")
        if self.sleepy and self.rng.random() < self.sleepy:
            self.park(int(self.rng.random() * 150))
        elif self.rng.random() >= self.stay:
            self._switch(process)

    def park(self, steps: int) -> None:
        """Stand still while others do `steps` steps."""
        process = self._me()
        self.runnable.remove(process)
        heapq.heappush(self._parked, (self.clock + steps, next(self._count), process))
        self._switch(process)

    def wait(self) -> None:
        """Stand still until somebody wakes this process."""
        process = self._me()
        self.runnable.remove(process)
        process.waiting = True
        self._switch(process)

    def wake(self, process: Process) -> None:
        """Let a waiting process go on."""
        if process.waiting and not process.finished:
            process.waiting = False
            self.runnable.append(process)

    def kill(self, process: Process) -> None:
        """End a process where it stands; raises Killed when it is the running one."""
        process.dead = True
        if process is self.current:
            raise Killed
        if not process.finished:
            self._doomed.append(process)

    def run(self) -> None:
        """Until every process has ended."""
        while True:
            self._reap()
            while self._parked and (self._parked[0][0] <= self.clock or not self.runnable):
                until, _, process = heapq.heappop(self._parked)
                self.clock = max(self.clock, until)
                if not process.dead:
                    self.runnable.append(process)
            if not self.runnable:
                break
            self._turn(self.runnable[int(self.rng.random() * len(self.runnable))])
        stuck = [process for process in self.processes if not process.finished]
        if stuck:
            raise Endless(f"{stuck[0].name} waits for ever")
        self.processes.clear()

    def end(self) -> None:
        """Kill whatever is left."""
        for process in self.processes:
            process.dead = True
            if not process.finished:
                self._doomed.append(process)
        self._reap()

    def _turn(self, process: Process) -> None:
        self.current = process
        process.greenlet.switch()
        self.current = None
        if process.finished:
            self._gone(process)

    def _reap(self) -> None:
        while self._doomed:
            process = self._doomed.pop()
            if process.greenlet:  # it has begun
                self.current = process
                process.greenlet.throw(Killed)
                self.current = None
            process.finished = True
            self._gone(process)

    def _gone(self, process: Process) -> None:
        if process in self.runnable:
            self.runnable.remove(process)
        if process.bug is not None:
            self.bugs.append(process.bug)
        for action in process.at_end:
            action(process)
        process.at_end = []

    def _me(self) -> Process:
        process = self.current
        assert process is not None
        if process.dead:
            raise Killed
        return process

    def _switch(self, process: Process) -> None:
        self._hub.switch()
        if process.dead:
            raise Killed
