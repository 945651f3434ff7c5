"""One output from its first version to its last, through faults, and what must be true of it then."""

import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from faults import oracle
from faults.chaos.cluster import Cluster
from faults.chaos.collector import collecting
from faults.chaos.job import Driver, make_config
from faults.chaos.processes import MARK, until
from faults.chaos.striker import Caught, Striker
from faults.chaos.strikes import Fault
from faults.chaos.tracebacks import tracebacks
from faults.chaos.watch import Watch
from faults.chaos.world import State, World
from faults.chaos.zombies import Zombies
from faults.leftovers import leftovers

log = logging.getLogger(__name__)

MAX_RUNS = 24
RUN_S = 300
"""After that a run counts as hanging."""

MAY_END = (0, 4)
"""Exit codes of a run under which processes die: done, or incomplete and to be run again. And -9, where it was killed itself."""

REFUSED = 3  # the exit code of a run that would replace another spec's snapshot
BUG = 1  # … of one that met what nobody has thought of; the traceback is shown on request only
OTHER_PROMPT = "passage: "
ZERO = (
    "partial_reads", "lost", "duplicated", "mispaired", "unreadable", "leftovers", "failed_runs", "wrong_exits", "tracebacks"
)  # fmt: skip


class Clusters:
    """The cluster that is there now; another one, when its head was killed."""

    def __init__(self) -> None:
        self._now: Cluster | None = None

    def get(self) -> Cluster:
        """One that jobs can run on."""
        if self._now is not None and not self._now.alive:
            self.close()
        if self._now is None:
            self._now = Cluster()
        self._now.mend()
        return self._now

    def close(self) -> None:
        """Kill it."""
        if self._now is not None:
            self._now.__exit__(None, None, None)
            self._now = None


