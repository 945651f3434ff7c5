"""Input files: finding them, and reading them so that a change under the reader can't go unnoticed."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError, SourceChanged
from pipeline.storage.environment import redact
from pipeline.storage.faults import as_input_error, translated
from pipeline.storage.glob import compile_glob, fixed_start, has_wildcards, split_root
from pipeline.storage.object import Stat
from pipeline.storage.object_store import connect
from pipeline.storage.pinned import LocalReader, RangeReader, buffered
from pipeline.storage.uri import Place, Scheme, parse

_HADOOP_FOLDER = "_$folder$"
_MOST_WAYS = 1000
"""In which links may lead to one folder: two links on each of a few dozen levels are more ways than anybody can walk."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was when looked at."""

    uri: str  # absolute local path, or <scheme>://<bucket>/<key>
    version: str  # identity of the content: compared, never parsed outside this room
    size: int  # bytes
    root: str  # folder that all files of its pattern lie below: the pattern up to its first wildcard


def expand(patterns: Sequence[str]) -> list[Found]:
    """All files the patterns mean: files, folders (with all below them) and globs (`*`, `?`, `[ab]`, `**`).

    Sorted by uri, each once; one found by several patterns has the shortest of their roots. Names starting with `_` or
    `.` below a root are skipped unless the pattern spells that out. A name that exists as it is written is never taken
    for a glob. Raises InputError for a pattern that means nothing, or a file that can't be used.
    """
    found: dict[str, Found] = {}
    for pattern in patterns:
        with as_input_error():
            matches = _expand_one(parse(pattern))
        if not matches:
            bracket = "; a bracket that is part of a name is written `[[]`" if "[" in pattern else ""
            raise InputError(
                f"{redact(pattern)!r} matches no file: nothing is there, or only names that start with `_` or `.`; "
                f"check the path{bracket}"
            )
        for match in matches:
            known = found.get(match.uri)
            if known is None or len(match.root) < len(known.root):
                found[match.uri] = match
    return [found[uri] for uri in sorted(found)]


def find(uri: str) -> Found | None:
    """One file as it is now; None when it is gone. Raises InputError when it may not be looked at."""
    with as_input_error():
        return _find(parse(uri))


def is_hollow(uri: str) -> bool:
    """Whether the folder of a local file is empty or not there, as where a file system isn't mounted."""
    place = parse(uri)
    if place.scheme != "file":
        return False
    try:
        with as_input_error(), translated("listing", place.path), os.scandir(Path(place.path).parent) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True


def check_unchanged(uri: str, version: str) -> None:
    """Raises SourceChanged when a local file isn't the version it was opened as: what was read of it may be torn. Of an object
    each read is pinned to its version."""
    place = parse(uri)
    if place.scheme == "file":
        status = _status(place.path)
        if status is None or _local_version(status) != version:
            raise _changed(place.path)


@contextmanager
def open_input(uri: str, version: str) -> Iterator[BinaryIO]:
    """The file as a seekable stream, for as long as it has `version`.

    On object stores small reads in sequence are served from a read-ahead growing to 8 MiB; a big read is one request.
    Raises SourceChanged, at the latest on leaving the block, when the file is gone or another one, even where the block
    itself failed on what it read; TransientStorageError when the store stays away; InputError when it refuses.
    """
    place = parse(uri)
    with _open_local(place.path, version) if place.scheme == "file" else _open_object(place, version) as file:
        yield file


def _expand_one(place: Place) -> list[Found]:
    if not place.path.endswith("/"):
        exact = _find(place)
        if exact is not None:
            return [exact]
    root = place.path.rstrip("/")
    found = list(_below(place.scheme, root, "**"))
    if not found and has_wildcards(place.path):
        root, rest = split_root(place.path)
        if not root and place.scheme != "file":
            raise InputError(f"{str(place)!r}: the bucket can't be a wildcard; name it")
        found = list(_below(place.scheme, root, rest))
    return found


def _below(scheme: Scheme, root: str, rest: str) -> Iterator[Found]:
    """Files below `root` whose path from there matches the glob `rest`."""
    matches = compile_glob(rest).fullmatch
    if scheme == "file":
        for path in _walk_folder(root or "/"):
            if matches(path):
                full = f"{root}/{path}"
                status = _status(full)
                if status is None:  # gone since it was listed: it may have another name now, which was not seen
                    raise _dangling(full) if os.path.lexists(full) else _changed(full)
                yield _from_status(full, status, root or "/")
        return
    uri_root = str(Place(scheme, root))
    for found in connect(scheme).walk(f"{root}/{fixed_start(rest)}"):
        if matches(found.path[len(root) + 1 :]) and not _is_marker(found):
            yield _from_stat(scheme, found, uri_root)


