"""One unit's way through the pipeline, in one screen: read → prepare → encode → stage. Both engines call these.

Each step takes what the one before gave and never raises for what input, store or encoder did wrong: such a unit goes
on as an `Ack` that says so, and the supervisor decides. Anything else that is raised is a bug and ends the run.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.commit.attempts import begin_attempt, end_attempt
from pipeline.commit.keys import part_key, quarantine_key
from pipeline.commit.records import AttemptNote, FileRef, PieceRef, UnitRecord
from pipeline.commit.units import commit_unit, read_unit
from pipeline.errors import EmbedpipeError, EncodeError, InputError, SourceChanged, StorageError
from pipeline.flow.acks import Ack, AckState, failed_ack
from pipeline.flow.context import JobContext
from pipeline.plan.records import SegmentWork
from pipeline.sink.part import Part, build_part, build_quarantine, rows_digest
from pipeline.source.read import read_segment
from pipeline.source.records import SourceUnit, Span
from pipeline.spec import unit_id
from pipeline.storage.create import create_file
from pipeline.storage.store import Store
from pipeline.text.prepare import Prepared, Preparer

if TYPE_CHECKING:  # torch is loaded where there is a replica, not by readers, stagers and the driver
    from pipeline.encode.encoder import Encoder
    from pipeline.quality.gate import GateResult


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
    source_bytes: int  # share of the input this unit stands for; those of a segment add up to its size


@dataclass(frozen=True, slots=True)
class PreparedUnit:
    """A unit as token ids."""

    task: UnitTask
    prepared: Prepared
    digest: str  # of ids and text hashes, taken right after reading


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
    encode_s: float


class Reading:
    """Step read + prepare. Holds the tokenizer."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.store = context.open_store()
        self.preparer = Preparer(context.model.stage().directory, context.model.lock, context.text)

    def units(self, work: SegmentWork) -> Iterator[PreparedUnit | Ack]:
        """The units of a segment that have no record yet, prepared one by one."""
        k = 0
        left = work.bytes
        try:
            for source in self._limited(work):
                k = source.k
                size = left if source.eof else min(left, source.rows["text"].nbytes)
                left -= size
                if k not in work.done:
                    yield self._prepare(work, source, size)
                k += 1
        except SourceChanged as error:
            yield failed_ack("changed", work, k, error)
        except InputError as error:
            yield self._give_up(work, k, error)
        except EmbedpipeError as error:
            yield failed_ack("error", work, k, error)

    def _limited(self, work: SegmentWork) -> Iterator[SourceUnit]:
        context = self.context
        max_rows = context.policy.max_rows(context.dimensions)
        units = read_segment(work.segment, context.extraction, context.policy, max_rows)
        return units if context.limit is None else _first_rows(units, context.limit)

    def _prepare(self, work: SegmentWork, source: SourceUnit, size: int) -> PreparedUnit:
        try:
            prepared = self.preparer.prepare(source.rows)
        except InputError as error:
            raise InputError(f"{source.spans[0].uri}, {error.message}") from error
        out, aside = prepared.rows.num_rows, prepared.rejected.num_rows
        if out + aside != source.rows.num_rows:
            raise EncodeError(
                f"{work.pieces[0].uri}: unit {source.k} has {source.rows.num_rows} source rows, but {out} were prepared "
                f"and {aside} rejected"
            )
        task = UnitTask(
            unit=unit_id(work.id, source.k),
            generation=work.generation(source.k),
            segment=work.id,
            k=source.k,
            eof=source.eof,
            pieces=work.pieces,
            spans=source.spans,
            source_bytes=size,
        )
        return PreparedUnit(task, prepared, _digest(prepared))

    def _give_up(self, work: SegmentWork, k: int, error: InputError) -> Ack:
        """Commit a `failed` record for the unit that can't be read; the next run tries it once more."""
        record = UnitRecord(
            unit=unit_id(work.id, k),
            generation=work.generation(k),
            state="failed",
            spec=self.context.spec_id,
            segment=work.id,
            k=k,
            attempt=uuid.uuid4().hex,
            pieces=work.pieces,
            reason=error.message,
        )
        try:
            commit_unit(self.store, record)
        except EmbedpipeError as second:
            return failed_ack("error", work, k, second)
        return failed_ack("failed", work, k, error)


