"""The Ray engine: one Ray Data graph per wave of segments. The only module that builds on Ray Data.

    segments → read+prepare (CPU tasks) → encode (actor pool, one replica each) → stage (CPU tasks) → acknowledgements

A unit travels as one row (see blocks.py), so nothing can split, merge or reorder it on the way; the driver sees
acknowledgements only. Ray restarts what dies a bounded number of times, then the graph fails and the supervisor
plans again from the records. Ray Data's own checkpointing and `write_parquet` are not used: see docs/design.md.
"""

import contextlib
import logging
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from pipeline.commit.records import AssemblyRecord
from pipeline.config.schema import Execution
from pipeline.errors import EmbedpipeError, EncodeError, IncompleteError
from pipeline.flow.acks import Ack, fatal_ack
from pipeline.flow.blocks import block_of, units_of
from pipeline.flow.cluster import (
    READ_CPUS,
    STAGE_CPUS,
    Pool,
    answers,
    check_shared,
    connect,
    forget,
    has_gpus,
    plan_pool,
    start_actor,
)
from pipeline.flow.context import JobContext
from pipeline.flow.desk import Desk
from pipeline.flow.encoding import MAX_DEATHS, Encoding, none_here
from pipeline.flow.engine import AssemblyTask
from pipeline.flow.losses import losses_told, told_by_ray
from pipeline.flow.metrics import Metrics
from pipeline.flow.ray_assembly import MAX_RETRIES, assemble
from pipeline.flow.ray_watch import STILL_S, Board, RayWatch, Wave
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.throwaway import LOADING_S
from pipeline.flow.unit import EncodedUnit, PreparedUnit, task_ack
from pipeline.plan.records import SegmentWork

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RESTARTS = 20
"""Deaths of one actor, over whatever tasks, before the graph fails."""

BLOCK_BYTES, BLOCK_SEGMENTS, MANY_SEGMENTS = 2 << 20, 20, 500
"""Where there are more than 500 segments small ones share a block: Ray Data handles about 20 blocks a second on two
cores, whatever is in them."""

OWN_BLOCK_BYTES = 1024
"""A block of this size leaves its step at once: each unit goes on alone, and none waits for company."""


LOOK_S = 5.0
"""Between two looks for a GPU, and for the board to hear of a stop."""

SORRY_S = 30.0
"""Between two units that a worker without a replica gives back."""


