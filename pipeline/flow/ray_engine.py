"""The Ray engine: one Ray Data graph per wave of segments. The only module that builds on Ray Data.

    segments → read+prepare (CPU tasks) → encode (actor pool, one replica each) → stage (CPU tasks) → acknowledgements

A unit travels as one row holding one binary value, so nothing can split, merge or reorder it on the way; the driver
sees acknowledgements only. Ray restarts what dies a bounded number of times, then the graph fails and the supervisor
plans again from the records. Ray Data's own checkpointing and `write_parquet` are not used: see docs/design.md.
"""

import logging
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from pipeline.commit.records import AssemblyRecord
from pipeline.config.schema import Execution
from pipeline.errors import EmbedpipeError, IncompleteError
from pipeline.flow.acks import Ack, fatal_ack
from pipeline.flow.cluster import READ_CPUS, STAGE_CPUS, Pool, check_shared, connect, plan_pool
from pipeline.flow.context import JobContext
from pipeline.flow.engine import AssemblyTask, assemble_file
from pipeline.flow.metrics import Metrics
from pipeline.flow.unit import EncodedUnit, Encoding, PreparedUnit, Reading, Staging, task_ack
from pipeline.plan.records import SegmentWork

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RESTARTS = 3
"""Deaths of one actor, or of one task's worker, that Ray mends by itself before the graph fails."""

BLOCK_BYTES, BLOCK_SEGMENTS, MANY_SEGMENTS = 2 << 20, 20, 500
"""Where there are more than 500 segments small ones share a block: Ray Data handles about 20 blocks a second on two
cores, whatever is in them."""

OWN_BLOCK_BYTES = 1024
"""A block of this size leaves its step at once: each unit goes on alone, and none waits for company."""


