"""Assemble and publish: committed units → data files → the next snapshot; then collect and settle `_SUCCESS`."""

import contextlib
import datetime
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pipeline
from pipeline.commit.assembly import assembled_units, plan_assembly
from pipeline.commit.collect import collect, find_garbage, list_unpublished
from pipeline.commit.keys import DATA
from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import NO_TIME, LogEntry
from pipeline.commit.snapshot import Snapshot, newest_version, publish, read_head
from pipeline.commit.success import clear_success, is_exact, marked_version, settle_success
from pipeline.commit.units import open_request, retire_unit
from pipeline.errors import (
    CommitError,
    EmbedpipeError,
    StorageError,
    TransientStorageError,
    VerificationError,
)
from pipeline.flow.engine import AssemblyTask, Engine
from pipeline.flow.job import Job, make_layout
from pipeline.flow.lookup import Lookup
from pipeline.flow.planning import Planned
from pipeline.plan.plan import untiled_files
from pipeline.plan.refuse import check_drop
from pipeline.source.records import InputFile
from pipeline.spec import Spec
from pipeline.storage.environment import worker_environment
from pipeline.storage.probe import can_delete
from pipeline.storage.store import Store

NOT_COLLECTED = (
    "nothing was collected, and _SUCCESS is not written: this account may not delete here. Read by `embedpipe files`, and let "
    "an account that may run `embedpipe gc`"
)
WRONG_MARK = ", soon: somebody has set _SUCCESS, and a plain glob of data/ gives other rows than it promises"
NOT_ALONE = (
    "_SUCCESS is not written: data/ holds files made for a version that isn't published. If another run is at work, it will "
    "publish it; else `embedpipe gc --abandon` deletes them"
)
FOREIGN = (
    "_SUCCESS is not written: data/ holds {} that this program did not put there ({} such files), which a plain glob would read. "
    "Move them elsewhere and run again; `embedpipe files` is exact meanwhile"
)


@dataclass(frozen=True, slots=True)
class Finish:
    """How a run left the output."""

    marked: bool  # `_SUCCESS` stands: a plain glob of data/ is exact
    deleted: int  # objects collected
    note: str  # why not, where it isn't


def needs_publishing(planned: Planned, retain: int, failed: Mapping[str, str]) -> bool:
    """Whether the next snapshot would differ from the head, be without other files (`failed`: URI → reason), or fewer older
    ones are to be kept than it keeps."""
    plan = planned.plan
    if planned.head is None or not planned.same_spec:
        return True
    entry = planned.head.entry
    without = _still_without(planned).keys() | failed.keys()
    kept_too_long = entry.oldest < entry.version - retain + 1
    return bool(plan.committed or plan.dropped or without != entry.failed.keys() or kept_too_long)


def publish_plan(
    job: Job,
    planned: Planned,
    engine: Engine,
    failed: dict[str, str],
    stop: threading.Event,
    *,
    allow_drop: bool,
    duplicates: int | None,
) -> LogEntry:
    """Publish what the plan covers and has committed. `failed`: URI → reason, of what the snapshot will be without;
    `duplicates`: what `count_duplicate_ids` has found.

    Raises Overtaken when another run published first, RefusedError when the result would lose rows, IncompleteError when `stop`
    is set before all data files are begun.
    """
    plan, head = planned.plan, planned.head
    failed = {**_still_without(planned), **failed}
    rows = sum(unit.rows_out for unit in plan.kept) + sum(unit.rows_out for unit in plan.committed)
    entry = head.entry if head else None
    check_drop(job.store.root, entry, (entry.rows if entry else 0) - rows, job.spec, allow_drop=allow_drop)
    layout = make_layout(job)
    assembly = plan_assembly(
        planned.version,
        plan.kept,
        plan.dropped,
        plan.committed,
        job.config.output.file_mib << 20,
        {"spec": job.spec.spec_id, "footer": [list(pair) for pair in layout.metadata]},
    )
    environment = worker_environment()
    tasks = [
        AssemblyTask(job.store.root, environment, planned.version, assembly.id, file, layout) for file in assembly.files
    ]
    with _unmarked(job.store) if tasks else contextlib.nullcontext():
        records = sorted(engine.assemble(tasks, stop), key=lambda record: record.k)
        units = assembled_units(assembly, records, plan.kept, plan.committed)
        _check_complete(job.spec, units, failed, planned.files)
        return publish(
            job.store,
            job.spec,
            entry,
            units,
            retain=job.config.output.retain,
            failed=failed,
            facts=_facts(job, duplicates) | {"times": asdict(sum((unit.times for unit in plan.committed), NO_TIME))},
        )


@contextlib.contextmanager
def _unmarked(store: Store) -> Iterator[None]:
    """Without `_SUCCESS` while files are made; and after a failure too, since another run may have set it before the first
    of them was there."""
    clear_success(store)
    try:
        yield
    except EmbedpipeError:
        with contextlib.suppress(StorageError):
            clear_success(store)
        raise


