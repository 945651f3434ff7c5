"""Puts the program's own code on the simulated store, source and engine, and takes it off again.

What is replaced: where stores are opened, sources looked at and models found; names that must not be random; and how
records become bytes, which is only made fast. What decides anything about the output is the program's.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from faults.simulation import stand_ins
from msgspec.json import encode

from pipeline.commit import assembly, attempts, collect, records, snapshot, units
from pipeline.commit.manifest import ManifestUnit
from pipeline.flow import encoding, engine, job, lookup, maintenance, planning, publishing, reading, staging, supervisor
from pipeline.plan import plan
from pipeline.storage import create

Replacement = tuple[Any, str, Any]


@contextmanager
def replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    """Attributes set for the time of the block."""
    before = [(where, name, where.__dict__[name]) for where, name, _ in replacements]
    try:
        for where, name, value in replacements:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in reversed(before):
            setattr(where, name, value)


@cache
def fast_records() -> list[Replacement]:
    """The same bytes and records, made faster and remembered."""
    kinds = (records.UnitRecord, records.AttemptNote, records.AssemblyRecord, records.LogEntry)
    return [
        *((kind, "from_json", staticmethod(_remembered(kind.from_json))) for kind in kinds),
        (records, "_dump", plain_json),
        (attempts, "canonical_json", plain_json),
        (attempts, "asdict", lambda note: note),
        (snapshot, "encode_manifest", encode_manifest),
        (snapshot, "decode_manifest", decode_manifest),
        (plan, "segment_id", _segment_id),
    ]


def simulated(world: Any) -> list[Replacement]:
    """The program's doors to the outside, led into `world`."""
    return [
        (uuid, "uuid4", world.uuid),
        (create, "pauses", lambda: (0.0,) * 3),
        (engine, "open_store", world.open_store),
        (maintenance, "open_store", world.open_store),
        (engine, "apply_environment", lambda environment: None),
        (
            engine,
            "write_data_file",
            lambda store, files, layout, _: stand_ins.write_data_file(store, files, world.hand()),
        ),
        (job, "discover", lambda source: world.list_source()),
        (job, "find", world.find),
        (job, "check_apart", lambda files, output: None),
        (lookup, "find", world.find),
        (lookup, "log", logging.Logger("nobody", logging.CRITICAL)),
        (lookup, "is_hollow", lambda uri: world.is_hollow()),
        (publishing, "worker_environment", dict),
        (publishing, "_facts", lambda job, duplicates: {"run": job.run}),
        (publishing, "plan_assembly", lambda *a: assembly.plan_assembly(*a[:4], world.target_bytes, a[5])),
        (planning, "read_footers", lambda files: {}),
        (planning, "read_rulings", _read_rulings),
        (maintenance, "read_rulings", _read_rulings),
        (collect, "read_rulings", _read_rulings),
        (publishing, "find_garbage", _find_garbage),
        (maintenance, "find_garbage", _find_garbage),
        (supervisor, "resolve", lambda config, limit: world.resolve(config)),
        (supervisor, "probe", lambda store: None),
        (supervisor, "count_duplicate_ids", lambda job, planned, published: None),
        (supervisor, "make_context", lambda job, sample, base: world.context(job, base)),
        (supervisor, "make_engine", lambda execution: world.make_engine()),
        (reading, "read_segment", lambda segment, *_: stand_ins.read_segment(segment, world.look, world.counts)),
        *((step, "digest_of", stand_ins.digest) for step in (reading, encoding, staging)),
        *((step, "milliseconds_since", lambda began: 0) for step in (reading, staging)),
        (staging, "build_part", lambda rows, *_: stand_ins.build_part(rows, world.uuid().hex, world.partitioned)),
        (staging, "build_quarantine", lambda rows, *_: stand_ins.build_quarantine(rows, world.uuid().hex)),
    ]


def plain_json(value: object) -> bytes:
    """What `canonical_json(asdict(value))` gives, without its checks."""
    return encode(value, order="sorted")


_segment_id = cache(plan.segment_id)
_manifests: dict[bytes, tuple[ManifestUnit, ...]] = {}
_memories: list[dict[bytes, Any]] = [_manifests]


def forget() -> None:
    """Everything remembered: no history has records of another one."""
    for memory in _memories:
        memory.clear()
    _segment_id.cache_clear()


def encode_manifest(found: Sequence[ManifestUnit]) -> bytes:
    """A manifest as JSON, with what the judge must know of it."""
    data = json.dumps(
        [
            {
                "unit": u.unit,
                "generation": u.generation,
                "pieces": [[p.uri, p.version] for p in u.pieces],
                "rows_out": u.rows_out,
                "quarantine": u.quarantine,
                "slices": [[s.file.key, s.file.bytes, s.file.sha256, s.first_row, s.rows] for s in u.slices],
            }
            for u in found
        ]
    ).encode()
    _manifests[data] = tuple(found)
    return data


def decode_manifest(data: bytes) -> tuple[ManifestUnit, ...]:
    """The units of a manifest that was encoded here."""
    return _manifests[data]


def _remembered(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    memory: dict[bytes, Any] = {}
    _memories.append(memory)

    def remembered(data: bytes) -> Any:
        if data not in memory:
            memory[data] = read(data)
        return memory[data]

    return remembered


def _read_rulings(store: Any, names: Any, generations: Mapping[str, int], fetch: Any = None) -> dict[str, Any]:
    """Without threads, and in one order: sets of names have another one in each process, and a history must not."""
    return units.read_rulings(store, sorted(names) if isinstance(names, set) else names, generations, _fetch)


def _find_garbage(store: Any, lookup: Any, **options: Any) -> collect.Garbage:
    return collect.find_garbage(store, lookup, _fetch, **options)


def _fetch(get: Callable[[str], bytes | None], keys: Sequence[str]) -> list[bytes | None]:
    return [get(key) for key in keys]


def seeded_uuids(seed: int) -> Callable[[], Any]:
    """Names that are never used twice, the same for each seed."""
    count = iter(range(1 << 60))

    def make() -> Any:
        return uuid.UUID(bytes=hashlib.blake2b(f"{seed}/{next(count)}".encode(), digest_size=16).digest())

    return make
