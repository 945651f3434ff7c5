"""The output root as the rest of the program sees it: a flat map from keys to bytes with one conditional put.

Keys are relative to the root, use `/` on every platform and never start with it. All methods may be called from several
threads at once, and a store may be pickled into, or inherited by, another process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it."""

    key: str
    size: int  # bytes


class Store(Protocol):
    """What the commit protocol needs of a store. Every read and listing asks the store itself; nothing is cached.

    Each method raises TransientStorageError when the store doesn't answer in time, StorageError when it refuses.
    """

    @property
    def root(self) -> str:
        """URI or absolute local path, without credentials and without a slash at its end."""

    def get(self, key: str) -> bytes | None:
        """The whole value; None when there is none."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from offset `start`; StorageError when the value is gone or shorter."""

    def put_new(self, key: str, value: bytes) -> bool:
        """One conditional put. True: stored by this very request. False: the store says the key exists.

        What exists may be our own: an HTTP client repeats a request whose connection broke. TransientStorageError means
        that the outcome is not known. Use `create.create`, which finds out.
        """

    def put(self, key: str, value: bytes) -> None:
        """Store or replace. For the few keys that are not records."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove; keys that aren't there are fine."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every key that starts with `prefix`, which is empty or ends in `/`; sorted."""

    def size(self, key: str) -> int | None:
        """Bytes of the value; None when there is none."""

    def tidy(self) -> int:
        """Remove what killed writers left that has no key; how many things that were. Safe beside live writers."""
