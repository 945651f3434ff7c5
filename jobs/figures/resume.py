"""How long a re-run thinks before it goes on, with ten thousand units committed."""

import hashlib
import json
import statistics
import time
import uuid
from pathlib import Path

from jobs.figures.common import Figure, make_job, table
from pipeline.commit.keys import part_key
from pipeline.commit.records import FileRef, UnitRecord
from pipeline.commit.units import commit_unit
from pipeline.flow.job import Job, resolve
from pipeline.flow.planning import plan_now
from pipeline.plan.records import SegmentWork
from pipeline.sink.records import FolderRows
from pipeline.source.records import Span
from pipeline.spec import unit_id

UNITS, LEFT, ROUNDS = 10_000, 100, 5


def measure(folder: Path, units: int = UNITS) -> Figure:
    """As many input files as units and some more, all but those committed, on local disk."""
    source = folder / "texts"
    source.mkdir(parents=True)
    for number in range(units + LEFT):
        line = json.dumps({"id": str(number), "text": f"{number} " + "and so forth " * 180})
        (source / f"{number:05}.jsonl").write_text(line + "\n", encoding="utf-8")
    job = resolve(make_job(source, folder / "out", units__text_mib=1))
    for work in plan_now(job).plan.pending[:units]:
        commit(job, work)
    found = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        again = resolve(job.config)
        resolved = time.monotonic()
        plan = plan_now(again).plan
        found.append((resolved - began, time.monotonic() - resolved))
        if len(plan.committed) != units or len(plan.pending) != LEFT:
            raise RuntimeError(f"{len(plan.committed)} units count as committed, {len(plan.pending)} as pending")
    resolve_s, plan_s = (statistics.median(values) for values in zip(*found, strict=True))
    rows = [
        ("model, columns and spec", f"{resolve_s:.2f} s"),
        ("listing, records and plan", f"{plan_s:.2f} s"),
        ("until the first segment is handed out", f"{resolve_s + plan_s:.2f} s"),
    ]
    text = (
        f"{units:,} units committed and none published, {LEFT} left, each in a file of its own; local disk; medians of {ROUNDS}. "
        "Python and its packages are loaded already, Ray and the model's replicas come after.\n\n"
        + table(("", "median"), rows)
    )
    return Figure("Resuming after ten thousand units", text, {"units": units, "resolve_s": resolve_s, "plan_s": plan_s})


def commit(job: Job, work: SegmentWork) -> None:
    """Commit the segment's only unit, of one row."""
    commit_unit(job.store, done_record(job, work, 0, work.pieces[0].start, work.pieces[0].stop, eof=True))


def done_record(job: Job, work: SegmentWork, k: int, start: int, stop: int, *, eof: bool) -> UnitRecord:
    """The record that a run would leave of a unit of one row, from `start` to `stop` of the segment's only file. Its part is
    not there, and not needed to plan."""
    unit, attempt = unit_id(work.id, k), uuid.uuid4().hex
    piece = work.pieces[0]
    return UnitRecord(
        unit=unit,
        generation=0,
        state="done",
        spec=job.spec.spec_id,
        segment=work.id,
        k=k,
        attempt=attempt,
        eof=eof,
        pieces=work.pieces,
        spans=(Span(piece.uri, piece.version, piece.measure, start, stop),),
        part=FileRef(part_key(unit, 0, attempt), 4096, 1, "0" * 64),
        folders=(FolderRows("", 1, 0, 4096, "0" * 64),),
        rows_in=1,
        rows_out=1,
        digest=hashlib.sha256(unit.encode()).hexdigest(),
    )
