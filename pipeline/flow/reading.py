"""Step read + prepare: a segment's rows → units as token ids."""

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from pipeline.commit.records import Times
from pipeline.errors import EmbedpipeError, EncodeError, InputError, SourceChanged
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.context import JobContext
from pipeline.flow.read_apart import read_apart
from pipeline.flow.unit import PreparedUnit, UnitTask, digest_of, milliseconds_since, refuse
from pipeline.plan.records import SegmentWork
from pipeline.source.read import read_segment
from pipeline.source.records import SourceUnit, Span
from pipeline.spec import unit_id
from pipeline.storage.retry import REQUESTS
from pipeline.text.prepare import Preparer

log = logging.getLogger(__name__)


class Reading:
    """Step read + prepare. Holds the tokenizer."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.store = context.open_store()
        watch = context.model.watch()
        self.preparer = Preparer(context.model.stage().directory, context.model.lock, context.text)
        watch.check()
        self._steps = 0

    def units_apart(self, work: SegmentWork) -> Iterator[PreparedUnit | Ack]:
        """The same from a process that may die: others have died over this segment."""
        log.warning("%s: reading it has ended processes; it is read apart", work.pieces[0].uri)
        yield from read_apart(self.context, work, self._give_up, self._count)

    @property
    def progress(self) -> int:
        """Grows as long as reading and tokenising go on, also over units that have their record."""
        return REQUESTS.tried + self._steps + self.preparer.progress

    def _count(self) -> None:
        self._steps += 1

    def units(self, work: SegmentWork) -> Iterator[PreparedUnit | Ack]:
        """The units of a segment that have no record yet, prepared one by one."""
        k = 0
        left = work.bytes
        began = time.monotonic()
        try:
            for source in self._limited(work):
                read_ms = milliseconds_since(began)
                k = source.k
                self._count()
                size = left if source.eof else min(left, source.rows["text"].nbytes)
                left -= size
                if k not in work.done:
                    yield self._prepare(work, source, size, read_ms)
                k += 1
                began = time.monotonic()
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

    def _prepare(self, work: SegmentWork, source: SourceUnit, size: int, read_ms: int) -> PreparedUnit:
        began = time.monotonic()
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
            base=self.context.base,
            source_bytes=size,
            deaths=work.died(source.k),
        )
        times = Times(read=read_ms, tokenise=milliseconds_since(began))
        return PreparedUnit(task, prepared, digest_of(prepared), times)

    def _give_up(self, work: SegmentWork, k: int, error: InputError) -> Ack:
        """Commit a `failed` record for the unit that can't be read; the next run tries it once more."""
        unread = UnitTask(
            unit=unit_id(work.id, k),
            generation=work.generation(k),
            segment=work.id,
            k=k,
            eof=False,
            pieces=work.pieces,
            spans=(),
            base=self.context.base,
            source_bytes=0,
            deaths=0,
        )
        return refuse(self.context, self.store, unread, uuid.uuid4().hex, error)


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
