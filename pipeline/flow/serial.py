"""The serial engine: the same steps in this process, one unit after the other, without Ray.

The reference that other engines are compared with, and the way to run where Ray is not installed.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from pipeline.commit.records import AssemblyRecord
from pipeline.errors import IncompleteError
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.flow.encoding import Encoding
from pipeline.flow.engine import Assembling, AssemblyTask
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.unit import PreparedUnit
from pipeline.flow.watchdog import Board, beat_s, this_worker
from pipeline.plan.records import SegmentWork

log = logging.getLogger(__name__)


class SerialEngine:
    """Runs everything in the calling thread. The model stays loaded between calls for the same job."""

    def __init__(self, threads: int | None, unit_timeout_s: float) -> None:
        self._threads = threads  # CPU threads of the model; None: all cores
        self._encoding: Encoding | None = None
        self._watchdog = _Watchdog(unit_timeout_s)

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `Engine.encode`."""
        if self._encoding is None or self._encoding.context.spec_id != context.spec_id:
            self._encoding = Encoding(context, self._threads)
        encoding, reading, staging = self._encoding, Reading(context), Staging(context)
        for segment in work:
            units = reading.units(segment)
            while True:
                with self._watchdog.task(f"read {segment.id}", lambda: reading.progress):
                    unit = next(units, None)
                if stop.is_set():
                    return
                if unit is None:
                    break
                yield unit if isinstance(unit, Ack) else self._finish(unit, encoding, staging)

    def _finish(self, unit: PreparedUnit, encoding: Encoding, staging: Staging) -> Ack:
        with self._watchdog.task(f"encode {unit.task.unit}", lambda: encoding.progress):
            encoded = encoding.encode(unit)
        if isinstance(encoded, Ack):
            return encoded
        with self._watchdog.task(f"stage {unit.task.unit}", lambda: staging.progress):
            return staging.stage(encoded)

    def assemble(self, tasks: Sequence[AssemblyTask]) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`."""
        return map(self._assemble, tasks)

    def _assemble(self, task: AssemblyTask) -> AssemblyRecord:
        assembling = Assembling(task)
        with self._watchdog.task(assembling.name, lambda: assembling.progress):
            return assembling.make()

    def close(self) -> None:
        """See `Engine.close`."""
        self._watchdog.close()
        self._encoding = None


class _Watchdog:
    """Ends this process when it stops getting on: nobody else would. The next run knows by the attempt's note."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._board, self._lock = Board(), threading.Lock()
        self._me = this_worker("")
        self._progress: Callable[[], int] = int
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def task(self, name: str, progress: Callable[[], int]) -> Iterator[None]:
        with self._lock:
            self._progress = progress
            self._board.begin(self._me, name)
        try:
            yield
        finally:
            with self._lock:
                self._board.end(self._me, name)

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(beat_s(self._timeout_s)):
            with self._lock:
                self._board.show(self._me, self._progress())
                overdue = self._board.overdue(self._timeout_s)
            for late in overdue:
                log.error("%s: no progress for %.0f s; this process ends itself. Run again", late.task, late.silent_s)
                os._exit(IncompleteError.exit_code)
