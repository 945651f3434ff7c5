"""The supervisor: plan, run, plan again until nothing is pending, then publish. The outermost loop of a job.

    resolve → (plan → encode)* → assemble → publish → collect

A round that failed, lost a worker or was overtaken is simply followed by the next plan: the records say what is left.
"""

import contextlib
import logging
import random
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from pipeline.commit.records import LogEntry
from pipeline.commit.snapshot import Snapshot, read_head
from pipeline.config.schema import Config, Execution
from pipeline.errors import EmbedpipeError, IncompleteError, InputError, Overtaken, QuarantineError
from pipeline.flow.acks import Ack
from pipeline.flow.engine import Engine
from pipeline.flow.job import Job, make_context, resolve
from pipeline.flow.planning import Planned, plan_now
from pipeline.flow.preflight import estimate
from pipeline.flow.progress import Note, NullReporter, PlanReady, Published, Reporter, RunEnded, UnitDone, UnitFailed
from pipeline.flow.publishing import Finish, count_duplicate_ids, finish, needs_publishing, publish_plan
from pipeline.flow.summary import Preflight, Summary
from pipeline.plan.records import SegmentWork
from pipeline.storage.probe import probe

log = logging.getLogger(__name__)

MAX_OVERTAKEN = 10
"""Rounds lost to other publishers. Each time somebody else made progress, so this is generous."""


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
    with _stop_on_signals() as stop:
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
        self.failed: dict[str, str] = {}  # segment id → reason; not tried again by this run
        self.acks: list[Ack] = []  # without rows or vectors: about 1 KB a unit

    def close(self) -> None:
        """Let the engine go."""
        if self.engine is not None:
            self.engine.close()

    def go(self) -> Summary:
        """Rounds of planning and encoding until nothing is pending, then publish."""
        job = resolve(self.config, self.limit)
        probe(job.store)
        overtaken = 0
        while True:
            planned = self._encode_all(job)
            try:
                return self._publish(job, planned)
            except Overtaken as error:
                overtaken += 1
                if overtaken > MAX_OVERTAKEN:
                    raise
                self.reporter.emit(Note(f"overtaken, planning again: {error.message}"))

    def _encode_all(self, job: Job) -> Planned:
        """Encode until the plan has nothing pending but what has failed in this run."""
        idle_rounds = 0
        while True:
            planned = plan_now(job, allow_drop=self.allow_drop, replace=self.replace)
            work = [segment for segment in planned.plan.pending if segment.id not in self.failed]
            self._announce(planned, work)
            if not work:
                return planned
            progress, problem = self._round(job, work)
            if self.stop.is_set():
                raise IncompleteError(
                    f"stopped on request; {progress} units were committed in the last round and stay so. "
                    "Run the same command again to go on from there"
                )
            idle_rounds = 0 if progress else idle_rounds + 1
            if idle_rounds >= self.config.execution.max_attempts:
                raise IncompleteError(
                    f"{idle_rounds} rounds in a row committed nothing; the last problem: {problem or 'none was reported'}. "
                    "What is committed stays; run again once that is mended"
                )
            if problem:
                self.reporter.emit(Note(f"planning again: {problem}"))

    def _round(self, job: Job, work: list[SegmentWork]) -> tuple[int, str]:
        """One pass over the pending segments; how many units it settled, and the last thing that went wrong."""
        order = random.Random(job.run).sample(work, len(work))  # two drivers at once share the work by it
        context = make_context(job, [segment.segment for segment in work])
        if self.engine is None:
            self.engine = make_engine(self.config.execution)
        settled, problem = 0, ""
        try:
            for ack in self.engine.encode(context, order, self.stop):
                self._take(ack)
                settled += ack.state in ("done", "skipped", "failed")
                problem = ack.message or problem
        except IncompleteError as error:
            problem = error.message
        return settled, problem

    def _take(self, ack: Ack) -> None:
        if ack.error is not None and ack.state == "fatal":
            raise ack.error
        self.acks.append(ack)
        if ack.state == "done":
            self.reporter.emit(_done_event(ack))
        elif ack.state == "failed":
            self.failed[ack.segment] = ack.message
            self.reporter.emit(UnitFailed(unit=ack.unit, uri=ack.uri, reason=ack.message))

    def _publish(self, job: Job, planned: Planned) -> Summary:
        failed = self._failed_files(planned)
        self._check_rejected(planned, failed)
        entry = planned.head.entry if planned.head else None
        published = needs_publishing(planned)
        if published:
            if self.engine is None:
                self.engine = make_engine(self.config.execution)
            entry = publish_plan(job, planned, self.engine, failed, allow_drop=self.allow_drop)
        ended = finish(job.store, self.config.output.retain)
        head = read_head(job.store)
        if head is None:
            raise IncompleteError(f"{job.store.root}: nothing was published")
        summary = self._summarise(job, planned, head, published, failed, ended)
        if published and entry is not None:
            self.reporter.emit(Published(version=entry.version, files=entry.files, rows=entry.rows, bytes=entry.bytes))
        self.reporter.emit(RunEnded(state=summary.state, exit_code=summary.exit_code))
        return summary
