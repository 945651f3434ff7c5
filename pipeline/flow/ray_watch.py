"""What the driver looks after while Ray works: workers that hang, work that Ray has lost sight of, and the cluster itself."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.flow import watchdog
from pipeline.flow.cluster import LostCluster, leave
from pipeline.flow.losses import losses_told
from pipeline.flow.watchdog import BEAT_S, Overdue, Worker, beat_s, kill_worker, this_worker

log = logging.getLogger(__name__)

KILL_S = 30.0
"""For a killing to be carried out on the worker's node, and for the board to answer."""

MOST_SILENT = 2
"""Times in a row that the board may give no answer before its process is taken for stopped."""

IDLE_S = 600.0
"""After that, with nobody at anything though encoding was begun and no machine is missing, Ray has lost sight of a task: what is
pending is better planned again."""

STOP_S = 20.0
"""After that, with nobody at anything though the run was asked to stop, what Ray waits for is a machine: the stop does not."""

STILL_S = 3600.0
"""After that, without anything begun, ended or got on with, no more is to be hoped of Ray. Loading a model, or waiting for an
autoscaler, takes less."""


class Board(watchdog.Board):
    """The board as an actor, which can be stopped like any other process."""

    def process(self) -> Worker:
        """It."""
        return this_worker(ray.get_runtime_context().get_node_id())


@dataclass(frozen=True, slots=True)
class _Told:
    """What the board says; nothing where it gave no answer."""

    late: Sequence[Overdue] = ()
    unattended_s: float = 0.0
    idle_s: float = 0.0
    still_s: float = 0.0


@dataclass(slots=True)
class Wave:
    """What is waited for, and how that is ended."""

    give_up: Callable[[], bool]  # ends it as if all were done; whether it could: not before Ray has begun with it
    stop: threading.Event  # set when the run is asked to stop
    resource: str  # CPU or GPU: what the encoders are on
    most: float = 0.0  # of it that the cluster has had during the wave


class RayWatch:
    """Two threads beside the one that waits for Ray, which can't look around."""

    def __init__(self, board: Any, gcs_address: str, timeout_s: float) -> None:
        """timeout_s: for which a worker may show no progress."""
        self._board = board
        self._board_process: Worker | None = None
        self._silent = 0  # times that the board gave no answer, in a row
        self._timeout_s = timeout_s
        self._at_work = False
        self._wave: Wave | None = None
        self._closing, self._closed = threading.Event(), threading.Event()
        self._workers = threading.Thread(target=self._watch_workers, name="watchdog", daemon=True)
        self._workers.start()
        threading.Thread(target=self._watch_cluster, args=(gcs_address,), name="cluster-watch", daemon=True).start()

    @contextlib.contextmanager
    def at_work(self, wave: Wave | None = None) -> Iterator[None]:
        """While the board ought to hear of progress. Raises as `losses_told` does.

        wave: given up once nobody is at anything any more though no machine is missing, or the run was asked to stop.
        """
        try:
            with losses_told():
                ray.get(self._board.clear.remote())
                self._at_work, self._wave = True, wave
                yield
        finally:
            self._at_work, self._wave = False, None

    def end_workers(self) -> None:
        """No worker is to be looked after any more. The cluster still is, until `end`."""
        self._closing.set()
        self._workers.join()

    def end(self) -> None:
        """Nothing is."""
        self._closing.set()
        self._closed.set()

    def _watch_cluster(self, gcs_address: str) -> None:
        """End this process in good order when the cluster itself is gone. Alone, as nothing else returns in time then."""
        lost = LostCluster(gcs_address)
        while not self._closed.wait(BEAT_S):
            lost.check()

    def _watch_workers(self) -> None:
        while not self._closing.wait(beat_s(self._timeout_s)):
            # Before the board is asked: what it tells is of the time before, not of a wave that begins meanwhile.
            at_work, wave = self._at_work, self._wave
            told = self._ask()
            for one in told.late:
                with contextlib.suppress(ray.exceptions.RayError):  # its node is gone or away: it is told of again
                    self._kill(one)
            if wave is not None and self._attend(wave, told.unattended_s, told.idle_s) and self._wave is wave:
                self._wave = None
            if at_work and told.still_s > max(STILL_S, 2 * self._timeout_s):
                leave(
                    f"nothing was begun and nothing got on for {told.still_s:,.0f} s: Ray finds no room for the workers "
                    "(`ray status` tells), or has lost sight of them. What is committed stays; run the same command again"
                )

    def _ask(self) -> _Told:
        """What there is to be looked after. A board that gives no answer at all was stopped: everybody would wait for it, also
        who is told to stop. Its process is killed, and Ray starts another one."""
        board = self._board
        asked = (board.process, board.unattended_s, board.idle_s, board.still_s)
        try:
            late = ray.get(board.overdue.remote(self._timeout_s), timeout=KILL_S)
            self._board_process, *seconds = ray.get([each.remote() for each in asked], timeout=KILL_S)
        except ray.exceptions.GetTimeoutError:
            self._silent += 1
            if self._silent == MOST_SILENT:
                log.warning("the board gives no answer; its process is killed, and another one takes its place")
            if self._silent >= MOST_SILENT and self._board_process is not None:
                # Its node may be gone or away: Ray knows, or it is tried again.
                with contextlib.suppress(ray.exceptions.RayError):
                    self._end_process(self._board_process)
            return _Told()
        except ray.exceptions.RayError:  # a lost cluster shows in what waits for the work itself
            return _Told()
        self._silent = 0
        return _Told(late, *seconds)

    def _attend(self, wave: Wave, unattended_s: float, idle_s: float) -> bool:
        """Give a wave up where nobody will come; whether it was."""
        try:
            if wave.stop.is_set() and unattended_s > STOP_S:
                if not wave.give_up():
                    leave("stopped on request before Ray began with anything. Run the same command again to go on")
                return True
            there = ray.cluster_resources().get(wave.resource, 0.0)
            wave.most = max(wave.most, there)  # a machine that is missing may come back, and is waited for
            if idle_s > IDLE_S and there >= wave.most and wave.give_up():
                log.warning("no worker has been at anything for %.0f s: what Ray still owes is planned again", idle_s)
                return True
        except Exception as error:  # it is Ray's own; this thread has workers to look after
            log.warning("Ray's graph can't be ended (%s): %s", type(error).__name__, error)
        return False

    def _kill(self, late: Overdue) -> None:
        with contextlib.suppress(ray.exceptions.TaskUnschedulableError):  # its node is no more, and it neither
            if self._end_process(late.worker):
                log.warning("%s: no progress for %.0f s; its process is killed", late.task, late.silent_s)
        ray.get(self._board.forget.remote(late.worker), timeout=KILL_S)

    def _end_process(self, worker: Worker) -> bool:
        """Kill a process where it is; False where it is gone already."""
        place = NodeAffinitySchedulingStrategy(worker.node, soft=False)
        kill = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(kill_worker)
        return bool(ray.get(kill.remote(worker), timeout=KILL_S))
