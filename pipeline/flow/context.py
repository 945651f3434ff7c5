"""`JobContext`: everything a worker needs to know of a job. Small, frozen, picklable; sent once to every process."""

import os
from dataclasses import dataclass, field

from pipeline.encode.placement import Device, Precision, Way
from pipeline.encode.settings import EncoderSettings
from pipeline.model.lock import ModelLock, StagedModel
from pipeline.model.resolve import ModelWatch, stage_model
from pipeline.sink.schema import Layout
from pipeline.source.records import Extraction, UnitPolicy
from pipeline.storage.environment import WorkerEnvironment, apply_environment
from pipeline.storage.open import open_store
from pipeline.storage.store import Store
from pipeline.text.policy import TextPolicy


@dataclass(frozen=True, slots=True)
class ModelContext:
    """Which model, and how a replica of it is to be set up."""

    name: str
    revision: str | None
    cache: str | None
    lock: ModelLock
    precision: Precision
    device: Device
    settings: EncoderSettings
    gate_texts: tuple[str, ...]  # a sample of the job's own texts
    at_most: Way | None = None  # what the gate has chosen by such a sample, for replicas that must do without one

    def stage(self) -> StagedModel:
        """The model on this node, its files checked against the lock. Raises ModelError when they differ."""
        return stage_model(self.name, self.revision, self.cache, self.lock)

    def watch(self) -> ModelWatch:
        """Sees whether the model's files on this node are touched from now on."""
        return ModelWatch(self.name, self.revision, self.cache)


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job as its workers see it."""

    output: str
    run: str  # 32 hexadecimal characters, new for every run
    spec_id: str
    base: int  # the newest version when the work was planned; 0: none
    extraction: Extraction
    policy: UnitPolicy
    limit: int | None  # rows of the whole job
    dimensions: int
    text: TextPolicy
    model: ModelContext
    layout: Layout
    unit_timeout_s: float  # without any progress; then a worker is given up
    environment: WorkerEnvironment = field(repr=False)

    def open_store(self) -> Store:
        """The output, with the driver's storage settings where this process has none of its own."""
        apply_environment(self.environment)
        # Set before a fork, or tokenizers warns in each worker.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        return open_store(self.output)
