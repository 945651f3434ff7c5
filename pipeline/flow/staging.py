"""Step stage: the unit's part, then its commit record."""

import contextlib
import time
from dataclasses import replace

import numpy as np

from pipeline.commit.attempts import end_attempt
from pipeline.commit.keys import part_key, quarantine_key
from pipeline.commit.records import FileRef, UnitRecord
from pipeline.commit.units import commit_unit
from pipeline.errors import EmbedpipeError, EncodeError, InputError, StorageError
from pipeline.flow.acks import Ack, AckState
from pipeline.flow.context import JobContext
from pipeline.flow.unit import EncodedUnit, digest_of, milliseconds_since, refuse, task_ack
from pipeline.sink.part import Part, build_part, build_quarantine
from pipeline.storage.create import create_file
from pipeline.storage.retry import REQUESTS


class Staging:
    """Step stage: the part, then the unit's commit record."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.store = context.open_store()

    @property
    def progress(self) -> int:
        """Changes as long as the store is at least being asked."""
        return REQUESTS.tried

    def stage(self, unit: EncodedUnit) -> Ack:
        """Put the unit's rows under a name nobody else has, then commit. Losing to another attempt is fine."""
        task, prepared = unit.task, unit.prepared
        began = time.monotonic()
        try:
            if digest_of(prepared) != unit.digest:
                raise EncodeError(f"unit {task.unit}: ids and texts are not those that were read; nothing is staged")
            part = build_part(prepared.rows, unit.vectors, self.context.layout)
            aside = build_quarantine(prepared.rejected, [piece.uri for piece in task.pieces])
            name = (task.unit, task.generation, unit.attempt)
            record = self._record(unit, self._put(part_key(*name), part), self._put(quarantine_key(*name), aside), part)
            record = replace(record, times=replace(unit.times, stage=milliseconds_since(began)))
            standing, ours = commit_unit(self.store, record)
        except InputError as error:
            return refuse(self.context, self.store, task, unit.attempt, error)
        except EmbedpipeError as error:
            with contextlib.suppress(StorageError):  # without its note the attempt counts as one that died
                end_attempt(self.store, task.unit, task.generation, unit.attempt, error.message)
            return task_ack("error", task, error)
        state: AckState = "done" if ours or standing.state == "done" else "skipped"
        return Ack.of_record(state, record, padded_tokens=unit.padded_tokens)

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
            base=task.base,
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
