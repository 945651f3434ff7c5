"""The supervisor: plan, run, plan again until nothing is pending, then publish. The outermost loop of a job.

    resolve → (plan → encode)* → assemble → publish → collect

A round that failed, lost a worker or was overtaken is simply followed by the next plan: the records say what is left.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.commit.records import NO_TIME
from pipeline.commit.snapshot import Snapshot, read_head
from pipeline.config.schema import Config, Execution
from pipeline.errors import ConfigError, IncompleteError, Overtaken
from pipeline.flow.acks import Ack
from pipeline.flow.demand import check_demand
from pipeline.flow.duplicate_ids import count_duplicate_ids, uncounted
from pipeline.flow.ending import telling_failure
from pipeline.flow.engine import Engine
from pipeline.flow.failures import Failures, reason_of
from pipeline.flow.gate_watch import GateWatch
from pipeline.flow.job import Job, make_context, resolve
from pipeline.flow.planning import Planned, plan_now
from pipeline.flow.preflight import estimate
from pipeline.flow.publishing import (
    Finish,
    finish,
    needs_publishing,
    publish_plan,
    retire_lost,
)
from pipeline.flow.refusals import Refusals
from pipeline.flow.rejected import check_duplicates, check_limited, check_rejected
from pipeline.flow.signals import stop_on_signals
from pipeline.flow.summary import Preflight, Summary, mixed_formats
from pipeline.plan.records import SegmentWork
from pipeline.progress.events import Note, NullReporter, PlanReady, Published, Reporter, RunEnded, UnitDone, UnitFailed
from pipeline.storage.probe import probe, tells_case

log = logging.getLogger(__name__)

MAX_OVERTAKEN = 10
"""Rounds lost to other publishers. Each time somebody else made progress, so this is generous."""

MAX_CHANGES = 10
"""Times a file may change under its reader before the run gives up."""

GATE_VALUES = ("samples", "min_cosine", "max_relative_l2")
"""What a summary tells of the parity gate; device, format and reason stand beside it."""

GATE_ALONE = (
    "replicas have died before they had encoded anything, or other runs are loading theirs: the parity gate is measured on "
    "constructed texts alone, in case one of the job's own is what ends them"
)


def run_job(
    config: Config,
    *,
    limit: int | None = None,
    allow_drop: bool = False,
    replace: bool = False,
    reporter: Reporter | None = None,
) -> Summary:
    """Embed what `config` asks for and publish it. See the error tree for what is raised and what it means.

    limit: rows to stop after; such a run has an identity of its own and never publishes over a full snapshot.
    allow_drop: publish although more than 10% of the published rows would go.
    replace: publish over a snapshot of another spec.
    """
    with stop_on_signals() as stop:
        run = _Run(config, limit, allow_drop, replace, reporter or NullReporter(), stop)
        try:
            return run.go()
        finally:
            run.close()


def plan_job(config: Config, *, limit: int | None = None) -> Preflight:
    """What a run would do; nothing is written."""
    job = resolve(config, limit)
    planned = plan_now(job, allow_drop=True, replace=True)
    return estimate(job, planned)


class _Run:
    """One run of a job: what it has tried, seen and counted so far."""

    def __init__(
        self,
        config: Config,
        limit: int | None,
        allow_drop: bool,
        replace: bool,
        reporter: Reporter,
        stop: threading.Event,
    ) -> None:
        self.config = config
        self.limit = limit
        self.allow_drop = allow_drop
        self.replace = replace
        self.reporter = reporter
        self.stop = stop
        self.started = time.monotonic()
        self.engine: Engine | None = None
        self.failures = Failures()
        self.planned: Planned | None = None  # the last plan
        self.changed: set[str] = set()  # URIs that have changed under their readers since
        self.changes: Counter[str] = Counter()  # URI → rounds in which it did
        self.refusals = Refusals()
        self.duplicates: int | None = None
        self.placements: set[tuple[str, str]] = set()  # (device, dtype) told of already
        self.acks: list[Ack] = []  # without rows or vectors: about 1 KB a unit

    def close(self) -> None:
        """Let the engine go."""
        if self.engine is not None:
            self.engine.close()

    def _engine(self) -> Engine:
        if self.engine is None:
            self.engine = make_engine(self.config.execution)
        return self.engine

    def go(self) -> Summary:
        """Rounds of planning and encoding until nothing is pending, then publish."""
        with telling_failure(self.reporter):
            summary = self._go()
        self.reporter.emit(RunEnded(state=summary.state, exit_code=summary.exit_code))
        return summary

    def _go(self) -> Summary:
        job = resolve(self.config, self.limit)
        probe(job.store)
        if self.config.output.partition_by and not tells_case(job.store):
            raise ConfigError(
                f"{job.store.root} doesn't tell upper from lower case, so the rows of two partitions could land in one folder; "
                "choose another place, or leave output.partition_by out"
            )
        gate = GateWatch(job)
        try:
            summary = self._until_published(job, gate)
            gate.published()
            return summary
        finally:
            gate.end()

    def _until_published(self, job: Job, gate: GateWatch) -> Summary:
        overtaken = 0
        while True:
            planned = self._encode_all(job, gate)
            try:
                return self._publish(job, planned)
            except Overtaken as error:
                overtaken += 1
                if overtaken > MAX_OVERTAKEN:
                    raise
                lost = retire_lost(job.store, planned)
                why = (
                    f"{lost} units whose staged rows are gone are worked again"
                    if lost
                    else f"overtaken: {error.message}"
                )
                self.reporter.emit(Note(f"planning again: {why}"))

    def _encode_all(self, job: Job, gate: GateWatch) -> Planned:
        """Encode until the plan has nothing pending but what has failed in this run."""
        idle_rounds = 0
        while True:
            planned = self.planned = plan_now(
                job,
                allow_drop=self.allow_drop,
                replace=self.replace,
                before=self.planned,
                changed=self.changed,
                apart=self.failures.apart,
                given_up=self.failures.segments,
            )
            self.changed = set()
            work = self.failures.to_try(planned)
            self._announce(planned, work)
            if not work:
                return planned
            self._check_stop(0)
            progress, problem = self._round(job, work, planned, gate)
            self._check_stop(progress)
            idle_rounds = 0 if progress else idle_rounds + 1
            self._check_changes()
            if idle_rounds >= self.config.execution.max_attempts:
                raise IncompleteError(
                    f"{idle_rounds} rounds in a row committed nothing; the last problem: {problem or 'none was reported'}. "
                    "What is committed stays; run again once that is mended"
                )
            if problem:
                self.reporter.emit(Note(f"planning again: {problem}"))

    def _check_stop(self, committed: int) -> None:
        if self.stop.is_set():
            raise IncompleteError(
                f"stopped on request; {committed} units were committed in the last round and stay so. "
                "Run the same command again to go on from there"
            )

    def _round(self, job: Job, work: list[SegmentWork], planned: Planned, gate: GateWatch) -> tuple[int, str]:
        """One pass over the pending segments; how many units it settled, and the last thing that went wrong."""
        order = random.Random(job.run).sample(work, len(work))  # two drivers at once share the work by it
        if self.engine is None:
            check_demand(job, [segment.segment for segment in order])
        try:
            engine = self._engine()
        except IncompleteError as error:
            return 0, error.message
        gate.begin(planned)  # before any text of the sample is read: it may be what ends this process
        sample = work if gate.trusts else []
        if not sample:
            self.reporter.emit(Note(GATE_ALONE))
        context = make_context(job, [segment.segment for segment in sample], planned.version)
        # A limited run is one segment, whatever it is made of: there is nothing smaller to try.
        by_id = {} if job.limit is not None else {segment.id: segment for segment in work}
        settled, problem = 0, ""
        try:
            for ack in engine.encode(context, order, self.stop):
                self._take(ack, by_id.get(ack.segment), planned)
                settled += ack.state in ("done", "skipped", "failed")
                if ack.state == "done":
                    gate.passed()
                if ack.state == "changed":
                    self.changed.add(ack.uri)
                problem = ack.message or problem
        except IncompleteError as error:
            problem = error.message
            if not self.stop.is_set():
                gate.round_failed()
        self.changes.update(self.changed)
        return settled, problem

    def _check_changes(self) -> None:
        """Raises when a file changes faster than it can be read: units of it are committed in each round, and never all."""
        uri, times = max(self.changes.items(), key=lambda item: item[1], default=("", 0))
        if times >= MAX_CHANGES:
            raise IncompleteError(
                f"{uri} changed under its reader {times} times in this run: it is written to faster than it is read. What is "
                "committed stays. Let its writer finish, or give finished files names of their own, and run again"
            )

    def _take(self, ack: Ack, segment: SegmentWork | None, planned: Planned) -> None:
        """Note what became of a unit."""
        if ack.error is not None and (ack.state == "fatal" or self.refusals.are_too_many(ack)):
            raise ack.error
        self.acks.append(ack)
        if ack.state == "done":
            self._note_placement(ack)
            self.reporter.emit(_done_event(ack))
        elif ack.state == "failed" and self.failures.take(ack, segment, planned):
            self.reporter.emit(UnitFailed(unit=ack.unit, uri=ack.uri, reason=reason_of(ack)))

    def _note_placement(self, ack: Ack) -> None:
        """Say once where and in which number format units are encoded, why, and what the parity gate measured."""
        if (ack.device, ack.dtype) not in self.placements:
            self.placements.add((ack.device, ack.dtype))
            self.reporter.emit(Note(f"encoding on {ack.device} in {ack.dtype}: {_gate_text(ack.gate)}"))

    def _publish(self, job: Job, planned: Planned) -> Summary:
        failed = self.failures.files(planned)
        if self.limit is not None:
            check_limited(failed)
        check_rejected(planned, failed, self.config.output.max_rejected_share, job.store.root)
        entry = planned.head.entry if planned.head else None
        published = needs_publishing(planned, self.config.output.retain, failed)
        self.duplicates = count_duplicate_ids(job, planned, published)
        check_duplicates(self.duplicates, job)
        if published:
            entry = publish_plan(
                job,
                planned,
                self._engine(),
                failed,
                self.stop,
                allow_drop=self.allow_drop,
                duplicates=self.duplicates,
            )
        ended = finish(job.store, self.config.output.retain)
        head = read_head(job.store)
        if head is None:
            raise IncompleteError(f"{job.store.root}: nothing was published")
        summary = self._summarise(job, planned, head, published, failed | self.failures.in_vain(planned), ended)
        if published and entry is not None:
            self.reporter.emit(Published(version=entry.version, files=entry.files, rows=entry.rows, bytes=entry.bytes))
        return summary

    def _announce(self, planned: Planned, work: list[SegmentWork]) -> None:
        plan = planned.plan
        self.reporter.emit(
            PlanReady(
                files=len(planned.files),
                files_covered=plan.covered_files,
                segments=len(work),
                source_bytes=sum(segment.bytes for segment in work),
                units_covered=len(plan.kept),
                units_committed=len(plan.committed),
            )
        )

    def _summarise(
        self, job: Job, planned: Planned, head: Snapshot, published: bool, failed: dict[str, str], ended: Finish
    ) -> Summary:
        done = [ack for ack in self.acks if ack.state == "done"]
        kinds: Counter[str] = Counter()
        for unit in planned.plan.committed:
            kinds.update(unit.quarantined)
        return Summary(
            state="incomplete" if failed else "done",
            exit_code=IncompleteError.exit_code if failed else 0,
            output=job.store.root,
            version=head.entry.version,
            published=published,
            input_files=len(planned.files),
            rows=head.entry.rows,
            rows_encoded=sum(ack.rows_out for ack in done),
            units=head.entry.units,
            units_encoded=len(done),
            rows_quarantined=head.entry.rows_quarantined,
            quarantined=dict(kinds),
            failed=failed,
            folded=sum(ack.folded for ack in done),
            truncated=sum(ack.truncated for ack in done),
            tokens=sum(ack.tokens for ack in done),
            padded_tokens=sum(ack.padded_tokens for ack in done),
            duplicate_ids=self.duplicates,
            files=head.entry.files,
            bytes=head.entry.bytes,
            seconds=time.monotonic() - self.started,
            times=sum((ack.times for ack in done), NO_TIME),
            device=done[-1].device if done else "",
            dtype=", ".join(sorted({ack.dtype for ack in done})),
            device_reason=str(done[-1].gate.get("reason", "")) if done else "",
            gate={name: value for name, value in done[-1].gate.items() if name in GATE_VALUES} if done else None,
            messages=(
                *((ended.note,) if ended.note else ()),
                *mixed_formats(unit.dtype for unit in head.units),
                *(uncounted(job, self.duplicates) if published else ()),
            ),
        )


def make_engine(execution: Execution) -> Engine:
    """The configured engine. Ray is imported only when it is asked for."""
    if execution.engine == "serial":
        from pipeline.flow.serial import SerialEngine

        return SerialEngine(execution.threads, execution.unit_timeout_s)
    from pipeline.flow.ray_engine import RayEngine

    return RayEngine(execution)


def _gate_text(gate: Mapping[str, Any]) -> str:
    """The parity gate on one line."""
    return (
        f"{gate.get('reason', '')}; parity over {gate.get('samples')} texts: lowest cosine {gate.get('min_cosine')}, "
        f"largest relative L2 {gate.get('max_relative_l2')}"
    )


def _done_event(ack: Ack) -> UnitDone:
    return UnitDone(
        unit=ack.unit,
        uri=ack.uri,
        rows_in=ack.rows_in,
        rows_out=ack.rows_out,
        quarantined=sum(ack.quarantined.values()),
        folded=ack.folded,
        truncated=ack.truncated,
        tokens=ack.tokens,
        padded_tokens=ack.padded_tokens,
        bytes=ack.part_bytes,
        source_bytes=ack.source_bytes,
        encode_s=ack.times.encode / 1000,
        wait_s=ack.times.wait / 1000,
    )
