"""Units: who rules, and how a ruling is made. The highest generation of a unit rules; its record never changes."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from pipeline.commit.keys import UNIT, UnitFile, parse_unit, parse_unit_file, unit_key
from pipeline.commit.records import AttemptNote, UnitRecord, parsed
from pipeline.errors import CommitError
from pipeline.storage.create import create
from pipeline.storage.store import Store

T = TypeVar("T")


class Fetch(Protocol):
    """Applies a getter to many names; injected so that a simulation may stay single-threaded."""

    def __call__(self, get: Callable[[str], T], names: Sequence[str]) -> list[T]: ...


TRIED, QUICK_S = 8, 0.001
"""So many are timed, in seconds for one."""

RETRY = "retry"
"""Reason of a `retired` record that asks for a unit to be worked again although the head covers it."""


def retire_unit(store: Store, unit: UnitRecord | AttemptNote, generation: int, reason: str = "") -> UnitRecord:
    """Supersede the rulings of a unit up to `generation` - 1. Gives what stands at `generation`: any record there does."""
    retired = UnitRecord(
        unit=unit.unit,
        generation=generation,
        state="retired",
        spec=unit.spec,
        segment=unit.segment,
        k=unit.k,
        attempt="",
        base=unit.base,
        pieces=unit.pieces,
        reason=reason,
    )
    return commit_unit(store, retired)[0]


def commit_unit(store: Store, record: UnitRecord) -> tuple[UnitRecord, bool]:
    """Commit `record`. Gives the record that stands, and whether it is ours.

    A `failed` or `retired` record loses to nothing: any record at its generation serves the same purpose.
    """
    if record.state == "done" and record.rows_in != record.rows_out + record.rows_quarantined:
        raise CommitError(
            f"unit {record.unit}: {record.rows_in} source rows, but {record.rows_out} rows out and "
            f"{record.rows_quarantined} quarantined; a row was lost or doubled between reading and staging"
        )
    key = unit_key(record.unit, record.generation)
    created = create(store, key, record.to_json())
    return (record, True) if created.ours else (parsed(store.root, key, created.value, UnitRecord.from_json), False)


def read_unit(store: Store, unit: str, generation: int) -> UnitRecord | None:
    """The record of a unit's generation, if there is one."""
    key = unit_key(unit, generation)
    data = store.get(key)
    return None if data is None else parsed(store.root, key, data, UnitRecord.from_json)


def open_request(store: Store, ruling: UnitRecord | None, published: int) -> str:
    """RETRY if a unit is to be worked again for the sake of its quarantined rows, whatever was made of it since; else "".

    Whoever retires what answers a request has to repeat it: the head may get the rows it is about at any moment.

    ruling: the unit's newest record. published: the generation that the head has, -1 for none.
    """
    record = ruling
    while record is not None and record.state != "retired":
        below = record.generation - 1
        record = read_unit(store, record.unit, below) if below > published else None
    return RETRY if record is not None and record.reason == RETRY and record.generation > published else ""


def list_generations(store: Store) -> dict[str, int]:
    """The highest generation on the store of every unit that has a record."""
    highest: dict[str, int] = {}
    for entry in store.list(UNIT):
        parsed = parse_unit(entry.key)
        if parsed is not None and parsed[1] >= highest.get(parsed[0], 0):
            highest[parsed[0]] = parsed[1]
    return highest


def list_unit_files(store: Store, prefix: str) -> list[UnitFile]:
    """Parts, quarantine files or attempts, as their names say whose they are."""
    return [file for entry in store.list(prefix) if (file := parse_unit_file(entry.key)) is not None]


def fetch_many(get: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Get many small objects: in threads where each takes its time, as on object stores, and else one by one."""
    began = time.perf_counter()
    first = [get(name) for name in names[:TRIED]]
    rest = names[TRIED:]
    if time.perf_counter() - began < TRIED * QUICK_S:  # so quick that threads would only stand in each other's way
        return first + [get(name) for name in rest]
    with ThreadPoolExecutor(32, thread_name_prefix="fetch") as pool:
        return [*first, *pool.map(get, rest)]


def read_rulings(
    store: Store, units: Iterable[str], generations: Mapping[str, int], fetch: Fetch = fetch_many
) -> dict[str, UnitRecord]:
    """The ruling records of those of `units` that have one."""

    def read(unit: str) -> UnitRecord | None:
        return read_unit(store, unit, generations[unit])

    known = [unit for unit in units if unit in generations]
    return {unit: record for unit, record in zip(known, fetch(read, known), strict=True) if record is not None}
