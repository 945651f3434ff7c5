"""The simulated engine: workers that are processes of their own, die, are lost sight of, come back, and do things twice."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from faults.simulation.scheduler import Process, Scheduler
from faults.simulation.stand_ins import NO_VECTORS, Prepared

from pipeline.commit.records import AssemblyRecord
from pipeline.errors import EmbedpipeError, EncodeError, IncompleteError, InputError
from pipeline.flow import encoding as real_encoding
from pipeline.flow import engine, unit
from pipeline.flow import reading as real_reading
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.engine import AssemblyTask, stopped_assembling
from pipeline.flow.staging import Staging
from pipeline.plan.records import SegmentWork

MAX_RETRIES = 2


class Reading(real_reading.Reading):
    """The real reading, with rows parted by name."""

    def __init__(self, context: Any, draw: Callable[[], float]) -> None:
        self.context, self.store, self._steps = context, context.open_store(), 0
        self.preparer = SimpleNamespace(prepare=lambda rows, *_: Prepared(rows.names, draw))  # type: ignore[assignment]


class Encoding(real_encoding.Encoding):
    """The real encoding, with an encoder that fails now and then."""

    def __init__(self, context: Any, draw: Callable[[], float]) -> None:
        self.context, self.store, self._draw = context, context.open_store(), draw

    def _try(self, prepared: unit.PreparedUnit, attempt: str) -> unit.EncodedUnit:
        draw = self._draw()
        if draw < 0.02:
            raise EncodeError("the encoder failed")
        if draw < 0.03:
            raise InputError("a row that the config refuses, this time")
        return unit.EncodedUnit(
            task=prepared.task,
            prepared=prepared.prepared,
            digest=prepared.digest,
            vectors=NO_VECTORS,
            attempt=attempt,
            device="none",
            dtype="float32",
            gate={},
            padded_tokens=0,
            times=prepared.times,
        )

    _isolate = _try


@dataclass
class _Making:
    """Data files of one round, while they are made."""

    results: deque[AssemblyRecord | EmbedpipeError] = field(default_factory=deque)
    deaths: int = 0
    over: bool = False  # nobody waits for the rest any more


class SimulatedEngine:
    """Engine of one run. Workers share a queue of segments; the driver sees their acknowledgements in any order."""

    def __init__(
        self,
        scheduler: Scheduler,
        workers: int,
        zombies: float,
        draw: Callable[[], float],
        counts: Counter[str],
        late_end: Callable[[Any], None],
    ) -> None:
        self._scheduler, self._workers, self._zombies, self._draw = scheduler, workers, zombies, draw
        self._orphans: set[Process] = set()
        self._late_end = late_end  # told of what ends after its run
        self._counts = counts  # "excuses": reasons for working a unit once more
        driver = scheduler.current
        assert driver is not None
        self._driver = driver

    def encode(self, context: Any, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `pipeline.flow.engine.Engine.encode`."""
        queue = deque(work)
        acks: deque[Ack] = deque()
        at_work: dict[Process, SegmentWork | None] = {}
        for _ in range(min(self._workers, len(work))):
            process = self._spawn("worker", lambda: self._work(context, queue, acks, at_work, stop))
            at_work[process] = None
            process.at_end.append(lambda gone: self._ended(gone, acks, at_work))
        while True:
            while acks:
                yield acks.popleft()
            if not at_work:
                break
            self._scheduler.wait()
        if queue and not stop.is_set():
            raise IncompleteError("every worker has died")

    def assemble(self, tasks: Sequence[AssemblyTask], stop: threading.Event) -> Iterator[AssemblyRecord]:
        """See `pipeline.flow.engine.Engine.assemble`. A task whose process died is tried again under the same name."""
        if self._draw() < 0.5:
            for made, task in enumerate(tasks):
                if stop.is_set():
                    raise stopped_assembling(made, tasks)
                yield _assembled(task)
            return
        making = _Making()
        for task in tasks:
            self._begin_assembly(task, making, 0)
        try:
            for _ in tasks:
                while not making.results:
                    if making.deaths > MAX_RETRIES:
                        raise IncompleteError("assembling has killed its processes")
                    self._scheduler.wait()
                result = making.results.popleft()
                if isinstance(result, EmbedpipeError):
                    raise result
                yield result
        finally:
            making.over = True

    def close(self) -> None:
        """See `pipeline.flow.engine.Engine.close`."""

    def _begin_assembly(self, task: AssemblyTask, making: _Making, tries: int) -> None:
        answered: list[bool] = []

        def body() -> None:
            try:
                making.results.append(_assembled(task))
            except EmbedpipeError as error:
                making.results.append(error)
            answered.append(True)

        def ended(gone: Process) -> None:
            if not answered:
                making.deaths += 1
                if self._driver.dead or self._driver.finished:
                    pass  # what its run leaves behind is judged when that ends
                elif making.over:
                    self._left_behind(gone)
                elif tries < MAX_RETRIES:
                    self._begin_assembly(task, making, tries + 1)
            self._scheduler.wake(self._driver)

        process = self._spawn("assembler", body)
        process.at_end += [ended, self._outlived]

    def _spawn(self, what: str, body: Callable[[], None]) -> Process:
        process = self._scheduler.spawn(
            f"{self._driver.name}.{what}{len(self._scheduler.processes)}", body, self._driver.command
        )
        if self._draw() >= self._zombies:
            self._driver.at_end.insert(0, lambda _: self._scheduler.kill(process))
        else:
            self._orphans.add(process)
        return process

    def _outlived(self, process: Process) -> None:
        """An assembler that its run has not taken along may have done anything after its run."""
        if self._driver.finished and process in self._orphans:
            process.command.ended = "killed"
            self._left_behind(process)

    def _left_behind(self, process: Process) -> None:
        """One whose work nobody waits for any more may have died over it: a mark that somebody set meanwhile may be wrong."""
        process.command.alone = False
        self._late_end(process.command)

    def _work(
        self,
        context: Any,
        queue: deque[SegmentWork],
        acks: deque[Ack],
        at_work: dict[Process, SegmentWork | None],
        stop: threading.Event,
    ) -> None:
        me = self._scheduler.current
        assert me is not None
        reading, encoding, staging = Reading(context, self._draw), Encoding(context, self._draw), Staging(context)
        while queue and not stop.is_set():
            segment = queue.popleft()
            if self._draw() < 0.03:
                self._counts["excuses"] += 1
                queue.append(segment)  # begun twice, as schedulers do with what seems slow
            if me in at_work:
                at_work[me] = segment
            for prepared in reading.units(segment):
                encoded = prepared if isinstance(prepared, Ack) else encoding.encode(prepared)
                if isinstance(encoded, Ack) and encoded.state == "error":
                    self._counts["excuses"] += 1
                if self._draw() < 0.02:
                    self._lose(me, acks, at_work)
                acks.append(encoded if isinstance(encoded, Ack) else staging.stage(encoded))
                self._scheduler.wake(self._driver)
            if me in at_work:
                at_work[me] = None
            elif self._driver.finished:
                return

    def _lose(self, process: Process, acks: deque[Ack], at_work: dict[Process, SegmentWork | None]) -> None:
        """The driver takes a worker for dead that goes on much later."""
        self._counts["excuses"] += 1
        self._ended(process, acks, at_work)
        self._scheduler.park(20 + int(self._draw() * 400))

    def _ended(self, process: Process, acks: deque[Ack], at_work: dict[Process, SegmentWork | None]) -> None:
        if process in at_work:
            segment = at_work.pop(process)
            if segment is not None:
                acks.append(failed_ack("error", segment, 0, EncodeError("its worker is gone")))
        self._scheduler.wake(self._driver)


def _assembled(task: AssemblyTask) -> AssemblyRecord:
    return engine.Assembling(task).make()
