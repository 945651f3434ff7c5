"""The parity gate is measured on texts of the job's own, and one of them may be poison: it ends every replica before that has
encoded a unit, on each run anew, and no attempt at a unit tells of it. So the gate of a run is noted like one.
"""

import contextlib
import uuid
from dataclasses import replace

from pipeline.commit.attempts import begin_attempt, end_attempt
from pipeline.commit.records import AttemptNote
from pipeline.commit.units import retire_unit
from pipeline.errors import EmbedpipeError
from pipeline.flow.job import Job
from pipeline.flow.planning import Planned
from pipeline.spec import gate_unit

MAX_DEATHS = 2
"""Runs that ended without a word before anything was encoded, and rounds of this one that failed so. One may be a machine that
was taken away. Runs that are still loading can't be told from these without a clock; it does no harm to spare the texts."""


class GateWatch:
    """Of one run."""

    def __init__(self, job: Job) -> None:
        spec = job.spec.spec_id
        self._store, self._unit, self._attempt = job.store, gate_unit(spec), uuid.uuid4().hex
        self._note = AttemptNote(self._unit, job.run, spec, 0, self._unit, 0, ())
        self._generation: int | None = None  # of the note; None before it is written
        self._open = False
        self._before = 0  # runs that ended over it, or are still loading
        self._failed = 0  # rounds of this one
        self._harmless = False  # the job's own texts have passed

    @property
    def trusts(self) -> bool:
        """Whether the gate may be measured on the job's own texts. Once they are suspected they stay so: units that are encoded
        after that say nothing of them."""
        return self._harmless or self._before + self._failed < MAX_DEATHS

    def begin(self, planned: Planned) -> None:
        """The texts are about to be read, and replicas to be loaded. Raises StorageError."""
        if self._generation is None:
            self._note = replace(self._note, base=planned.version)
            begin_attempt(self._store, self._note, planned.gate_generation, self._attempt)
            self._generation, self._before, self._open = planned.gate_generation, planned.gate_deaths, True

    def passed(self) -> None:
        """A unit has been encoded."""
        self._harmless = self.trusts
        self._close("passed")

    def round_failed(self) -> None:
        """Workers have died; if no unit was encoded before that, it may have been over the gate's texts."""
        self._failed += not self._harmless

    def published(self) -> None:
        """What was pending is done, and its texts will not be asked for again: deaths over them count no more. Collections see
        to that too, but not everybody may collect."""
        if self._generation is not None and self._before:
            with contextlib.suppress(EmbedpipeError):  # the next run tries it again
                retire_unit(self._store, self._note, self._generation)

    def end(self) -> None:
        """In good order, which counts as no death, unless a round has failed before anything was encoded."""
        if not self._failed:
            self._close("the run ended")

    def _close(self, reason: str) -> None:
        if self._open and self._generation is not None:
            with contextlib.suppress(EmbedpipeError):  # only a note; without it the run counts as one that died
                end_attempt(self._store, self._unit, self._generation, self._attempt, reason)
            self._open = False
