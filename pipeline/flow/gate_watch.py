"""The parity gate is measured on texts of the job's own, and one of them may be poison: it ends every replica before that has
encoded a unit, on each run anew, and no attempt at a unit tells of it. So the gate of a run is noted like one.
"""

import contextlib
import uuid

from pipeline.commit.attempts import begin_attempt, end_attempt
from pipeline.commit.records import AttemptNote
from pipeline.errors import EmbedpipeError
from pipeline.flow.job import Job
from pipeline.flow.planning import Planned
from pipeline.spec import gate_unit

MAX_DEATHS = 2
"""Runs that ended before anything was encoded, without a word. One may be a machine that was taken away."""


class GateWatch:
    """Of one run."""

    def __init__(self, job: Job) -> None:
        self._store, self._run, self._spec = job.store, job.run, job.spec.spec_id
        self._attempt = uuid.uuid4().hex
        self._begun: int | None = None  # the generation of the note
        self._ended = False
        self._harmless: bool | None = None  # the job's own texts; None while nothing is known of them

    def trusts(self, planned: Planned) -> bool:
        """Whether the gate may be measured on the job's own texts. Once they are suspected they stay so: units that are encoded
        after that say nothing of them."""
        if self._harmless is None and planned.gate_deaths >= MAX_DEATHS:
            self._harmless = False
        return self._harmless is not False

    def begin(self, planned: Planned) -> None:
        """Replicas are about to be loaded. Raises StorageError."""
        if self._begun is None:
            unit = gate_unit(self._spec)
            note = AttemptNote(unit, self._run, self._spec, planned.version, unit, 0, ())
            begin_attempt(self._store, note, planned.gate_generation, self._attempt)
            self._begun = planned.gate_generation

    def passed(self) -> None:
        """A unit has been encoded."""
        if self._harmless is None:
            self._harmless = True
        self.end("passed")

    def round_failed(self) -> None:
        """Workers have died; if no unit was encoded before that, it may have been over the gate's texts."""
        if self._harmless is None:
            self._harmless = False

    def end(self, reason: str) -> None:
        """In an orderly way: it counts as no death."""
        if self._begun is not None and not self._ended:
            with contextlib.suppress(EmbedpipeError):  # only a note; without it the run counts as one that died
                end_attempt(self._store, gate_unit(self._spec), self._begun, self._attempt, reason)
            self._ended = True
