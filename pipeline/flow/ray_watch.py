"""What the driver looks after while Ray works: workers that hang, work that Ray has lost sight of, and the cluster itself."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.flow.cluster import LostCluster, leave
from pipeline.flow.losses import losses_told
from pipeline.flow.watchdog import BEAT_S, Overdue, beat_s, kill_worker

log = logging.getLogger(__name__)

KILL_S = 30.0
"""For a killing to be carried out on the worker's node."""

IDLE_S = 600.0
"""After that, with nobody at anything though encoding was begun and no machine is missing, Ray has lost sight of a task: what is
pending is better planned again."""

STOP_S = 20.0
"""After that, with nobody at anything though the run was asked to stop, what Ray waits for is a machine: the stop does not."""

STILL_S = 3600.0
"""After that, without anything begun, ended or got on with, no more is to be hoped of Ray. Loading a model, or waiting for an
autoscaler, takes less."""


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
            late: list[Overdue] = []
            unattended_s = idle_s = still_s = 0.0
            with contextlib.suppress(ray.exceptions.RayError):  # a lost cluster shows in what waits for the work itself
                late = ray.get(self._board.overdue.remote(self._timeout_s), timeout=KILL_S)
                asked = (self._board.unattended_s, self._board.idle_s, self._board.still_s)
                unattended_s, idle_s, still_s = ray.get([each.remote() for each in asked], timeout=KILL_S)
            for one in late:
                with contextlib.suppress(ray.exceptions.RayError):  # its node is gone or away: it is told of again
                    self._kill(one)
            if wave is not None and self._attend(wave, unattended_s, idle_s) and self._wave is wave:
                self._wave = None
            if at_work and still_s > max(STILL_S, 2 * self._timeout_s):
                leave(
                    f"nothing was begun and nothing got on for {still_s:,.0f} s: Ray finds no room for the workers (`ray status` "
                    "tells), or has lost sight of them. What is committed stays; run the same command again"
                )

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
        place = NodeAffinitySchedulingStrategy(late.worker.node, soft=False)
        kill = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(kill_worker)
        with contextlib.suppress(ray.exceptions.TaskUnschedulableError):  # its node is no more, and it neither
            if ray.get(kill.remote(late.worker), timeout=KILL_S):  # not gone already
                log.warning("%s: no progress for %.0f s; its process is killed", late.task, late.silent_s)
        ray.get(self._board.forget.remote(late.worker), timeout=KILL_S)
