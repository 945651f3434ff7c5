"""The serial engine: the same steps in this process, one unit after the other, without Ray.

The reference that other engines are compared with, and the way to run where Ray is not installed.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from pipeline.commit.records import AssemblyRecord
from pipeline.errors import IncompleteError
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.flow.encoding import Encoding
from pipeline.flow.engine import AssemblyTask, assemble_file
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.watchdog import Board, this_worker
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
            self._watchdog.begin(f"read {segment.id}", lambda: reading.progress)
            for unit in reading.units(segment):
                if stop.is_set():
                    break
                if isinstance(unit, Ack):
                    yield unit
                    continue
                self._watchdog.begin(f"encode {unit.task.unit}", lambda: encoding.progress)
                encoded = encoding.encode(unit)
                self._watchdog.begin(f"stage {unit.task.unit}")
                yield encoded if isinstance(encoded, Ack) else staging.stage(encoded)
                self._watchdog.begin(f"read {segment.id}", lambda: reading.progress)
            self._watchdog.end()
            if stop.is_set():
                return

    def assemble(self, tasks: Sequence[AssemblyTask]) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`."""
        for task in tasks:
            self._watchdog.begin(f"assemble {task.base}-{task.assembly} {task.file.k}")
            record = assemble_file(task)
            self._watchdog.end()
            yield record

    def close(self) -> None:
        """See `Engine.close`."""
        self._watchdog.close()
        self._encoding = None


class _Watchdog:
    """Ends this process when it stops getting on: nobody else would. The next run knows by the attempt's note."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._board = Board()
        self._me = this_worker("")
        self._task = ""
        self._progress: Callable[[], int] = int
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self, task: str, progress: Callable[[], int] = int) -> None:
        self._task, self._progress = task, progress
        self._board.begin(self._me, task)

    def end(self) -> None:
        self._board.end(self._me, self._task)

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(2.0, self._timeout_s / 4)):
            self._board.show(self._me, self._progress())
            for late in self._board.overdue(self._timeout_s):
                log.error("%s: no progress for %.0f s; this process ends itself. Run again", late.task, late.silent_s)
                os._exit(IncompleteError.exit_code)
