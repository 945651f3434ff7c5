"""Step encode: token ids → vectors, by a replica that has passed the parity gate."""

import contextlib
import logging
import platform
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.commit.attempts import begin_attempt, end_attempt
from pipeline.commit.records import AttemptNote, Times
from pipeline.commit.units import read_unit
from pipeline.encode.memory import free_memory
from pipeline.encode.placement import Way
from pipeline.errors import EmbedpipeError, EncodeError, InputError, StorageError, first_line
from pipeline.flow.acks import Ack
from pipeline.flow.context import JobContext
from pipeline.flow.isolate import isolate
from pipeline.flow.overflow import encode_in_float32
from pipeline.flow.replica import encode_finite, load_replica, not_finite
from pipeline.flow.throwaway import LOADING_S
from pipeline.flow.unit import EncodedUnit, PreparedUnit, UnitTask, digest_of, refuse, task_ack
from pipeline.storage.retry import REQUESTS
from pipeline.text.prepare import Prepared

if TYPE_CHECKING:  # torch is loaded where there is a replica, not by readers, stagers and the driver
    from pipeline.encode.encoder import Encoder
    from pipeline.quality.gate import GateResult

log = logging.getLogger(__name__)

MAX_DEATHS = 2
"""Attempts at a unit that end with their process before its texts are suspected. One may be a machine that was taken away;
trying a unit of a single text apart costs no more than trying it again."""


def none_here(error: Exception) -> str:
    """Why this machine has no replica."""
    return f"{platform.node()}: no replica can be loaded here: {first_line(error, named=True)}"


