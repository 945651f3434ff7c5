"""The serial engine: the same steps in this process, without Ray.

The reference that other engines are compared with, and the way to run where Ray is not installed.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from pipeline.commit.records import AssemblyRecord
from pipeline.encode.blame import is_machines
from pipeline.errors import EmbedpipeError, EncodeError, IncompleteError
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.flow.encoding import Encoding, none_here
from pipeline.flow.engine import Assembling, AssemblyTask, stopped_assembling
from pipeline.flow.overlap import ahead, behind
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.throwaway import LOADING_S
from pipeline.flow.unit import EncodedUnit, PreparedUnit
from pipeline.flow.watchdog import Board, Worker, beat_s, this_worker
from pipeline.plan.records import SegmentWork

log = logging.getLogger(__name__)


AHEAD = 1
"""Units that are read, and units that are staged, while one is encoded. With 0 everything comes strictly in turn."""


class SerialEngine:
    """Encodes and assembles in the calling thread; reads ahead of it and stages behind it in one thread each.

    The model stays loaded between calls for the same job. In memory are at most 1 + 2 · AHEAD units.
    """

    def __init__(self, threads: int | None, unit_timeout_s: float) -> None:
        self._threads = threads  # CPU threads of the model; None: all cores
        self._encoding: Encoding | None = None
        self._watchdog = _Watchdog(unit_timeout_s)

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `Engine.encode`."""
        if stop.is_set():
            return  # loading a model and measuring it takes longer than many a scheduler waits
        if self._encoding is None or self._encoding.context.spec_id != context.spec_id:
            self._encoding = self._load(context)
        encoding, reading, staging = self._encoding, Reading(context), Staging(context)
        with contextlib.closing(ahead(self._read(reading, work, stop), AHEAD)) as read:
            units = takewhile(lambda _: not stop.is_set(), read)
            encoded = (self._encode(encoding, unit) for unit in units)
            yield from behind(lambda unit: self._stage(staging, unit), encoded, AHEAD)

    def _load(self, context: JobContext) -> Encoding:
        """Within an hour: a text of the parity gate's may hang. Raises EncodeError where this machine is to blame that there is
        no replica: another one may have it."""
        since = time.monotonic()
        try:
            with self._watchdog.task("load model", lambda: int(min(LOADING_S, time.monotonic() - since))):
                return Encoding(context, self._threads)
        except EmbedpipeError:
            raise
        except Exception as error:
            if not is_machines(error):
                raise
            raise EncodeError(f"{none_here(error)}; mend that or take another machine, and run again") from error

    def _read(
        self, reading: Reading, work: Sequence[SegmentWork], stop: threading.Event
    ) -> Iterator[PreparedUnit | Ack]:
        for segment in work:
            units = reading.units(segment)
            while not stop.is_set():
                with self._watchdog.task(f"read {segment.id}", lambda: reading.progress):
                    unit = next(units, None)
                if unit is None:
                    break
                yield unit

    def _encode(self, encoding: Encoding, unit: PreparedUnit | Ack) -> EncodedUnit | Ack:
        if isinstance(unit, Ack):
            return unit
        with self._watchdog.task(f"encode {unit.task.unit}", lambda: encoding.progress):
            encoded = encoding.encode(unit)
        if encoding.worn_out and isinstance(encoded, Ack):
            return replace(encoded, state="fatal")  # so would all others end
        return encoded

    def _stage(self, staging: Staging, unit: EncodedUnit | Ack) -> Ack:
        if isinstance(unit, Ack):
            return unit
        with self._watchdog.task(f"stage {unit.task.unit}", lambda: staging.progress):
            return staging.stage(unit)

    def assemble(self, tasks: Sequence[AssemblyTask], stop: threading.Event) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`."""
        for made, task in enumerate(tasks):
            if stop.is_set():
                raise stopped_assembling(made, tasks)
            yield self._assemble(task)

    def _assemble(self, task: AssemblyTask) -> AssemblyRecord:
        assembling = Assembling(task)
        with self._watchdog.task(assembling.name, lambda: assembling.progress):
            return assembling.make()

    def close(self) -> None:
        """See `Engine.close`."""
        self._watchdog.close()
        self._encoding = None


class _Watchdog:
    """Ends this process when one of its steps stops getting on: nobody else would. The next run knows by the attempt's note."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._board, self._lock = Board(), threading.Lock()
        self._progress: dict[Worker, tuple[str, Callable[[], int]]] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def task(self, name: str, progress: Callable[[], int]) -> Iterator[None]:
        """While a step, the first word of the name, is at something. Each step is at one thing at a time."""
        worker = this_worker(name.partition(" ")[0])
        with self._lock:
            self._progress[worker] = name, progress
            self._board.begin(worker, name)
        try:
            yield
        finally:
            with self._lock:
                self._board.end(worker, name)
                del self._progress[worker]

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(beat_s(self._timeout_s)):
            with self._lock:
                for worker, (name, progress) in self._progress.items():
                    self._board.show(worker, name, progress())
                overdue = self._board.overdue(self._timeout_s)
            for late in overdue:
                log.error("%s: no progress for %.0f s; this process ends itself. Run again", late.task, late.silent_s)
                os._exit(IncompleteError.exit_code)
