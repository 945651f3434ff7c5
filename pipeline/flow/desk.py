"""A worker process on Ray tells the board what it is at, so that somebody notices when it dies over that or hangs."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import ray

from pipeline.flow.watchdog import beat_s, this_worker


class Desk:
    """What one worker process says to the board."""

    def __init__(self, board: Any, timeout_s: float) -> None:
        self._board = board
        self._worker = this_worker(ray.get_runtime_context().get_node_id())
        self._beat_s = beat_s(timeout_s)

    @contextlib.contextmanager
    def task(self, name: str, progress: Callable[[], int]) -> Iterator[int | None]:
        """Around a task: how many workers died over it. None: the run was asked to stop, and it must not begin.

        progress: it may take longer than the timeout as long as this changes.
        """
        deaths = ray.get(self._board.begin.remote(self._worker, name))
        try:
            with self._showing(name, progress):
                yield deaths
        finally:
            self._board.end.remote(self._worker, name)

    def is_stopped(self) -> bool:
        """Whether the run was asked to stop."""
        return bool(ray.get(self._board.is_stopped.remote()))

    def leave(self) -> NoReturn:
        """End this worker process in good order: Ray gives what it was at to another one, and starts a new one in its place."""
        ray.get(self._board.forget.remote(self._worker))  # behind what was told before
        os._exit(1)

    @contextlib.contextmanager
    def _showing(self, name: str, progress: Callable[[], int]) -> Iterator[None]:
        ended = threading.Event()

        def show() -> None:
            while not ended.wait(self._beat_s):
                self._board.show.remote(self._worker, name, progress())

        beats = threading.Thread(target=show, name="beats", daemon=True)
        beats.start()
        try:
            yield
        finally:
            ended.set()
            beats.join()