class Encoding:
    """Step encode. Holds a model replica that has passed the parity gate."""

    def __init__(self, context: JobContext, threads: int | None = None) -> None:
        self.context = context
        self.store = context.open_store()
        self.encoder, self.gate = load_replica(context, threads)

    def encode(self, unit: PreparedUnit) -> EncodedUnit | Ack:
        """Vectors of a unit's texts, unless somebody has committed the unit meanwhile."""
        task = unit.task
        attempt = uuid.uuid4().hex
        try:
            standing = read_unit(self.store, task.unit, task.generation)
            if standing is not None:
                return task_ack("skipped", task)
            note = AttemptNote(task.unit, self.context.run, self.context.spec_id, task.segment, task.k, task.pieces)
            begin_attempt(self.store, note, task.generation, attempt)
            started = time.monotonic()
            before = self.encoder.stats
            vectors = self.encoder.encode(unit.prepared.token_ids, unit.prepared.offsets)
            prepared, vectors = self._set_aside_not_finite(task, unit.prepared, vectors)
            return EncodedUnit(
                task=task,
                prepared=prepared,
                digest=unit.digest if prepared is unit.prepared else _digest(prepared),
                vectors=vectors,
                attempt=attempt,
                device=self.encoder.placement.device,
                dtype=self.encoder.placement.dtype,
                gate=self.gate.to_json(),
                padded_tokens=self.encoder.stats.padded_tokens - before.padded_tokens,
                encode_s=time.monotonic() - started,
            )
        except InputError as error:
            return _refused(self.context, self.store, task, attempt, error)
        except EmbedpipeError as error:
            with contextlib.suppress(StorageError):  # only a note; without it the attempt counts as one that died
                end_attempt(self.store, task.unit, task.generation, attempt, error.message)
            return task_ack("error", task, error)

    def _set_aside_not_finite(
        self, task: UnitTask, prepared: Prepared, vectors: npt.NDArray[np.float32]
    ) -> tuple[Prepared, npt.NDArray[np.float32]]:
        """Encode texts whose vector has NaN or infinity once more, each alone; reject their rows if that doesn't help.

        In half precision a long neighbour in the batch can push a short text's attention out of range.
        """
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        for index in bad:
            start, stop = prepared.offsets[index], prepared.offsets[index + 1]
            vectors[index] = self.encoder.encode(prepared.token_ids[start:stop], np.array([0, stop - start]))[0]
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad) == 0:
            return prepared, vectors
        if dict(self.context.extraction.reject).get("not_finite") == "refuse":
            raise InputError(
                f"{task.pieces[0].uri}: the vectors of {len(bad)} texts hold NaN or infinity even when encoded alone, and "
                "rows.not_finite is refuse"
            )
        vectors[bad] = 0.0
        return prepared.reject(
            pa.array(bad), "not_finite", "the model gives NaN or infinity for this text alone"
        ), vectors


def load_replica(context: JobContext, threads: int | None) -> "tuple[Encoder, GateResult]":
    """A model replica on this process's device that has passed the parity gate. Raises ParityError, ModelError."""
    from pipeline.quality.gate import load_gated

    model = context.model
    return load_gated(
        model.stage(),
        texts=model.gate_texts,
        prompt=model.prompt,
        precision=model.precision,
        device=model.device,
        max_tokens=model.max_tokens,
        truncate_dim=model.truncate_dim,
        task=model.task,
        token_budget=model.token_budget,
        threads=threads,
    )


