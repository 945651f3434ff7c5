"""Attempts: written before encoding, so that what was in flight is known even when its process was killed."""

from pipeline.commit.keys import attempt_end_key, attempt_key
from pipeline.commit.records import PieceRef
from pipeline.spec import canonical_json
from pipeline.storage.store import Store


def begin_attempt(
    store: Store, unit: str, generation: int, attempt: str, run: str, pieces: tuple[PieceRef, ...]
) -> None:
    """Note that an attempt begins. Its name is never used again, so the outcome of the put needs no reading back."""
    note = {"run": run, "pieces": [[piece.uri, piece.version] for piece in pieces]}
    store.put_new(attempt_key(unit, generation, attempt), canonical_json(note))


def end_attempt(store: Store, unit: str, generation: int, attempt: str, reason: str) -> None:
    """Note that an attempt ended in an orderly way without a commit: it does not count as a death."""
    store.put_new(attempt_end_key(unit, generation, attempt), canonical_json({"reason": reason}))
