"""One unit's way through the pipeline, in one screen: read → prepare → encode → stage. Both engines call these.

Each step takes what the one before gave and never raises for what input, store or encoder did wrong: such a unit goes
on as an `Ack` that says so, and the supervisor decides. Anything else that is raised is a bug and ends the run.
"""

import contextlib
import logging
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
from pipeline.flow.isolate import isolate
from pipeline.flow.read_apart import read_apart
from pipeline.flow.replica import encode_finite, load_replica, not_finite
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

log = logging.getLogger(__name__)

MAX_DEATHS = 2
"""Attempts at a unit that end with their process before its texts are suspected. One may be a machine that was taken away;
trying a unit of a single text apart costs no more than trying it again."""


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
    deaths: int = 0  # earlier attempts that ended with their process


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
        watch = context.model.watch()
        self.preparer = Preparer(context.model.stage().directory, context.model.lock, context.text)
        watch.check()
        self.progress = 0  # grows as long as reading goes on, also over units that have their record

    def units_apart(self, work: SegmentWork) -> Iterator[PreparedUnit | Ack]:
        """The same from a process that may die: others have died over this segment."""
        log.warning("%s: reading it has ended processes; it is read apart", work.pieces[0].uri)
        yield from read_apart(self.context, work, self._give_up, self._count)

    def _count(self) -> None:
        self.progress += 1

    def units(self, work: SegmentWork) -> Iterator[PreparedUnit | Ack]:
        """The units of a segment that have no record yet, prepared one by one."""
        k = 0
        left = work.bytes
        try:
            for source in self._limited(work):
                k = source.k
                self.progress += 1
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
        prepared = self.preparer.prepare(source.rows, [piece.uri for piece in work.pieces])
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
            deaths=work.died(source.k),
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
        self._threads = threads
        self._watch = context.model.watch()
        self._waits = 0
        self._loading = False
        self._replica: tuple[Encoder, GateResult] | None = None
        self._load()

    @property
    def progress(self) -> int:
        """Changes as long as encoding goes on. Loading a model takes the time it takes."""
        if self._loading:
            return int(time.monotonic())
        return self._waits + (self._replica[0].stats.batches if self._replica else 0)

    def encode(self, unit: PreparedUnit, deaths: int = 0) -> EncodedUnit | Ack:
        """Vectors of a unit's texts, unless somebody has committed the unit meanwhile.

        deaths: attempts at the unit that ended with their process, beside those that were planned with.
        """
        task = unit.task
        attempt = uuid.uuid4().hex
        try:
            standing = read_unit(self.store, task.unit, task.generation)
            if standing is not None:
                return task_ack("skipped", task)
            note = AttemptNote(task.unit, self.context.run, self.context.spec_id, task.segment, task.k, task.pieces)
            begin_attempt(self.store, note, task.generation, attempt)
            suspected = task.deaths + deaths >= (MAX_DEATHS if len(unit.prepared.offsets) > 2 else 1)
            return self._isolate(unit, attempt) if suspected else self._try(unit, attempt)
        except InputError as error:
            return _refused(self.context, self.store, task, attempt, error)
        except EmbedpipeError as error:
            with contextlib.suppress(StorageError):  # only a note; without it the attempt counts as one that died
                end_attempt(self.store, task.unit, task.generation, attempt, error.message)
            return task_ack("error", task, error)

    def _try(self, unit: PreparedUnit, attempt: str) -> EncodedUnit:
        """Here and now; text by text in a process of its own when something is raised: nobody knows which of them it was."""
        encoder, gate = self._load()
        started, before = time.monotonic(), encoder.stats
        try:
            vectors = encode_finite(encoder, unit.prepared.token_ids, unit.prepared.offsets)
        except Exception as error:
            log.warning("%s: %s", unit.task.pieces[0].uri, error)
            return self._isolate(unit, attempt)
        return self._encoded(
            unit,
            attempt,
            unit.prepared,
            vectors,
            device=encoder.placement.device,
            dtype=encoder.placement.dtype,
            gate=gate.to_json(),
            padded_tokens=encoder.stats.padded_tokens - before.padded_tokens,
            encode_s=time.monotonic() - started,
        )

    def _isolate(self, unit: PreparedUnit, attempt: str) -> EncodedUnit:
        """In a process that may die; texts that end it are set aside. There may be no room for two replicas, so ours goes."""
        started, self._replica = time.monotonic(), None
        log.warning(
            "%s: attempts at unit %d ended without a word; its texts are tried apart",
            unit.task.pieces[0].uri,
            unit.task.k,
        )
        found = isolate(self.context, self._threads, unit.prepared.token_ids, unit.prepared.offsets, self._count_wait)
        prepared = unit.prepared
        for text, how in found.poison.items():
            prepared = prepared.reject(pa.array([text]), "poison", f"encoded alone, {how}")
        return self._encoded(
            unit,
            attempt,
            prepared,
            found.vectors,
            device=found.device,
            dtype=found.dtype,
            gate=found.gate,
            padded_tokens=len(prepared.token_ids),
            encode_s=time.monotonic() - started,
        )

    def _encoded(
        self,
        unit: PreparedUnit,
        attempt: str,
        prepared: Prepared,
        vectors: npt.NDArray[np.float32],
        *,
        device: str,
        dtype: str,
        gate: dict[str, object],
        padded_tokens: int,
        encode_s: float,
    ) -> EncodedUnit:
        prepared, vectors = self._set_aside_not_finite(unit.task, prepared, vectors)
        self._watch.check()  # weights are mapped from their file: what is written over it is computed with
        return EncodedUnit(
            task=unit.task,
            prepared=prepared,
            digest=unit.digest if prepared is unit.prepared else _digest(prepared),
            vectors=vectors,
            attempt=attempt,
            device=device,
            dtype=dtype,
            gate=gate,
            padded_tokens=padded_tokens,
            encode_s=encode_s,
        )

    def _set_aside_not_finite(
        self, task: UnitTask, prepared: Prepared, vectors: npt.NDArray[np.float32]
    ) -> tuple[Prepared, npt.NDArray[np.float32]]:
        """Reject the rows of texts whose vector has NaN or infinity."""
        bad = not_finite(vectors)
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

    def _load(self) -> "tuple[Encoder, GateResult]":
        if self._replica is None:
            self._loading = True
            try:
                self._replica = load_replica(self.context, self._threads)
            finally:
                self._loading = False
        return self._replica

    def _count_wait(self) -> None:
        self._waits += 1


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
            with contextlib.suppress(StorageError):  # as above
                end_attempt(self.store, task.unit, task.generation, unit.attempt, error.message)
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
