"""The serial engine: the same steps in this process, one unit after the other, without Ray.

The reference that other engines are compared with, and the way to run where Ray is not installed.
"""

import threading
from collections.abc import Iterator, Sequence

from pipeline.commit.records import AssemblyRecord
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.flow.engine import AssemblyTask, assemble_file
from pipeline.flow.unit import Encoding, Reading, Staging
from pipeline.plan.records import SegmentWork


class SerialEngine:
    """Runs everything in the calling thread. The model stays loaded between calls for the same job."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads  # CPU threads of the model; None: all cores
        self._encoding: Encoding | None = None

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """See `Engine.encode`."""
        if self._encoding is None or self._encoding.context.spec_id != context.spec_id:
            self._encoding = Encoding(context, self._threads)
        reading, staging = Reading(context), Staging(context)
        for segment in work:
            for unit in reading.units(segment):
                if stop.is_set():
                    return
                if isinstance(unit, Ack):
                    yield unit
                    continue
                encoded = self._encoding.encode(unit)
                yield encoded if isinstance(encoded, Ack) else staging.stage(encoded)

    def assemble(self, tasks: Sequence[AssemblyTask]) -> Iterator[AssemblyRecord]:
        """See `Engine.assemble`."""
        return map(assemble_file, tasks)

    def close(self) -> None:
        """See `Engine.close`."""
        self._encoding = None
