"""Object stores: the client of this process, and the output root on top of it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.errors import ConfigError, StorageError
from pipeline.storage.object import Objects
from pipeline.storage.retry import ATTEMPTS
from pipeline.storage.store import Entry
from pipeline.storage.uri import Scheme, parse


def connect(scheme: Scheme) -> Objects:
    """This process's client for a scheme, shared by its threads. Raises ConfigError when a package is missing."""
    settings = frozenset((name, value) for name, value in os.environ.items() if name.startswith(_SETTINGS))
    return _connect(scheme, os.getpid(), settings)


_SETTINGS = ("AWS_", "AZURE_", "CLOUDSDK_", "FSSPEC_", "GOOGLE_")


# By process: a client inherited over a fork would share its parent's sockets. By settings: they are read only once.
@lru_cache(maxsize=8)
def _connect(scheme: Scheme, process: int, settings: frozenset[tuple[str, str]]) -> Objects:  # noqa: ARG001
    with _explained(scheme):
        if scheme == "s3":
            from pipeline.storage.s3 import S3Objects

            return S3Objects()
        from pipeline.storage.generic import connect_generic

        return connect_generic(scheme)


def dataset_filesystem(scheme: Scheme) -> Any:
    """An fsspec file system for readers that make their own requests; unlike `connect`'s it retries by itself."""
    with _explained(scheme):
        if scheme == "s3":
            from pipeline.storage.s3 import s3_filesystem

            return s3_filesystem(attempts=ATTEMPTS)
        from pipeline.storage.generic import generic_filesystem

        return generic_filesystem(scheme)


@contextmanager
def _explained(scheme: Scheme) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        extra = {"gs": "embedpipe[gcs]", "az": "embedpipe[azure]"}.get(scheme, "embedpipe")
        raise ConfigError(f"{scheme}:// needs a package that is not installed: pip install '{extra}'") from error


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """An output root on an object store. Holds no connection, so it can be pickled and inherited by a fork."""

    root: str

    def get(self, key: str) -> bytes | None:
        objects, path = self._at(key)
        return objects.read(path)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        objects, path = self._at(key)
        data = objects.read(path, start, start + length)
        if data is None or len(data) != length:
            found = "it is gone" if data is None else f"there are {len(data)}"
            raise StorageError(f"{self.root}/{key}: {length} bytes expected from offset {start}, but {found}")
        return data

    def put_new(self, key: str, value: bytes) -> bool:
        objects, path = self._at(key)
        return objects.write(path, value, create=True)

    def put(self, key: str, value: bytes) -> None:
        objects, path = self._at(key)
        objects.write(path, value, create=False)

    def delete(self, keys: Sequence[str]) -> None:
        if keys:
            place = parse(self.root)
            connect(place.scheme).remove([f"{place.path}/{key}" for key in keys])

    def list(self, prefix: str) -> Iterator[Entry]:
        place = parse(self.root)
        below = len(place.path) + 1
        for stat in connect(place.scheme).walk(f"{place.path}/{prefix}"):
            if not stat.path.endswith("/"):  # a marker some consoles make for an empty folder
                yield Entry(stat.path[below:], stat.size)

    def size(self, key: str) -> int | None:
        objects, path = self._at(key)
        stat = objects.head(path)
        return None if stat is None else stat.size

    def tidy(self) -> int:
        return 0  # every put is one request: there are no uploads to be left half done

    def _at(self, key: str) -> tuple[Objects, str]:
        place = parse(self.root)
        return connect(place.scheme), f"{place.path}/{key}"
