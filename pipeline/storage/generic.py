"""Google Cloud Storage and Azure Blob Storage through fsspec's file operations; their clients retry by themselves."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec

from pipeline.errors import StorageError
from pipeline.storage.faults import client_errors, translate, translated
from pipeline.storage.object import Stat
from pipeline.storage.retry import http_answer, retry
from pipeline.storage.uri import Scheme

_NEVER_SPLIT = {"gs": {"chunksize": 2**40}}
"""Keeps gcsfs from making a resumable upload of a big value. adlfs stages blocks, but its commit is one request."""

_VERSION_NAMES = ("etag", "ETag", "generation")


def connect_generic(scheme: Scheme) -> "GenericObjects":
    """A client of its own for this process. Raises ImportError without the scheme's package."""
    return GenericObjects(scheme, generic_filesystem(scheme), _NEVER_SPLIT.get(scheme, {}))


def generic_filesystem(scheme: Scheme) -> Any:
    """An fsspec file system that caches no listings. Raises ImportError without the scheme's package."""
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


class GenericObjects:
    """See `object.Objects`."""

    def __init__(self, scheme: str, filesystem: Any, put_options: Mapping[str, Any]) -> None:
        self._scheme = scheme
        self._fs = filesystem
        self._put_options = put_options

    def head(self, path: str) -> Stat | None:
        return retry(partial(self._head_once, path))

    def _head_once(self, path: str) -> Stat | None:
        try:
            with translated("looking at", self._uri(path)):
                self._fs.invalidate_cache()
                info = self._fs.info(self._uri(path))
        except FileNotFoundError:
            return None
        return self._stat(info) if info["type"] == "file" else None

    def read(self, path: str, start: int = 0, stop: int | None = None, etag: str | None = None) -> bytes | None:
        return retry(partial(self._read_once, path, start, stop, etag))

    def _read_once(self, path: str, start: int, stop: int | None, etag: str | None) -> bytes | None:
        try:
            with translated("reading", self._uri(path)):
                data: bytes = self._fs.cat_file(self._uri(path), start=start or None, end=stop)
        except FileNotFoundError:
            return None
        if etag is not None:  # looked up after the bytes: an object never goes back to an earlier version
            stat = self._head_once(path)
            if stat is None or stat.etag != etag:
                return None
        return data

    def write(self, path: str, value: bytes, create: bool) -> bool:
        if create:
            return self._write_once(path, value, "create")
        return retry(partial(self._write_once, path, value, "overwrite"))

    def _write_once(self, path: str, value: bytes, mode: str) -> bool:
        try:
            self._fs.pipe_file(self._uri(path), value, mode=mode, **self._put_options)
        except FileExistsError:
            return False
        except client_errors() as error:
            if mode == "create" and http_answer(error)[0] in (409, 412):
                return False
            raise translate(error, "writing", self._uri(path)) from error
        return True

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            retry(partial(self._remove_once, path))

    def _remove_once(self, path: str) -> None:
        try:
            with translated("deleting", self._uri(path)):
                self._fs.rm_file(self._uri(path))
        except FileNotFoundError:
            return

    def walk(self, prefix: str) -> Iterator[Stat]:
        folder, _, start = prefix.rpartition("/")
        yield from retry(partial(self._walk_once, folder, start))

    def _walk_once(self, folder: str, start: str) -> list[Stat]:
        try:
            with translated("listing", self._uri(folder)):
                self._fs.invalidate_cache()
                found = self._fs.find(self._uri(folder), prefix=start, detail=True)
        except FileNotFoundError:
            return []
        stats = [self._stat(info) for info in found.values() if info["type"] == "file"]
        return sorted((stat for stat in stats if stat.path.startswith(f"{folder}/{start}")), key=lambda stat: stat.path)

    def _uri(self, path: str) -> str:
        return f"{self._scheme}://{path}"

    def _stat(self, info: Mapping[str, Any]) -> Stat:
        version = next((str(info[name]) for name in _VERSION_NAMES if info.get(name)), None)
        if version is None:
            raise StorageError(
                f"{self._uri(info['name'])}: the store gives no ETag, so a changed file could not be noticed"
            )
        return Stat(info["name"].lstrip("/"), version.strip('"'), int(info["size"]))