class Staging:
    """Step stage: the part, then the unit's commit record."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.store = context.open_store()

    def stage(self, unit: EncodedUnit) -> Ack:
        """Put the unit's rows under a name nobody else has, then commit. Losing to another attempt is fine."""
        task, prepared = unit.task, unit.prepared
        try:
            if _digest(prepared) != unit.digest:
                raise EncodeError(f"unit {task.unit}: ids and texts are not those that were read; nothing is staged")
            part = build_part(prepared.rows, unit.vectors, self.context.layout)
            aside = build_quarantine(prepared.rejected, [piece.uri for piece in task.pieces])
            name = (task.unit, task.generation, unit.attempt)
            record = self._record(unit, self._put(part_key(*name), part), self._put(quarantine_key(*name), aside), part)
            standing, ours = commit_unit(self.store, record)
        except InputError as error:
            return _refused(self.context, self.store, task, unit.attempt, error)
        except EmbedpipeError as error:
            return task_ack("error", task, error)
        state: AckState = "done" if ours or standing.state == "done" else "skipped"
        return Ack.of_record(state, record, padded_tokens=unit.padded_tokens, encode_s=unit.encode_s)

    def _put(self, key: str, part: Part | None) -> FileRef | None:
        if part is None:
            return None
        create_file(self.store, key, part.data)
        return FileRef(key, len(part.data), part.rows, part.sha256)

    def _record(self, unit: EncodedUnit, part: FileRef | None, aside: FileRef | None, built: Part | None) -> UnitRecord:
        task, prepared = unit.task, unit.prepared
        kinds = prepared.rejected["kind"].value_counts().to_pylist()
        out = prepared.rows.num_rows
        return UnitRecord(
            unit=task.unit,
            generation=task.generation,
            state="done",
            spec=self.context.spec_id,
            segment=task.segment,
            k=task.k,
            attempt=unit.attempt,
            eof=task.eof,
            pieces=task.pieces,
            spans=task.spans,
            part=part,
            folders=built.folders if built else (),
            quarantine=aside,
            rows_in=out + prepared.rejected.num_rows,
            rows_out=out,
            rows_quarantined=prepared.rejected.num_rows,
            quarantined={count["values"]: count["counts"] for count in kinds},
            digest=unit.digest,
            folded=max(0, out - (len(prepared.offsets) - 1)),
            truncated=int(np.count_nonzero(prepared.rows["truncated"].to_numpy())),
            tokens=len(prepared.token_ids),
            source_bytes=task.source_bytes,
            device=unit.device,
            dtype=unit.dtype,
            gate=unit.gate,
        )


def _refused(context: JobContext, store: Store, task: UnitTask, attempt: str, error: InputError) -> Ack:
    """Commit a `failed` record for a unit with a row that the config refuses."""
    record = UnitRecord(
        unit=task.unit,
        generation=task.generation,
        state="failed",
        spec=context.spec_id,
        segment=task.segment,
        k=task.k,
        attempt=attempt,
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
    message = error.message if error else ""
    return Ack(state=state, unit=task.unit, segment=task.segment, uri=task.pieces[0].uri, message=message, error=error)


def _digest(prepared: Prepared) -> str:
    return rows_digest(prepared.rows["id"], prepared.rows["text_hash"])


def _first_rows(units: Iterator[SourceUnit], limit: int) -> Iterator[SourceUnit]:
    """Units up to `limit` rows; the last one is cut and ends the segment."""
    left = limit
    for source in units:
        if source.rows.num_rows < left:
            left -= source.rows.num_rows
            yield source
            continue
        yield replace(source, rows=source.rows.slice(0, left), eof=True, spans=_cut_spans(source, left))
        return


def _cut_spans(source: SourceUnit, rows: int) -> tuple[Span, ...]:
    """What the first `rows` rows of a unit consumed: the last span ends where the first row left out begins."""
    if rows >= source.rows.num_rows:
        return source.spans
    file = source.rows["file"][rows].as_py() - source.rows["file"][0].as_py()
    position = source.rows["position"][rows].as_py()
    return (*source.spans[:file], replace(source.spans[file], stop=position))
