"""Rule 1 of the commit protocol: whoever creates a key first wins, and everybody agrees on who that was.

No answer to a conditional put but 'yes' is sure: a request whose reply was lost is answered 'exists' when it is
repeated, and one that timed out may still arrive. So anything else is decided by reading what stands there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.retry import pauses
from pipeline.storage.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Created:
    """How a create ended."""

    ours: bool
    value: bytes  # what stands there now, for good


def create(store: Store, key: str, value: bytes, *, sleep: Callable[[float], None] = time.sleep) -> Created:
    """Put `value` unless the key exists. Two writers of equal values both own it.

    Raises TransientStorageError when the store stays away, StorageError when it refuses and nothing stands there. After
    either the value may still turn up.
    """
    found = _settle(store, key, value, lambda: store.get(key), sleep)
    return Created(True, value) if found is None else Created(found == value, found)


def create_file(store: Store, key: str, value: bytes, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Put a part or data file, whose name is never used twice: if it is there with our size, it is ours.

    Raises as `create` does, and StorageError when something else stands under the name.
    """
    size = _settle(store, key, value, lambda: store.size(key), sleep)
    if size is not None and size != len(value):
        raise StorageError(f"{store.root}/{key} has {size} bytes instead of {len(value)}: something else wrote it")


def _settle(
    store: Store, key: str, value: bytes, look: Callable[[], T | None], sleep: Callable[[float], None]
) -> T | None:
    """Put until it is known how it ended. None: our put was confirmed; otherwise what `look` found standing there."""
    problem = "it says that something is there, and shows nothing"
    for pause in chain(pauses(), (0.0,)):
        refused: StorageError | None = None
        try:
            if store.put_new(key, value):
                return None
        except StorageError as error:
            refused = None if error.retry else error
            problem = error.message
        found = look()
        if found is not None:
            return found
        if refused is not None:
            raise refused
        sleep(pause)
    raise TransientStorageError(f"creating {store.root}/{key}: the store doesn't take it ({problem}); run again")
