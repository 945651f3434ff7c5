"""The batches of a unit shared out among threads with a core each, on a CPU.

Two products on a core each are done sooner than one product after the other on both: there the cores wait for each other at
the end of every product, and all of them when something else takes one away. Weights are there once.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from pipeline.encode.layout import Layout
from pipeline.encode.texts import Texts

SMALLEST_TOKENS = 512
"""Of the last batches, which are cut small so that all threads end at about the same time."""


class Batches:
    """Ranges of texts for whoever asks next, the longest texts first. The same ranges, whoever asks."""

    def __init__(self, texts: Texts, layout: Layout, threads: int) -> None:
        self._texts, self._layout, self._threads = texts, layout, threads
        self._first = 0
        self._lock = threading.Lock()

    def take(self, budget: int) -> tuple[int, int] | None:
        """(first, stop) of a batch of at most so many tokens, or of one text; None: there are no more."""
        with self._lock:
            first = self._first
            if first >= len(self._texts):
                return None
            if self._threads > 1:
                rest = int(self._texts.starts[-1] - self._texts.starts[first])
                budget = min(budget, max(SMALLEST_TOKENS, rest // self._threads))
            self._first = self._layout.cut(self._texts, first, budget)
            return first, self._first

    def end(self) -> None:
        """There are no more."""
        with self._lock:
            self._first = len(self._texts)


def run_beside(work: Callable[[], None], threads: int) -> None:
    """Call `work` in so many threads at once, this one among them, each with its share of the cores for torch. What any of them
    raises is raised once all have ended. Where no more threads can be had, those there are do it all."""
    if threads <= 1:
        work()
        return
    cores = torch.get_num_threads()
    each = max(1, cores // threads)
    torch.set_num_threads(each)
    try:
        with ThreadPoolExecutor(threads - 1, "encode", lambda: torch.set_num_threads(each)) as pool:
            others: list[Future[None]] = []
            with contextlib.suppress(RuntimeError):  # can't start new thread
                for _ in range(threads - 1):
                    others.append(pool.submit(work))  # noqa: PERF401 - those before one that fails are kept
            work()
        for other in others:
            other.result()
    finally:
        torch.set_num_threads(cores)