class RayEngine:
    """Connects to a Ray, or starts one on this machine, and runs waves on it."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._started = connect(execution.address)
        self._board = start_actor(Board, execution.address)
        self._gcs_address: str = ray.get_runtime_context().gcs_address
        self._metrics = Metrics()
        self._most_gpus = 0  # that a wave was on
        self._gone_since: float | None = None  # when there was none of them any more, by the monotonic clock
        self._watch = RayWatch(self._board, self._gcs_address, execution.unit_timeout_s)

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `Engine.encode`. Raises IncompleteError when the graph fails beyond Ray's own mending, StorageError when
        the output is a local path that some node doesn't see."""
        with self._watch.at_work():
            check_shared(context.output, context.environment)
        ended = threading.Event()
        listener = threading.Thread(target=self._pass_on, args=(stop, ended), name="stop-listener", daemon=True)
        listener.start()
        try:
            for begin in range(0, len(work), self._execution.wave_units):
                if not stop.is_set():
                    for ack in self._wave(context, work[begin : begin + self._execution.wave_units], stop):
                        self._metrics.count(ack, context.output)
                        yield ack
        finally:
            ended.set()
            listener.join()

    def _pass_on(self, stop: threading.Event, ended: threading.Event) -> None:
        """Tell the workers on the cluster once the driver was asked to stop."""
        while not ended.wait(0.2):
            if stop.is_set():  # again and again: a board that died and came back has forgotten it
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.get(self._board.stop.remote(), timeout=LOOK_S)

    def _wave(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        _configure()
        with losses_told():
            pool = self._pool(stop)
            log.debug("wave of %d segments on %s", len(work), pool)
            with warnings.catch_warnings():
                # The named parameters that replace them don't cover restarts yet; see pyproject.toml for when this goes.
                warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
                graph = self._graph(_blocks(work), pickle.dumps(context), pool)
        lost, executor = threading.Event(), _executor_of(graph)

        def give_up() -> bool:
            if executor() is None:
                return False
            lost.set()
            executor().shutdown(force=True)  # iterating ends as if all were done
            return True

        with self._watch.at_work(Wave(give_up, stop, "CPU" if pool.num_gpus is None else "GPU")):
            yield from self._acks(graph)
        if lost.is_set():
            raise IncompleteError("Ray has lost sight of a part of the work")

    def _pool(self, stop: threading.Event) -> Pool:
        """Replicas for a wave: on GPUs as many as an earlier one had. What was taken away may come back, and is asked for."""
        if self._most_gpus:
            self._await_gpus(stop)
        pool = plan_pool(self._execution)
        if pool.num_gpus is None:
            return pool
        if pool.replicas < self._most_gpus:
            log.warning("the cluster has %d GPUs where it had %d; more are waited for", pool.replicas, self._most_gpus)
        self._most_gpus = max(self._most_gpus, pool.replicas)
        return replace(pool, replicas=self._most_gpus)

    def _await_gpus(self, stop: threading.Event) -> None:
        """What was begun on GPUs doesn't go on without. Raises IncompleteError when there was none for an hour, over however many
        rounds."""
        while not has_gpus(self._execution):
            if self._gone_since is None:
                self._gone_since = time.monotonic()
                log.warning("the cluster has no GPU any more; waiting up to %.0f min for one", STILL_S / 60)
            if time.monotonic() - self._gone_since > STILL_S or stop.wait(LOOK_S):
                raise IncompleteError(
                    "the cluster has no GPU any more, which the run had begun on; once there is one again, or with "
                    "execution.device cpu, the same command goes on"
                )
        self._gone_since = None

    def _acks(self, graph: ray.data.Dataset) -> Iterator[Ack]:
        try:
            for block in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for ack in units_of(block):
                    assert isinstance(ack, Ack)
                    yield ack
        except EmbedpipeError:
            raise
        except Exception as error:  # whatever Ray makes of dead workers, lost nodes and timeouts
            raise IncompleteError(f"the Ray graph failed: {told_by_ray(error)}") from error

    def _graph(self, blocks: list[pa.Table], shared: bytes, pool: Pool) -> ray.data.Dataset:
        tasks: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None, "max_retries": MAX_RETRIES}
        # Ray Data's other ways to begin look at each block in a task, which waits for a core before there is anything to end.
        return (
            ray.data.from_blocks(blocks)
            .map_batches(_read, fn_args=(shared, self._board), num_cpus=READ_CPUS, **tasks)
            .map_batches(
                EncodeActor,
                fn_constructor_args=(shared, pool.threads, self._board),
                batch_format="pyarrow",
                batch_size=1,
                compute=ActorPoolStrategy(size=pool.replicas),
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                max_restarts=MAX_RESTARTS,
                max_task_retries=MAX_RETRIES,
            )
            .map_batches(_stage, fn_args=(shared, self._board), num_cpus=STAGE_CPUS, **tasks)
        )

    def assemble(self, tasks: Sequence[AssemblyTask], stop: threading.Event) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`."""
        return assemble(tasks, stop, self._watch, self._board, self._execution.unit_timeout_s)

    def close(self) -> None:
        """See `Engine.close`. A Ray that was there before stays."""
        if answers(self._gcs_address):
            self._watch.end_workers()
            ray.kill(self._board)
            if self._started:
                ray.shutdown()
        else:
            forget()
        self._watch.end()


class EncodeActor:
    """One model replica. A replica that can't be had answers every unit with the reason instead of dying: slowly where it may
    be this machine's fault, so that others get what there is."""

    def __init__(self, shared: bytes, threads: int | None, board: Any) -> None:
        context: JobContext = pickle.loads(shared)
        self._make = partial(Encoding, context, threads)
        self._desk = Desk(board, context.unit_timeout_s)
        self._transfer_s = 0.0  # passing a unit on, then taking the next one over
        self._encoding: Encoding | Ack | None = None
        self._missing = ""
        self._load()

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Units in, units with vectors out."""
        began = time.monotonic()
        for unit in units_of(block):
            self._transfer_s += time.monotonic() - began
            encoded = self._encode(unit) if isinstance(unit, PreparedUnit) else unit
            began, made = time.monotonic(), block_of([encoded])
            self._transfer_s = time.monotonic() - began
            yield made
            began = time.monotonic()

    def _load(self) -> None:
        """Have a replica or the reason why there can be none, or why there is none on this machine now."""
        actor, began = ray.get_runtime_context().get_actor_id(), time.monotonic()
        # A load has no progress to show; the driver's limit on it is that of everything that stands still.
        with self._desk.task(f"load {actor}", lambda: -int(min(LOADING_S, time.monotonic() - began))) as deaths:
            if deaths is None:  # the run was asked to stop
                return
            if deaths >= MAX_DEATHS:  # over the gate's texts, most likely: no use to restart it 20 times
                raise RuntimeError("loading a replica has ended its process each time")
            try:
                self._encoding, self._missing = _setup(self._make), ""
            except Exception as error:  # of a device, most likely
                self._missing = none_here(error)
                log.warning("%s", self._missing)

    def _encode(self, unit: PreparedUnit) -> EncodedUnit | Ack:
        if self._encoding is None and not self._desk.is_stopped():
            time.sleep(SORRY_S)
            self._load()
        encoding = self._encoding
        if encoding is None and self._desk.is_stopped():
            return task_ack("stopped", unit.task)
        if encoding is None:
            return task_ack(
                "error", unit.task, EncodeError(f"{self._missing}; take the machine away or mend it, and run again")
            )
        if isinstance(encoding, Ack):
            return encoding
        unit = replace(unit, times=replace(unit.times, transfer=round(self._transfer_s * 1000)))
        with self._desk.task(f"encode {unit.task.unit}", lambda: encoding.progress) as deaths:
            # Readers may be far ahead of a stop.
            encoded = task_ack("stopped", unit.task) if deaths is None else encoding.encode(unit, deaths)
        if encoding.worn_out:
            self._desk.leave()
        return encoded


def _executor_of(graph: ray.data.Dataset) -> Callable[[], Any]:
    """Gives Ray Data's executor of a graph, None before it is begun. Ray Data has no public way to end what is waited for, and
    keeps its executor to itself until a first block has come out."""
    create, made = graph._create_executor, []

    def remember() -> Any:
        made.append(create())
        return made[-1]

    graph._create_executor = remember
    return lambda: made[-1] if made else None


def _read(block: pa.Table, shared: bytes, board: Any) -> Iterator[pa.Table]:
    reading = _reading(shared)
    for work in units_of(block):
        if isinstance(reading, Ack):
            yield block_of([reading])
            continue
        assert isinstance(work, SegmentWork)
        desk = Desk(board, reading.context.unit_timeout_s)
        units: Iterator[PreparedUnit | Ack] | None = None
        while True:
            with desk.task(f"read {work.id}", lambda: reading.progress) as deaths:
                if units is None:
                    units = reading.units_apart(work) if (deaths or 0) >= MAX_DEATHS else reading.units(work)
                unit = None if deaths is None else next(units, None)
            if unit is None:
                break
            yield block_of([unit])


def _stage(block: pa.Table, shared: bytes, board: Any) -> pa.Table:
    staging = _staging(shared)
    acks = []
    for unit in units_of(block):
        if isinstance(unit, Ack):
            acks.append(unit)
        elif isinstance(staging, Ack):
            acks.append(staging)
        else:
            assert isinstance(unit, EncodedUnit)
            desk = Desk(board, staging.context.unit_timeout_s)
            with desk.task(f"stage {unit.task.unit}", lambda: staging.progress):
                acks.append(staging.stage(unit))  # also when asked to stop: what was begun is finished
    return block_of(acks)


@lru_cache(maxsize=1)
def _reading(shared: bytes) -> Reading | Ack:
    return _setup(lambda: Reading(pickle.loads(shared)))


@lru_cache(maxsize=1)
def _staging(shared: bytes) -> Staging | Ack:
    return _setup(lambda: Staging(pickle.loads(shared)))


def _setup(make: Callable[[], T]) -> T | Ack:
    try:
        return make()
    except EmbedpipeError as error:
        return fatal_ack(error)


def _blocks(work: Sequence[SegmentWork]) -> list[pa.Table]:
    blocks: list[list[SegmentWork]] = [[]]
    most = max(1, min(BLOCK_SEGMENTS, len(work) // MANY_SEGMENTS))
    size = 0
    for segment in work:
        if blocks[-1] and (size + segment.bytes > BLOCK_BYTES or len(blocks[-1]) >= most):
            blocks.append([])
            size = 0
        blocks[-1].append(segment)
        size += segment.bytes
    return [block_of(block) for block in blocks]


def _configure() -> None:
    """Ray Data's settings, before the graph is made: they are copied into it."""
    context = DataContext.get_current()
    context.checkpoint_config = None
    context.max_errored_blocks = 0  # more would lose a failed block's units without a word
    context.execution_no_progress_timeout_s = -1  # the watchdog knows better: a slow unit may still get on
    context.actor_init_retry_on_errors = True
    context.actor_init_max_retries = MAX_RETRIES
    context.target_max_block_size = OWN_BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
