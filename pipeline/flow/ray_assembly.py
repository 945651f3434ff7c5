"""Assembling on Ray: a task for each data file, as many at a time as there are cores, and memory for."""

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from pipeline.commit.records import AssemblyRecord
from pipeline.errors import EmbedpipeError, IncompleteError
from pipeline.flow.cluster import largest_memory_bytes
from pipeline.flow.desk import Desk
from pipeline.flow.engine import Assembling, AssemblyTask, stopped_assembling
from pipeline.flow.losses import told_by_ray
from pipeline.flow.ray_watch import RayWatch, Wave

log = logging.getLogger(__name__)

MAX_RETRIES = 3
"""Deaths over one task that Ray mends by itself. By the third try a unit's texts are tried apart."""


def assemble(
    tasks: Sequence[AssemblyTask], stop: threading.Event, watch: RayWatch, board: Any, timeout_s: float
) -> Iterator[AssemblyRecord]:
    """See `Engine.assemble`. timeout_s: without any progress."""
    running: list[ray.ObjectRef[Any]] = []

    def give_up() -> bool:
        for task in running.copy():  # by another thread
            ray.cancel(task)
        return True

    with watch.at_work(Wave(give_up, stop, "CPU")):
        remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_assemble)
        width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        most = _most_bytes(tasks)
        waiting, made = list(tasks), 0
        while True:
            while waiting and len(running) < width and not stop.is_set():
                task = waiting.pop()
                running.append(remote.options(memory=min(task.peak_bytes, most)).remote(task, board, timeout_s))
            if not running:
                break
            [ready], running[:] = ray.wait(running, num_returns=1)
            try:
                result = ray.get(ready)
            except ray.exceptions.TaskCancelledError as error:
                if stop.is_set():
                    raise stopped_assembling(made, tasks) from error
                raise IncompleteError(
                    f"{made} of {len(tasks)} data files are made, and Ray begins no other one: no machine has a core and memory "
                    "for it. Run the same command again to go on, on a machine with more, or with a smaller output.file_mib"
                ) from error
            except ray.exceptions.RayError as error:
                raise IncompleteError(f"a data file could not be made: {told_by_ray(error)}") from error
            if isinstance(result, EmbedpipeError):
                raise result
            yield result
            made += 1
    if waiting:
        raise stopped_assembling(made, tasks)


def _most_bytes(tasks: Sequence[AssemblyTask]) -> int:
    """Memory that Ray is to keep free for a task at most. Where no machine has as much as one may take, that has to do: the
    estimate is a generous one."""
    needed, there = max((task.peak_bytes for task in tasks), default=0), largest_memory_bytes()
    if needed <= there or not there:  # none is there just now
        return needed
    log.warning(
        "making a data file may take %.1f GiB of memory, and the largest machine has %.1f for Ray; if it runs out, lower "
        "output.file_mib", needed / 2**30, there / 2**30,
    )  # fmt: skip
    return there


def _assemble(task: AssemblyTask, board: Any, timeout_s: float) -> AssemblyRecord | EmbedpipeError:
    """Errors are results here: raised, they'd arrive wrapped in Ray's own types."""
    assembling = Assembling(task)
    try:
        with Desk(board, timeout_s).task(assembling.name, lambda: assembling.progress):
            return assembling.make()
    except EmbedpipeError as error:
        return error
