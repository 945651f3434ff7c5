"""Who works on what, and who has stopped getting on with it.

A process that hangs or was stopped says nothing, and Ray looks after nodes only. So every worker says what it begins and
ends, and sends signs of progress in between; the driver asks who has given none for too long, and kills that process. What it
held counts as a death of the process over it.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BEAT_S = 2.0


def beat_s(timeout_s: float) -> float:
    """Seconds between two signs of progress, and between two looks for those who give none."""
    return min(BEAT_S, timeout_s / 4)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process somewhere on the cluster, for good: a process id alone may be used again."""

    node: str
    process: int
    started: str  # the system's own time of its start


@dataclass(frozen=True, slots=True)
class Overdue:
    """A worker that has shown no progress for too long."""

    worker: Worker
    task: str
    silent_s: float


@dataclass(slots=True)
class _Step:
    task: str
    progress: int
    changed: float  # when progress last changed, on the board's own clock


class Board:
    """Lives in a process of its own, as a Ray actor. Tasks are named by kind and id, as in `encode 0a1b…`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopped = False
        self._steps: dict[Worker, _Step] = {}
        self._holder: dict[str, Worker] = {}
        self._deaths: Counter[str] = Counter()
        self._former: set[Worker] = set()  # who was at something when all was planned anew, and may be still
        self._asked: float | None = None  # when it was last asked for who is overdue
        self._moved = clock()  # when anything was begun, ended, or got on
        self._under_way = False  # whether anything but reading was begun since `clear`

    def stop(self) -> None:
        """No new unit is to be begun."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """Whether no new unit is to be begun."""
        return self._stopped

    def clear(self) -> None:
        """Forget what was begun: everything is planned anew."""
        self._moved, self._under_way = self._clock(), False
        self._former |= self._steps.keys()
        self._steps.clear()
        self._holder.clear()
        self._deaths.clear()

    def begin(self, worker: Worker, task: str) -> int | None:
        """A worker begins a task: how many workers have begun it and never ended. None: it should not begin."""
        if self._stopped:
            return None
        self._moved = self._clock()
        self._former.discard(worker)
        self._under_way |= not task.startswith("read ")  # which goes on while encoders wait for a machine
        if self._holder.get(task, worker) != worker:
            self._deaths[task] += 1
        self._holder[task] = worker
        self._steps[worker] = _Step(task, -1, self._clock())
        return self._deaths[task]

    def end(self, worker: Worker, task: str) -> None:
        """A worker has ended a task, well or not."""
        self._moved = self._clock()
        if self._holder.get(task) == worker:
            del self._holder[task]
        if task.startswith("load "):  # once one has succeeded, the deaths before were not the model's doing
            del self._deaths[task]
        if worker in self._steps and self._steps[worker].task == task:
            del self._steps[worker]

    def show(self, worker: Worker, task: str, progress: int) -> None:
        """A worker shows how far it is; any change is progress."""
        step = self._steps.get(worker)
        if step is None:  # this board has died and come back meanwhile, or all was planned anew around it
            step = self._steps[worker] = _Step(task, -1, self._clock())
            if worker not in self._former:  # else who has the task by now would be told of a death that was none
                self._holder.setdefault(task, worker)
        if step.progress != progress:
            step.progress, step.changed = progress, self._clock()
            self._moved = step.changed

    def overdue(self, timeout_s: float) -> list[Overdue]:
        """Workers without progress for longer than that. Each is told of again after as long again: killing it may fail."""
        now = self._clock()
        if self._asked is not None and now - self._asked > timeout_s / 2:  # it's asked four times as often:
            for step in self._steps.values():  # this machine was stopped, and who works on it with it
                step.changed = now
            self._moved = now
        self._asked = now
        late = {worker: step for worker, step in self._steps.items() if now - step.changed > timeout_s}
        found = [Overdue(worker, step.task, now - step.changed) for worker, step in late.items()]
        for step in late.values():
            step.changed = now
        return found

    def still_s(self) -> float:
        """Seconds since anything was begun, ended or got on."""
        return self._clock() - self._moved

    def unattended_s(self) -> float:
        """Seconds since anybody was at anything; 0 while somebody is."""
        return 0.0 if self._steps else self._clock() - self._moved

    def idle_s(self) -> float:
        """The same once anything but reading was begun; 0 before."""
        return self.unattended_s() if self._under_way else 0.0

    def forget(self, worker: Worker) -> None:
        """A worker is no more."""
        if self._steps.pop(worker, None) is not None:
            self._moved = self._clock()


def this_worker(node: str) -> Worker:
    """This process. `node`: what the cluster calls the machine."""
    return Worker(node, os.getpid(), _started(os.getpid()))


def kill_worker(worker: Worker) -> bool:
    """Kill a process of this machine, if it is still the one that is meant."""
    if _started(worker.process) != worker.started:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.process, signal.SIGKILL)
    return True


def _started(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # gone; or not Linux, where a process id has to do
        return ""