class RayEngine:
    """Connects to a Ray, or starts one on this machine, and runs waves on it."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._started = connect(execution.address)
        self._stop = ray.remote(num_cpus=0)(StopFlag).remote()
        self._metrics = Metrics()

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `Engine.encode`. Raises IncompleteError when the graph fails beyond Ray's own mending, StorageError when
        the output is a local path that some node doesn't see."""
        check_shared(context.output, context.environment)
        ended = threading.Event()
        watcher = threading.Thread(target=self._pass_on, args=(stop, ended), name="stop-watcher", daemon=True)
        watcher.start()
        try:
            for begin in range(0, len(work), self._execution.wave_units):
                if not stop.is_set():
                    for ack in self._wave(context, work[begin : begin + self._execution.wave_units]):
                        self._metrics.count(ack, context.output)
                        yield ack
        finally:
            ended.set()
            watcher.join()

    def _pass_on(self, stop: threading.Event, ended: threading.Event) -> None:
        """Tell the readers on the cluster once the driver was asked to stop."""
        while not ended.is_set():
            if stop.wait(timeout=0.2):
                ray.get(self._stop.set.remote())
                return

    def _wave(self, context: JobContext, work: Sequence[SegmentWork]) -> Iterator[Ack]:
        _configure(self._execution)
        pool = plan_pool(self._execution)
        log.debug("wave of %d segments on %s", len(work), pool)
        shared = pickle.dumps(context)
        with warnings.catch_warnings():
            # The named parameters that replace them don't cover restarts yet; see pyproject.toml for when this goes.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            graph = self._graph(_blocks(work), shared, pool)
        try:
            for block in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from (pickle.loads(payload) for payload in block["payload"].to_pylist())
        except EmbedpipeError:
            raise
        except Exception as error:  # whatever Ray makes of dead workers, lost nodes and timeouts
            raise IncompleteError(f"the Ray graph failed: {_first_line(error)}") from error

    def _graph(self, blocks: list[pa.Table], shared: bytes, pool: Pool) -> ray.data.Dataset:
        tasks: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None, "max_retries": MAX_RESTARTS}
        return (
            ray.data.from_arrow(blocks)
            .map_batches(_read, fn_args=(shared, self._stop), num_cpus=READ_CPUS, **tasks)
            .map_batches(
                EncodeActor,
                fn_constructor_args=(shared, pool.threads, self._stop),
                batch_format="pyarrow",
                batch_size=1,
                compute=ActorPoolStrategy(size=pool.replicas),
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                max_restarts=MAX_RESTARTS,
                max_task_retries=MAX_RESTARTS,
            )
            .map_batches(_stage, fn_args=(shared,), num_cpus=STAGE_CPUS, **tasks)
        )

    def assemble(self, tasks: Sequence[AssemblyTask]) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`. As many at a time as there are cores, and memory for."""
        remote = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(_assemble)
        waiting = list(tasks)
        running: list[Any] = []
        width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < width:
                task = waiting.pop()
                running.append(remote.options(memory=task.peak_bytes).remote(task))
            ready, running = ray.wait(running, num_returns=1)
            result = ray.get(ready[0])
            if isinstance(result, EmbedpipeError):
                raise result
            yield result

    def close(self) -> None:
        """See `Engine.close`. A Ray that was there before stays."""
        ray.kill(self._stop)
        if self._started:
            ray.shutdown()


class StopFlag:
    """An actor that readers and encoders ask before each unit."""

    def __init__(self) -> None:
        self._stopped = False

    def set(self) -> None:
        """No new unit is to be begun."""
        self._stopped = True

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._stopped


class EncodeActor:
    """One model replica. A replica that can't be had answers every unit with the reason instead of dying."""

    def __init__(self, shared: bytes, threads: int | None, stop: Any) -> None:
        self._encoding = _setup(lambda: Encoding(pickle.loads(shared), threads))
        self._stop = stop

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Units in, units with vectors out."""
        for payload in block["payload"]:
            unit = pickle.loads(payload.as_buffer())
            yield _block([unit if isinstance(unit, Ack) else self._encode(unit)])

    def _encode(self, unit: PreparedUnit) -> EncodedUnit | Ack:
        if isinstance(self._encoding, Ack):
            return self._encoding
        if ray.get(self._stop.is_set.remote()):  # readers may be far ahead
            return task_ack("stopped", unit.task)
        return self._encoding.encode(unit)


def _read(block: pa.Table, shared: bytes, stop: Any) -> Iterator[pa.Table]:
    reading = _reading(shared)
    for payload in block["payload"]:
        if isinstance(reading, Ack):
            yield _block([reading])
            continue
        units = reading.units(pickle.loads(payload.as_buffer()))
        while not ray.get(stop.is_set.remote()) and (unit := next(units, None)) is not None:
            yield _block([unit])


def _stage(block: pa.Table, shared: bytes) -> pa.Table:
    staging = _staging(shared)
    acks = []
    for payload in block["payload"]:
        unit = pickle.loads(payload.as_buffer())
        if not isinstance(unit, Ack):
            unit = staging if isinstance(staging, Ack) else staging.stage(unit)
        acks.append(unit)
    return _block(acks)


def _assemble(task: AssemblyTask) -> AssemblyRecord | EmbedpipeError:
    """Errors are results here: raised, they'd arrive wrapped in Ray's own types."""
    try:
        return assemble_file(task)
    except EmbedpipeError as error:
        return error


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


def _block(units: Sequence[object]) -> pa.Table:
    return pa.table({"payload": pa.array([pickle.dumps(unit, protocol=5) for unit in units], pa.large_binary())})


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
    return [_block(block) for block in blocks]


def _configure(execution: Execution) -> None:
    """Ray Data's settings, before the graph is made: they are copied into it."""
    context = DataContext.get_current()
    context.checkpoint_config = None
    context.max_errored_blocks = 0  # more would lose a failed block's units without a word
    context.execution_no_progress_timeout_s = execution.unit_timeout_s
    context.actor_init_retry_on_errors = True
    context.actor_init_max_retries = MAX_RESTARTS
    context.target_max_block_size = OWN_BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