def _still_without(planned: Planned) -> dict[str, str]:
    """URI → reason of what the head is without and no longer listed: in append mode the rest of such a file stays."""
    if planned.head is None or not planned.same_spec:
        return {}
    listed = {file.uri for file in planned.files}
    kept = {piece.uri for unit in planned.plan.kept for piece in unit.pieces} - listed
    return {uri: reason for uri, reason in planned.head.entry.failed.items() if uri in kept}


def retire_lost(store: Store, planned: Planned) -> int:
    """Give up committed units whose staged rows are gone although nobody has published since the plan: something outside took
    them away. How many there were; the next plan works them again.

    Raises VerificationError where it is the head itself that has lost a file.
    """
    head = read_head(store)
    if (head.entry.version if head else 0) != planned.version:
        return 0
    lost = [unit for unit in planned.plan.committed if unit.part and store.size(unit.part.key) is None]
    published = {unit.unit: unit.generation for unit in head.units} if lost and head else {}
    for unit in lost:
        request = open_request(store, unit, published.get(unit.unit, -1))
        retire_unit(store, unit, unit.generation + 1, request or "its staged rows were taken away")
    if head is not None and not lost:
        _check_there(store, head, head.files)
    return len(lost)


def _check_there(store: Store, head: Snapshot, suspects: Iterable[str]) -> None:
    """Raises VerificationError where one of these files of the head is gone, and nobody has published since."""
    missing = [key for key in suspects if store.size(key) is None]
    if missing and newest_version(store) == head.entry.version:
        raise VerificationError(
            f"{store.root}/{missing[0]} is gone, though the newest snapshot holds it ({len(missing)} such files): something "
            "outside embedpipe removed it. Restore it, or write the job's result to another output.path"
        )


def finish(store: Store, retain: int) -> Finish:
    """End a run: collect garbage and settle `_SUCCESS`. A writer without permission to delete does neither: it could not
    take the mark away again.

    Raises VerificationError where the head has lost a file.
    """
    head = read_head(store)
    if head is None:
        return Finish(marked=False, deleted=0, note="")
    ended = _settle(store, head, retain)
    if ended.marked:
        return ended
    there = {entry.key for entry in store.list(DATA)}
    files = set(head.files)
    _check_there(store, head, sorted(files - there))
    if ended.note or retain != 1 or there == files:
        return ended
    if next(list_unpublished(store, head), None) is not None:
        return replace(ended, note=NOT_ALONE)
    foreign = sorted(there - files)
    return replace(ended, note=FOREIGN.format(foreign[0], len(foreign))) if foreign else ended


def _settle(store: Store, head: Snapshot, retain: int) -> Finish:
    if not can_delete(store):
        mark = marked_version(store)
        wrong = mark is not None and (mark != head.entry.version or not is_exact(store, set(head.files)))
        return Finish(marked=False, deleted=0, note=NOT_COLLECTED + WRONG_MARK * wrong)
    deleted = collect_now(store)
    if retain != 1:
        clear_success(store)
        return Finish(marked=False, deleted=deleted, note="")
    try:
        return Finish(settle_success(store, head.entry, set(head.files), newest_version), deleted, "")
    except TransientStorageError:
        raise
    except StorageError as error:
        return Finish(marked=False, deleted=deleted, note=f"_SUCCESS is not settled: {error.message}")


def collect_now(store: Store) -> int:
    """Delete what nobody refers to; the number of objects deleted."""
    garbage = find_garbage(store, Lookup())
    collect(store, garbage)
    return len(garbage.keys) + store.tidy()


def _check_complete(
    spec: Spec, units: Sequence[ManifestUnit], failed: Mapping[str, str], files: Sequence[InputFile]
) -> None:
    """Every listed file's spans reach from its beginning to its end, but for those known to have failed."""
    if spec.limit is not None:
        return
    published = {piece.uri for unit in units for piece in unit.pieces}
    missing = [file.uri for file in files if file.uri not in published] + untiled_files(units)
    unknown = sorted({uri for uri in missing if uri not in failed})
    if unknown:
        raise CommitError(
            f"{unknown[0]}: its units do not cover the file from its beginning to its end ({len(unknown)} such files); "
            "nothing is published"
        )


def _facts(job: Job, duplicates: int | None) -> dict[str, Any]:
    lock = job.model.lock
    return {
        "model": lock.name,
        "revision": lock.revision,
        "weights": lock.weights_hash,
        "dimensions": job.spec.dimensions,
        "precision": job.config.model.precision,
        "normalized": lock.normalized,
        "program": pipeline.__version__,
        "published_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": job.run,
        "duplicate_ids": duplicates,
    }