class Encoding:
    """Step encode. Holds a model replica that has passed the parity gate.

    worn_out: no replica can be had in this process any more, though there was one; each further unit would fail.
    """

    def __init__(self, context: JobContext, threads: int | None = None) -> None:
        self.context = context
        self.store = context.open_store()
        self._threads = threads
        self._watch = context.model.watch()
        self._waits = 0
        self._loading_since: float | None = None
        self._compiled_s = 0.0  # compiling, since the last unit was done
        self._replica: tuple[Encoder, GateResult] | None = None
        self._way: Way | None = None  # of the replica that was let go last
        self.worn_out = False
        self._load()
        self._idle_since = time.monotonic()

    @property
    def progress(self) -> int:
        """Changes as long as encoding goes on. Loading a model, or compiling its layers, counts as that for an hour."""
        since, replica = self._loading_since, self._replica  # another thread may ask, at any moment
        if since is not None:
            return -1 - int(min(LOADING_S, time.monotonic() - since))
        return REQUESTS.tried + self._waits + (replica[0].stats.batches if replica else 0)

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
            note = AttemptNote(
                task.unit, self.context.run, self.context.spec_id, task.base, task.segment, task.k, task.pieces
            )
            begin_attempt(self.store, note, task.generation, attempt)
            texts = len(unit.prepared.offsets) - 1
            suspected = texts > 0 and task.deaths + deaths >= (MAX_DEATHS if texts > 1 else 1)
            return self._isolate(unit, attempt) if suspected else self._try(unit, attempt)
        except InputError as error:
            return refuse(self.context, self.store, task, attempt, error)
        except EmbedpipeError as error:
            with contextlib.suppress(StorageError):  # only a note; without it the attempt counts as one that died
                end_attempt(self.store, task.unit, task.generation, attempt, error.message)
            return task_ack("error", task, error)

    def _try(self, unit: PreparedUnit, attempt: str) -> EncodedUnit:
        """Here and now; text by text in a process of its own when something is raised: nobody knows which of them it was."""
        encoder, gate = self._load_again()
        started, before = time.monotonic(), encoder.stats
        vectors = None
        try:
            vectors = encode_finite(encoder, unit.prepared.token_ids, unit.prepared.offsets)
        except Exception as error:
            log.warning("%s: %s", unit.task.pieces[0].uri, str(error))  # whoever keeps the record keeps no frames
        placement, padded_tokens = encoder.placement, encoder.stats.padded_tokens - before.padded_tokens
        del encoder  # and out of the handler, whose traceback holds it too: from here on it can be let go
        if vectors is None:
            return self._isolate(unit, attempt)
        return self._encoded(
            unit,
            attempt,
            unit.prepared,
            vectors,
            device=placement.device,
            dtype=placement.dtype,
            gate=gate.to_json(),
            padded_tokens=padded_tokens,
            started=started,
        )

    def _isolate(self, unit: PreparedUnit, attempt: str) -> EncodedUnit:
        """In a process that may die; texts that end it are set aside. There may be no room for two replicas, so ours goes."""
        started = time.monotonic()
        self._let_go()
        log.warning(
            "%s: unit %d can't be encoded as a whole; its texts are tried apart", unit.task.pieces[0].uri, unit.task.k
        )
        # Over there the gate has no texts of the job: what those have ruled out stays so.
        context = replace(self.context, model=replace(self.context.model, at_most=self._way))
        found = isolate(context, self._threads, unit.prepared.token_ids, unit.prepared.offsets, self._count_wait)
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
            started=started,
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
        started: float,
    ) -> EncodedUnit:
        prepared, vectors = self._set_aside_not_finite(unit.task, prepared, vectors, dtype)
        self._watch.check()  # weights are mapped from their file: what is written over it is computed with
        return EncodedUnit(
            task=unit.task,
            prepared=prepared,
            digest=unit.digest if prepared is unit.prepared else digest_of(prepared),
            vectors=vectors,
            attempt=attempt,
            device=device,
            dtype=dtype,
            gate=gate,
            padded_tokens=padded_tokens,
            times=self._times(unit.times, started),
        )

    def _times(self, times: Times, started: float) -> Times:
        """Encoding has gone on since `started`, but for compiling. From the end of the unit before until then the replica stood
        still: also while the store was asked whether the unit is there already, and told that it is begun."""
        ended, compiled_s = time.monotonic(), self._compiled_s
        wait_s = started - self._idle_since + compiled_s
        self._idle_since, self._compiled_s = ended, 0.0
        return replace(times, wait=round(wait_s * 1000), encode=round((ended - started - compiled_s) * 1000))

    def _set_aside_not_finite(
        self, task: UnitTask, prepared: Prepared, vectors: npt.NDArray[np.float32], dtype: str
    ) -> tuple[Prepared, npt.NDArray[np.float32]]:
        """Reject the rows of texts whose vector has NaN or infinity, unless that is for half precision alone."""
        bad, only = not_finite(vectors), ""
        if len(bad) and dtype != "float32":
            log.warning("%s: %d texts of unit %d overflow %s", task.pieces[0].uri, len(bad), task.k, dtype)
            exact = encode_in_float32(
                self.context,
                self._threads,
                prepared.token_ids,
                prepared.offsets,
                bad,
                while_waiting=self._count_wait,
                make_room=self._let_go,
            )
            if exact is None:
                only = f", in {dtype}; this machine has no room to try float32"
            else:
                vectors[bad] = exact
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
            pa.array(bad), "not_finite", f"the model gives NaN or infinity for this text alone{only}"
        ), vectors

    def _load(self) -> "tuple[Encoder, GateResult]":
        if self._replica is None:
            with self._loading():
                self._replica = load_replica(self.context, self._threads)
            self._replica[0].compile_within = self._compiling
        return self._replica

    def _let_go(self) -> None:
        """Make room for another replica. The next unit loads ours again."""
        if self._replica is not None:
            encoder, self._replica = self._replica[0], None
            self._way = Way(encoder.placement.dtype, encoder.fast)
            del encoder
        free_memory()

    def _load_again(self) -> "tuple[Encoder, GateResult]":
        """`_load`, by a process that had a replica. If that went over an error of its device, no other one may come up."""
        try:
            return self._load()
        except EmbedpipeError:
            raise
        except Exception as error:
            self.worn_out = True
            how = first_line(error, named=True)
            device = "; its device is of no use to it any more" if isinstance(error, RuntimeError) else ""
            raise EncodeError(
                f"the model can't be loaded a second time by the process that has encoded with it ({how}){device}. A new process "
                "is needed: run again"
            ) from error

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        """While something goes on that shows no progress of its own."""
        self._loading_since = time.monotonic()
        try:
            yield
        finally:
            self._loading_since = None

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        began = time.monotonic()
        with self._loading():
            yield
        self._compiled_s += time.monotonic() - began

    def _count_wait(self) -> None:
        self._waits += 1
