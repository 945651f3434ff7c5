"""Looking after an output without running its job: collection, and the rows kept aside."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commit.collect import collect, find_garbage, list_unpublished
from pipeline.commit.keys import META
from pipeline.commit.records import UnitRecord
from pipeline.commit.snapshot import read_head, republish
from pipeline.commit.units import RETRY, list_generations, read_rulings, read_unit, retire_unit
from pipeline.errors import InputError, Overtaken
from pipeline.flow.lookup import Lookup
from pipeline.flow.publishing import finish
from pipeline.sink.assemble import damaged
from pipeline.sink.part import QUARANTINE_SCHEMA
from pipeline.source.streams import one_line
from pipeline.storage.open import open_store
from pipeline.storage.store import Store


def collect_garbage(output: str, *, dry_run: bool = False, abandon: bool = False) -> list[str]:
    """Delete what nobody refers to and settle `_SUCCESS`; with `dry_run` only tell. Gives the keys.

    abandon: delete also what is committed, assembled or in flight and in no snapshot. A run at work is overtaken by it.

    Raises InputError when nothing was ever written at `output`.
    """
    store = open_store(output)
    head = read_head(store)
    if head is None and next(store.list(META), None) is None:
        raise _nothing_at(store)
    unpublished = [] if head is None or not abandon else list(list_unpublished(store, head))
    if head is not None and unpublished and not dry_run:
        try:
            republish(store, head, head.entry.version - head.entry.oldest + 1)
        except Overtaken:  # a run has just published: its entry serves as well, and some of them may be its files
            unpublished = []
        head = read_head(store)
    garbage = find_garbage(store, Lookup(), abandon=abandon)
    if not dry_run:
        collect(store, garbage)
        store.tidy()
        if head is not None:
            with contextlib.suppress(Overtaken):  # that run will finish
                finish(store, head.entry.version - head.entry.oldest + 1)
    return sorted({*garbage.keys, *unpublished})


def list_quarantine(output: str) -> pa.Table:
    """Rows kept aside, of published and of committed units: uri, position, id, kind, reason, raw."""
    store = open_store(output)
    tables = []
    for record in _with_quarantine(store):
        quarantine = record.quarantine
        data = None if quarantine is None else store.get(quarantine.key)
        if quarantine is None or data is None:
            continue
        try:
            tables.append(pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False))
        except (pa.ArrowException, OSError) as error:
            raise damaged(store, quarantine.key, one_line(error)) from error
    return pa.concat_tables(tables) if tables else QUARANTINE_SCHEMA.empty_table()


def retry_quarantine(output: str) -> int:
    """Ask the next run to work every unit with quarantined rows again; the number of rows concerned."""
    store = open_store(output)
    generations = list_generations(store)
    rows = 0
    for record in _with_quarantine(store):
        # A unit may have been committed, or retired by a collection, since its generations were listed.
        generation = max(generations.get(record.unit, 0), record.generation) + 1
        while True:
            standing = retire_unit(store, record, generation, RETRY)
            if standing.state != "retired" or standing.reason == RETRY:
                break
            generation += 1
        rows += record.rows_quarantined
    return rows


def _with_quarantine(store: Store) -> Iterator[UnitRecord]:
    """Records of the units that rule now and have quarantined rows."""
    head = read_head(store)
    generations = list_generations(store)
    if head is None and not generations:
        raise _nothing_at(store)
    covered = {unit.unit: unit for unit in head.units} if head else {}
    for unit in covered.values():
        if unit.rows_quarantined:
            record = read_unit(store, unit.unit, unit.generation)
            if record is not None:
                yield record
    for record in read_rulings(store, [unit for unit in generations if unit not in covered], generations).values():
        if record.state == "done" and record.rows_quarantined:
            yield record


def _nothing_at(store: Store) -> InputError:
    return InputError(f"{store.root}: nothing was ever written here; check the path")
