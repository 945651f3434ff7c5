"""`Ack`: the small thing that comes back to the driver for every unit. Never rows, never vectors."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.commit.records import NO_TIME, Times, UnitRecord
from pipeline.errors import EmbedpipeError
from pipeline.plan.records import SegmentWork
from pipeline.spec import unit_id

AckState = Literal[
    "done",  # committed, by this attempt or by another one that was quicker
    "skipped",  # somebody had committed it before it was encoded
    "failed",  # the input can't be read; a `failed` record says why
    "changed",  # the source is no longer the version that was planned
    "stopped",  # the run was asked to stop before this unit was begun
    "error",  # something else went wrong; nothing was committed
    "fatal",  # no unit can be done by this process: the model is refused, or its vectors are
]


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of a unit."""

    state: AckState
    unit: str
    segment: str
    uri: str
    message: str = ""
    rows_in: int = 0
    rows_out: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    folded: int = 0
    truncated: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    part_bytes: int = 0
    source_bytes: int = 0
    times: Times = NO_TIME
    device: str = ""
    dtype: str = ""
    gate: dict[str, Any] = field(default_factory=dict)  # what the replica's parity gate measured
    error: EmbedpipeError | None = None

    @staticmethod
    def of_record(state: AckState, record: UnitRecord, *, padded_tokens: int) -> "Ack":
        """The acknowledgement of a committed unit."""
        return Ack(
            state=state,
            unit=record.unit,
            segment=record.segment,
            uri=record.pieces[0].uri,
            rows_in=record.rows_in,
            rows_out=record.rows_out,
            quarantined=record.quarantined,
            folded=record.folded,
            truncated=record.truncated,
            tokens=record.tokens,
            padded_tokens=padded_tokens,
            part_bytes=record.part.bytes if record.part else 0,
            source_bytes=record.source_bytes,
            times=record.times,
            device=record.device,
            dtype=record.dtype,
            gate=record.gate or {},
        )


def without_frames(error: EmbedpipeError) -> EmbedpipeError:
    """The error as it would come from another process: the frames that it came through hold a unit's rows and vectors."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def failed_ack(state: AckState, work: SegmentWork, k: int, error: EmbedpipeError) -> Ack:
    """The acknowledgement of a unit that could not be read."""
    return Ack(
        state=state,
        unit=unit_id(work.id, k),
        segment=work.id,
        uri=error.uri or work.pieces[0].uri,
        message=error.message,
        error=without_frames(error),
    )


def fatal_ack(error: EmbedpipeError) -> Ack:
    """The answer of a worker that could not be set up."""
    return Ack(state="fatal", unit="", segment="", uri="", message=error.message, error=without_frames(error))
