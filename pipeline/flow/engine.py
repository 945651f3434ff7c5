"""What an engine does: carries units through the steps of flow/unit.py, and files through assembly.

An engine moves work; it decides nothing. Correctness lies in the plan and the commit protocol, so any engine will do,
and the serial one is what the Ray one is compared with.
"""

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.commit.assembly import commit_file, read_assembled
from pipeline.commit.keys import data_key
from pipeline.commit.records import AssemblyRecord, FileRef, Slice
from pipeline.commit.snapshot import newest_version
from pipeline.commit.success import clear_success
from pipeline.errors import IncompleteError, Overtaken
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.plan.records import SegmentWork
from pipeline.sink.assemble import AHEAD_BYTES, damaged, write_data_file
from pipeline.sink.records import DataFilePlan
from pipeline.sink.schema import Layout
from pipeline.storage.create import create_file
from pipeline.storage.environment import WorkerEnvironment, apply_environment
from pipeline.storage.open import open_store
from pipeline.storage.retry import REQUESTS
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class AssemblyTask:
    """One data file to be made."""

    output: str
    environment: WorkerEnvironment
    base: int
    assembly: str
    file: DataFilePlan
    layout: Layout

    @property
    def peak_bytes(self) -> int:
        """Memory that making the file takes: its rows as columns, and as the file; and the source files that are fetched at once,
        or the largest of them, as bytes and as columns."""
        largest = max((part.file_bytes for part in self.file.slices), default=0)
        return (64 << 20) + 4 * sum(part.bytes for part in self.file.slices) + 3 * max(largest, AHEAD_BYTES)


class Engine(Protocol):
    """Where the steps run."""

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        """Take segments to committed units; acknowledgements come in any order. When `stop` is set, what is in flight
        is finished and nothing new begun."""
        ...

    def assemble(self, tasks: Sequence[AssemblyTask], stop: threading.Event) -> Iterator[AssemblyRecord]:
        """Make data files; their records come in any order. When `stop` is set, what was begun is finished. Raises Overtaken when
        a source is gone, IncompleteError when files are left for the next run."""
        ...

    def close(self) -> None:
        """Let go of processes and models."""
        ...


def stopped_assembling(made: int, tasks: Sequence[AssemblyTask]) -> IncompleteError:
    """What ends a run that was asked to stop before all data files were made."""
    return IncompleteError(
        f"stopped on request; {made} of {len(tasks)} data files are made and stay so. Run the same command again to go on from "
        "there"
    )


class Assembling:
    """Step assemble: one data file, made and committed."""

    def __init__(self, task: AssemblyTask) -> None:
        self.task = task
        self.name = f"assemble {task.base}-{task.assembly} {task.file.k}"
        self._slices = 0

    @property
    def progress(self) -> int:
        """Changes as long as it gets on."""
        return REQUESTS.tried + self._slices

    def make(self) -> AssemblyRecord:
        """The record that stands: ours, or that of a driver who was quicker. A file that something outside took away since
        is made again, under its name. Raises Overtaken, StorageError, VerificationError."""
        task = self.task
        apply_environment(task.environment)
        store = open_store(task.output)
        standing = read_assembled(store, task.base, task.assembly, task.file.k)
        if standing is not None and _is_there(store, standing.file):
            return standing
        made = write_data_file(store, task.file, task.layout, self._count)
        if standing is None:
            # Drawn here, not by the driver: a task that Ray tries again must not use a name twice.
            key = data_key(task.file.folder, task.base, task.assembly, task.file.k, uuid.uuid4().hex)
        elif made.sha256 == standing.file.sha256:
            key = standing.file.key
        elif newest_version(store) == task.base:
            raise damaged(store, standing.file.key, "it is gone, and this program makes another file of its rows")
        else:
            raise Overtaken(f"{store.root}/{standing.file.key} is gone: another run has published, and collected it")
        create_file(store, key, made.data)
        # After the file, too: whoever has set the mark since this run began looks at data/ behind it, and has either seen the
        # file there or set the mark before this.
        clear_success(store)
        if standing is not None:
            return standing
        slices = []
        first = 0
        for source in task.file.slices:
            slices.append(Slice(source.unit, first, source.rows))
            first += source.rows
        file = FileRef(key, len(made.data), made.rows, made.sha256)
        return commit_file(store, AssemblyRecord(task.base, task.assembly, task.file.k, file, tuple(slices)))

    def _count(self) -> None:
        self._slices += 1


def _is_there(store: Store, file: FileRef) -> bool:
    """Whether a file that somebody has made still stands. Raises VerificationError for another one in its place."""
    size = store.size(file.key)
    if size not in (None, file.bytes):
        raise damaged(store, file.key, f"it has {size} bytes, its record says {file.bytes}")
    return size is not None
