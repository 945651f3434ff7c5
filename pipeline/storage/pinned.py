"""Seekable streams over range requests, and over a local file, whose errors are the program's own."""

import io
from collections.abc import Callable
from typing import Any

from pipeline.storage.faults import as_input_error, translated
from pipeline.storage.store import Store

_SMALLEST_BYTES = 64 * 1024
_LARGEST_BYTES = 8 * 1024 * 1024
_WHOLE_BYTES = 2 * _SMALLEST_BYTES


class RangeReader(io.RawIOBase):
    """Reads through `fetch(start, stop)`, which gives exactly those bytes.

    A read fetches at least a window, and keeps what is left of it. The window starts small, so that jumping about in a
    footer costs little, and grows twofold with each fetch that goes on where the last one ended. A small object is
    fetched whole, since a whole one can be checked by its hash.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0
        self._window = _SMALLEST_BYTES
        self._kept_start = 0
        self._kept = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"can't seek to {base + offset}: before the start of the file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, or as much of it as the object has left."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        offset = self._position - self._kept_start
        if not 0 <= offset < len(self._kept):
            self._load(wanted)
            offset = self._position - self._kept_start
        count = min(wanted, len(self._kept) - offset)
        buffer[:count] = self._kept[offset : offset + count]
        self._position += count
        return count

    def _load(self, wanted: int) -> None:
        if self._size <= _WHOLE_BYTES:
            self._kept, self._kept_start = memoryview(self._fetch(0, self._size)), 0
            return
        follows = self._position == self._kept_start + len(self._kept)
        self._window = min(_LARGEST_BYTES, self._window * 2) if follows else _SMALLEST_BYTES
        stop = min(self._size, self._position + max(wanted + _SMALLEST_BYTES, self._window))
        self._kept = memoryview(b"")  # not both windows in memory at once
        self._kept = memoryview(self._fetch(self._position, stop))
        self._kept_start = self._position


class LocalReader(io.FileIO):
    """An unbuffered local file."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "rb")

    def readinto(self, buffer: Any) -> int | None:
        with as_input_error(), translated("reading", str(self.name)):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with as_input_error(), translated("reading", str(self.name)):
            return super().readall()


def buffered(reader: io.RawIOBase) -> io.BufferedReader:
    """The reader with fast small reads and lines."""
    return io.BufferedReader(reader, _SMALLEST_BYTES)


def open_stored(store: Store, key: str, start: int = 0, size: int | None = None) -> io.BufferedReader | None:
    """A file of the output, or `size` bytes of it from byte `start` on, as if they were one; None when it is gone. What it reads
    raises like `Store.get_range`."""
    if size is None:
        size = store.size(key)
    if size is None:
        return None
    return buffered(RangeReader(size, lambda begin, end: store.get_range(key, start + begin, end - begin)))
