"""Object stores: what every client of one must do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stat:
    """One object as the store describes it now."""

    path: str  # <bucket>/<key>
    etag: str  # without quotes
    size: int  # bytes


class Objects(Protocol):
    """Requests of an object store. Paths are `<bucket>/<key>`, taken literally.

    Every method but a creating `write` repeats requests that got no answer; all raise StorageError or
    TransientStorageError only.
    """

    def head(self, path: str) -> Stat | None:
        """What is there now; None when nothing is."""

    def read(self, path: str, start: int = 0, stop: int | None = None, etag: str | None = None) -> bytes | None:
        """Bytes [start, stop), fewer at the object's end. None when there is no object, or none with that `etag`."""

    def write(self, path: str, value: bytes, create: bool) -> bool:
        """Put in one request. `create`: only where nothing is, and not repeated; False when something is there."""

    def remove(self, paths: Sequence[str]) -> None:
        """Delete; what isn't there is fine. All in one bucket."""

    def walk(self, prefix: str) -> Iterator[Stat]:
        """Every object whose path starts with `prefix`, sorted, as the store lists them now."""
