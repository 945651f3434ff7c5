"""A unit on its way: read → prepare (reading.py) → encode (encoding.py) → stage (staging.py). Both engines call these.

Each step takes what the one before gave and never raises for what input, store or encoder did wrong: such a unit goes
on as an `Ack` that says so, and the supervisor decides. Anything else that is raised is a bug and ends the run.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.commit.records import PieceRef, Times, UnitRecord
from pipeline.commit.units import commit_unit
from pipeline.errors import EmbedpipeError, InputError
from pipeline.flow.acks import Ack, AckState, without_frames
from pipeline.flow.context import JobContext
from pipeline.sink.part import rows_digest
from pipeline.source.records import Span
from pipeline.storage.store import Store
from pipeline.text.prepare import Prepared


@dataclass(frozen=True, slots=True)
class UnitTask:
    """Which unit this is."""

    unit: str
    generation: int
    segment: str
    k: int
    eof: bool
    pieces: tuple[PieceRef, ...]
    spans: tuple[Span, ...]
    base: int  # the newest version when it was planned
    source_bytes: int  # share of the input this unit stands for; those of a segment add up to its size
    deaths: int = 0  # earlier attempts that ended with their process


@dataclass(frozen=True, slots=True)
class PreparedUnit:
    """A unit as token ids."""

    task: UnitTask
    prepared: Prepared
    digest: str  # of ids and text hashes, taken right after reading
    times: Times


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """A unit with its vectors: float32 [unique texts, dimensions]."""

    task: UnitTask
    prepared: Prepared
    digest: str
    vectors: npt.NDArray[np.float32]
    attempt: str
    device: str
    dtype: str
    gate: dict[str, object]  # what the replica's parity gate measured
    padded_tokens: int
    times: Times


def refuse(context: JobContext, store: Store, task: UnitTask, attempt: str, error: InputError) -> Ack:
    """Commit a `failed` record for a unit that can't be read, or has a row that the config refuses."""
    record = UnitRecord(
        unit=task.unit,
        generation=task.generation,
        state="failed",
        spec=context.spec_id,
        segment=task.segment,
        k=task.k,
        attempt=attempt,
        base=task.base,
        pieces=task.pieces,
        reason=error.message,
    )
    try:
        commit_unit(store, record)
    except EmbedpipeError as second:
        return task_ack("error", task, second)
    return task_ack("failed", task, error)


def task_ack(state: AckState, task: UnitTask, error: EmbedpipeError | None = None) -> Ack:
    """The acknowledgement of a unit that was not committed here."""
    uri, message = (error.uri, error.message) if error else ("", "")
    return Ack(
        state=state,
        unit=task.unit,
        segment=task.segment,
        uri=uri or task.pieces[0].uri,
        message=message,
        error=without_frames(error) if error else None,
    )


def milliseconds_since(began: float) -> int:
    """Since a moment of `time.monotonic()`."""
    return round((time.monotonic() - began) * 1000)


def digest_of(prepared: Prepared) -> str:
    """sha256 over ids and text hashes of the accepted rows, in order."""
    return rows_digest(prepared.rows["id"], prepared.rows["text_hash"])