def _find(place: Place) -> Found | None:
    parent = place.path.rpartition("/")[0]
    if place.scheme == "file":
        status = _status(place.path)
        if status is None or stat.S_ISDIR(status.st_mode):
            return None
        return _from_status(place.path, status, parent or "/")
    if "/" not in place.path or place.path.endswith("/"):
        return None
    found = connect(place.scheme).head(place.path)
    return None if found is None else _from_stat(place.scheme, found, str(Place(place.scheme, parent)))


def _walk_folder(root: str) -> Iterator[str]:
    """Paths, from `root`, of all that isn't a folder. Links to folders are followed, but never round in circles. Raises
    InputError for a folder that they lead to in more ways than can be meant."""
    waiting: list[tuple[str, frozenset[tuple[int, int]], bool]] = [("", frozenset(), False)]
    ways: Counter[tuple[int, int]] = Counter()
    while waiting:
        below, above, linked = waiting.pop()
        path = f"{root}/{below}"
        with suppress(FileNotFoundError, NotADirectoryError), translated("listing", path):
            status = Path(path).stat()
            if (identity := (status.st_dev, status.st_ino)) in above:
                continue
            if linked:
                ways[identity] += 1
                if ways[identity] > _MOST_WAYS:
                    raise _tangled(path)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append((f"{below}{entry.name}/", above | {identity}, linked or entry.is_symlink()))
                    else:
                        yield below + entry.name


def _status(path: str) -> os.stat_result | None:
    try:
        with translated("looking at", path):
            return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _from_status(path: str, status: os.stat_result, root: str) -> Found:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file; pipes and devices can't be read twice")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path!r}: the file name is not UTF-8; rename the file") from None
    return Found(path, _local_version(status), status.st_size, root)


def _local_version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}-{status.st_size}"


def _from_stat(scheme: Scheme, found: Stat, uri_root: str) -> Found:
    return Found(str(Place(scheme, found.path)), f"{found.etag}-{found.size}", found.size, uri_root)


def _is_marker(found: Stat) -> bool:
    return found.path.endswith("/") or (found.size == 0 and found.path.endswith(_HADOOP_FOLDER))


@contextmanager
def _open_local(path: str, version: str) -> Iterator[BinaryIO]:
    try:
        with as_input_error(), translated("reading", path):
            raw = LocalReader(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _changed(path) from None
    except InputError:  # refused: because of what it is, or of what stands in its place
        found = _status(path)
        if found is None or _local_version(found) != version:
            raise _changed(path) from None
        raise
    with raw, buffered(raw) as file:
        _check_local(raw, version)
        try:
            yield file
        except Exception:
            _check_local(raw, version)
            raise
        _check_local(raw, version)


def _check_local(file: LocalReader, version: str) -> None:
    path = str(file.name)
    status = _status(path) if file.closed else os.fstat(file.fileno())  # closed: by a parser that took it over
    if status is None or _local_version(status) != version:
        raise _changed(path)


@contextmanager
def _open_object(place: Place, version: str) -> Iterator[BinaryIO]:
    """Pinned by If-Match on each request. Empty objects need no request, and so are looked up."""
    etag, _, size = version.rpartition("-")
    objects = connect(place.scheme)

    def fetch(start: int, stop: int) -> bytes:
        with as_input_error():
            # At the end a byte too many is asked for: were the object longer than was said, rows would be lost.
            data = objects.read(place.path, start, stop + (stop == int(size)), etag)
        if data is None or len(data) != stop - start:
            raise _changed(str(place))
        return data

    if size == "0":
        found = find(str(place))
        if found is None or found.version != version:
            raise _changed(str(place))
    with buffered(RangeReader(int(size), fetch)) as file:
        yield file


def _tangled(path: str) -> InputError:
    return InputError(
        f"{os.path.realpath(path)}: links lead to this folder in more than {_MOST_WAYS:,} ways, of which {path} is one, and each "
        "of its files would be read as often; remove links, so that one way is left"
    )


def _dangling(path: str) -> InputError:
    return InputError(f"{path} is a link that leads nowhere; remove it, or put back what it leads to")


def _changed(uri: str) -> SourceChanged:
    return SourceChanged(
        f"{uri} is gone or has changed since this run looked at it; the next plan takes it as it is then"
    )
