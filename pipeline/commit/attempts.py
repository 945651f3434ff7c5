"""Attempts: written before encoding, so that what was in flight is known even when its process was killed.

A note says all that collection must know of a unit which may never get a record, and how often working it was begun.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from pipeline.commit.keys import ATTEMPT, attempt_end_key, attempt_key
from pipeline.commit.records import AttemptNote
from pipeline.commit.units import list_unit_files
from pipeline.spec import canonical_json
from pipeline.storage.create import create
from pipeline.storage.store import Store


def begin_attempt(store: Store, note: AttemptNote, generation: int, attempt: str) -> None:
    """Note that an attempt begins."""
    create(store, attempt_key(note.unit, generation, attempt), canonical_json(asdict(note)))


def end_attempt(store: Store, unit: str, generation: int, attempt: str, reason: str) -> None:
    """Note that an attempt ended in an orderly way without a commit: it does not count as a death."""
    create(store, attempt_end_key(unit, generation, attempt), canonical_json({"reason": reason}))


def list_unended(store: Store, generations: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """(unit, generation) → attempts that neither ended in an orderly way nor led to a record: they died, or still go on.

    generations: the highest generation with a record, by unit.
    """
    files = list_unit_files(store, ATTEMPT)
    ended = {file.attempt for file in files if file.key.endswith(".end")}
    return Counter(
        (file.unit, file.generation)
        for file in files
        if file.attempt not in ended and generations.get(file.unit, -1) < file.generation
    )