class Round:
    """`counts` says what was done and found. The environment must be that of a client of the output's store."""

    def __init__(self, clusters: Clusters, folder: Path, output: str, model: str, settings: Mapping[str, str]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(ZERO, 0))
        self.world = World(folder / "in", folder.name)
        self.output, self.model = output, model
        self._clusters, self._settings = clusters, dict(settings)
        self._competed: set[int] = set()  # numbers of the states over which two specs have competed
        self._config = make_config(self.world.folder, output, model, folder / "cache")

    def watch(self) -> Watch:
        """A reader of the output."""
        return Watch(self.output, self._states, self.model)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collections beside the runs."""
        environment = self._clusters.get().environment | self._settings
        del environment[MARK]  # it outlives the cluster
        try:
            with collecting(self.output, environment):
                yield
        except subprocess.CalledProcessError as error:
            log.error("%s: a collection ended with %s: %s", self.output, error.returncode, error.stderr)
            self.counts["wrong_exits"] += 1

    def start(self, *options: str, prompt: str | None = None) -> Driver:
        """A run of the job; with a prompt it is another spec."""
        model = self._config["model"] | ({} if prompt is None else {"prompt": prompt})
        return Driver(self._clusters.get(), self._config | {"model": model}, self._settings, *options)

    def publish(self, faults: Sequence[Fault], *options: str, drivers: int = 1) -> bool:
        """Run the job, again and again, until it ends well. `drivers`: how many the first time, at once."""
        todo = list(faults)
        with Zombies(self.counts) as zombies:
            for _ in range(MAX_RUNS):
                striker = Striker(self._clusters.get(), self.counts)
                striker.set(todo)
                running = [self.start(*options) for _ in range(drivers)]
                drivers = 1
                self._suffer(striker, zombies, todo, running)
                if 0 in [self._end(driver) for driver in running]:
                    return True
        log.error("%s: %d runs did not end well; the last said: %s", self.output, MAX_RUNS, running[-1].told)
        self.counts["failed_runs"] += 1
        return False

    def compete(self) -> None:
        """Two specs at once, both asked to replace what is there: each is published or refused, whichever comes last."""
        self._competed.add(self.world.states[-1].number)
        running = [self.start("--replace"), self.start("--replace", prompt=OTHER_PROMPT)]
        codes = [self._end(driver, REFUSED) for driver in running]
        if not set(codes) <= {0, REFUSED}:
            log.error("%s: two specs at once ended with %s: %s", self.output, codes, [one.told for one in running])
            self.counts["failed_runs"] += 1

    def judge(self) -> None:
        """Hold the output against the source, collect, and look for what is left over. All that is wrong is counted."""
        cluster = self._clusters.get()
        until(lambda: not cluster.processes(r"ray::(_assemble|MapBatches)"), 60)  # what a killed driver left running
        state = self.world.states[-1]
        verdict = oracle.check(self.output, state.texts, self.model, state.kept)
        self.counts.update(verdict.counts, rows=verdict.rows)
        if not verdict.right:
            log.error("%s: %s", self.output, verdict)
        try:
            left = self.leftovers()
        except subprocess.CalledProcessError as error:
            log.error("%s: gc ended with %s: %s", self.output, error.returncode, error.stderr)
            self.counts["wrong_exits"] += 1
        except oracle.UNREADABLE as error:
            log.error("%s: can't be read after gc: %r", self.output, error)
            self.counts["unreadable"] += not verdict.unreadable
        else:
            self.counts["leftovers"] += len(left)
            if left:
                log.error("%s: left over after gc: %s", self.output, left)

    def leftovers(self) -> list[str]:
        """What lies there after a collection and belongs to nothing."""
        command = [sys.executable, "-m", "pipeline", "gc", self.output]
        environment = self._clusters.get().environment | self._settings
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return leftovers(oracle.reader(self.output))

    def _states(self) -> Sequence[State]:
        """What a version may hold: the other prompt's rows only where that spec was asked for."""
        return [
            one
            for state in list(self.world.states)
            for one in (state, *([state.prompted(OTHER_PROMPT)] if state.number in self._competed else []))
        ]

    def _suffer(self, striker: Striker, zombies: Zombies, todo: list[Fault], running: list[Driver]) -> None:
        """Faults, as somebody comes by, as long as somebody runs. What could not be done is kept for the next run."""
        overtaken: list[Driver] = []

        def at_work() -> list[Driver]:
            return [driver for driver in running if driver not in overtaken]

        def over() -> bool:
            return all(driver.code is not None for driver in at_work())

        while todo and striker.cluster.alive and (found := striker.catch(todo, over)) is not None:
            fault, caught = found
            todo.remove(fault)
            if fault.manner == "kill" and not striker.kill(fault, caught, at_work()):
                todo += [] if over() else [fault]  # the victim wasn't there yet, or not any more
                continue
            log.info("%s: process %d met %s", self.output, caught.process, fault)
            if fault.manner == "overtake":
                overtaken += self._overtake(striker, zombies, caught, running)
            elif fault.manner != "kill":
                zombies.stop(striker.cluster, caught, fault.phase, running, machine=fault.manner == "part")
        striker.clear()
        until(over, RUN_S)
        zombies.come_back(running)
        for driver in overtaken:
            self._end_overtaken(driver)

    def _overtake(self, striker: Striker, zombies: Zombies, caught: Caught, running: list[Driver]) -> list[Driver]:
        """Stop a driver, and start another one that does its work."""
        stopped = [driver for driver in running if driver.id == caught.process]  # or it is one of an earlier run
        for _ in stopped:
            zombies.stop(striker.cluster, caught, "", running, machine=False)
            running.append(self.start())
        caught.let_go()
        return stopped

    def _end_overtaken(self, driver: Driver) -> None:
        """A driver that was stopped and goes on finds that it was overtaken, and must end well."""
        until(lambda: driver.code is not None, RUN_S)
        if driver.code not in (0, -signal.SIGKILL) and driver.cluster.alive:
            log.error("%s: a driver that was overtaken ended with %s: %s", self.output, driver.code, driver.told)
            self.counts["failed_runs"] += 1

    def _end(self, driver: Driver, *also: int) -> int | None:
        """Wait for a run's end; its exit code. One that hangs is killed. `also`: what else it may end with."""
        until(lambda: driver.code is not None, RUN_S)
        if driver.code is None:
            log.error("%s: a run hangs: %s", self.output, driver.told)
            driver.strike(signal.SIGKILL)
            self.counts["failed_runs"] += 1
        elif driver.code not in (*MAY_END, *also, *([-signal.SIGKILL] if driver.killed else [])):
            log.error("%s: a run ended with %s, which none may: %s", self.output, driver.code, driver.told)
            self.counts["wrong_exits"] += 1
        found = tracebacks(driver.told)
        self.counts["tracebacks_of_ray"] += found.of_ray
        if found.own or driver.code == BUG:
            log.error("%s: a run ended as a bug or told of a traceback: %s", self.output, driver.told)
            self.counts["tracebacks"] += 1
        log.info("%s: a run ended with %s after %.0f s", self.output, driver.code, time.monotonic() - driver.started)
        self.counts.update(("runs", f"exits.{driver.code}"))
        return driver.code
