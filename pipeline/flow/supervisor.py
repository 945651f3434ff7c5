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
from dataclasses import dataclass, field

from pipeline.commit.records import LogEntry
from pipeline.commit.snapshot import Snapshot, read_head
from pipeline.config.schema import Config, Execution
from pipeline.errors import EmbedpipeError, IncompleteError, InputError, Overtaken, QuarantineError
from pipeline.flow.acks import Ack
from pipeline.flow.engine import Engine
from pipeline.flow.job import Job, make_context, resolve
from pipeline.flow.planning import Planned, plan_now
from pipeline.flow.preflight import estimate
from pipeline.flow.progress import NullReporter, Note, PlanReady, Published, Reporter, RunEnded, UnitDone, UnitFailed
from pipeline.flow.publishing import Finish, count_duplicate_ids, finish, needs_publishing, publish_plan
from pipeline.flow.summary import Preflight, Summary
from pipeline.flow.tally import RunTally
from pipeline.storage.probe import probe

log = logging.getLogger(__name__)

MAX_OVERTAKEN = 10
"""Publishing again and again after others: each time somebody else made progress, so this is generous."""


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
    run = _Run(config, limit, allow_drop, replace, reporter or NullReporter())
    return run.go()


def plan_job(config: Config, *, limit: int | None = None) -> Preflight:
    """What a run would do; nothing is written."""
    job = resolve(config, limit)
    planned = plan_now(job, allow_drop=True, replace=True)
    return estimate(job, planned)
