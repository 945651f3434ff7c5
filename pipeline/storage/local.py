"""A folder on local disk, or on a file system that all machines share, as an output root.

A value is written to a file of its own, flushed, and then linked to its name: `link` fails when the name exists, and a
half-written value never has a name. A writer holds a lock on its temporary file, so what a killed one has left can be told
from what is being written, by anybody at any time.
"""

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pipeline.errors import ConfigError, StorageError, TransientStorageError
from pipeline.storage.faults import translated
from pipeline.storage.store import Entry

TEMPORARY = "_embedpipe/tmp"
_NEVER = {
    errno.ENOTDIR: "lies below a file, where only folders can hold it; choose another place, or move that file",
    errno.ENAMETOOLONG: "is a name too long for its file system (mostly 255 bytes between two slashes); choose a shorter one",
}
_ATTEMPTS = 16  # each is lost only to somebody who removed the folder, empty as it was, at that moment


def refuse_root(root: str) -> None:
    """Raises ConfigError for a path where no folder can be, however often it is tried. What else is wrong with it, or away for
    a while, shows when it is used."""
    try:
        is_folder = stat.S_ISDIR(Path(root).stat().st_mode)
    except OSError as error:
        if error.errno in _NEVER:
            raise ConfigError(f"{root} {_NEVER[error.errno]}") from error
        return
    except ValueError as error:  # a NUL byte, half a surrogate pair
        raise ConfigError(f"{root!r} can't be a path ({error}); choose another name") from error
    if not is_folder:
        raise ConfigError(f"{root} is a file, where an output is a folder; choose another place, or move the file")


@dataclass(frozen=True, slots=True)
class LocalStore:
    """See `store.Store`. `root` is absolute and need not exist yet."""

    root: str

    def get(self, key: str) -> bytes | None:
        name = self._name(key)
        try:
            with translated("reading", name), open(name, "rb", buffering=0) as file:  # noqa: PTH123 - a third of the time
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        path = self._path(key)
        data = b""
        with suppress(FileNotFoundError, NotADirectoryError), translated("reading", str(path)), path.open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise StorageError(f"{path}: {length} bytes expected from offset {start}, but there are {len(data)}")
        return data

    def put_new(self, key: str, value: bytes) -> bool:
        path = self._path(key)
        try:
            with self._written(value) as temporary:
                self._place(path, lambda: os.link(temporary, path))
        except FileExistsError:
            with translated("writing", str(path)), suppress(FileNotFoundError):
                _flush_folder(path.parent)  # whoever has linked it may not have come to that
            return False
        return True

    def put(self, key: str, value: bytes) -> None:
        path = self._path(key)
        with self._written(value) as temporary:
            self._place(path, lambda: temporary.replace(path))

    def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError), translated("deleting", str(path)):
                path.unlink()
        for folder in {path.parent for path in paths}:
            self._remove_empty(folder)

    def list(self, prefix: str) -> Iterator[Entry]:
        folder, _, _ = prefix.rpartition("/")
        top = self._path(folder) if folder else Path(self.root)
        found = [entry for entry in self._walk(top, f"{folder}/" if folder else "") if entry.key.startswith(prefix)]
        return iter(sorted(found, key=lambda entry: entry.key))

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with translated("looking at", str(path)):
                return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _path(self, key: str) -> Path:
        return Path(self._name(key))

    def _name(self, key: str) -> str:
        if not key or key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
            raise StorageError(f"{key!r} is no key: expected a path below the output root")
        return f"{self.root}/{key}"

    def tidy(self) -> int:
        folder = Path(self.root, TEMPORARY)
        removed = 0
        with suppress(FileNotFoundError, NotADirectoryError), translated("listing", str(folder)):
            for path in sorted(folder.iterdir()):
                with suppress(OSError), path.open("r+b") as file:  # NFS locks only what is open for writing
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                    path.unlink()
                    removed += 1
        return removed

    @contextmanager
    def _written(self, value: bytes) -> Iterator[Path]:
        """A temporary file holding `value`, on disk for good; removed at the end if it's still there."""
        # Around the file: some disks refuse only when it is closed.
        with translated("writing", self.root), self._temporary() as file:
            path = Path(file.name)
            try:
                with translated("writing", str(path)):
                    _write_whole(file, value)
                    os.fsync(file.fileno())
                yield path
            finally:
                with suppress(OSError):
                    path.unlink()

    def _temporary(self) -> FileIO:
        """A new file without a buffer, locked until it is closed. Somebody tidying up may be quicker than the lock; then it's
        another one."""
        folder = Path(self.root, TEMPORARY)
        for _ in range(_ATTEMPTS):
            try:
                with translated("writing", str(folder)):
                    _make_folder(folder)
                    file = (folder / uuid.uuid4().hex).open("xb", buffering=0)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StorageError(
                    f"{self.root}: no folder can be made there ({error.strerror}); choose another place"
                ) from error
            with suppress(OSError):  # a file system without locks: then nobody can lock it to remove it either
                fcntl.flock(file, fcntl.LOCK_EX)
            if Path(file.name).exists():
                return file
            file.close()
        raise TransientStorageError(f"writing below {folder}: each new file is gone at once; is something cleaning up?")

    def _place(self, path: Path, name_it: Callable[[], object]) -> None:
        """Make the folder, give the file its name there, and put the folder itself on disk."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError), translated("writing", str(path)):
                _make_folder(path.parent)
                if path.parent != Path(self.root):
                    _flush_folder(path.parent.parent)  # the folder may be somebody else's who has not come to that
                try:
                    name_it()
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    raise ConfigError(
                        f"{path.parent} is on another file system than {self.root}, from where files get their names; make the "
                        "whole output the link, or name that place in output.path"
                    ) from error
                _flush_folder(path.parent)
                return
        raise TransientStorageError(
            f"writing {path}: its folder was removed again and again; is something cleaning up there?"
        )

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folder and those above it while they are empty, up to the root; flush the first that isn't."""
        while folder != Path(self.root):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                break
            folder = folder.parent
        with suppress(FileNotFoundError, NotADirectoryError), translated("deleting", str(folder)):
            _flush_folder(folder)

    def _walk(self, folder: Path, prefix: str) -> Iterator[Entry]:
        folders = [(str(folder), prefix)]
        while folders:
            path, below = folders.pop()
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                translated("listing", path),
                os.scandir(path) as entries,
            ):
                for entry in entries:
                    key = below + entry.name
                    if entry.is_dir():
                        if key != TEMPORARY:
                            folders.append((entry.path, f"{key}/"))
                    else:
                        with suppress(FileNotFoundError):  # deleted since
                            yield Entry(key, entry.stat().st_size)


def _write_whole(file: FileIO, value: bytes) -> None:
    """A file without a buffer may take less than it is given. One with a buffer would try again when it is closed, and what it
    says then would take the place of the first refusal."""
    left = memoryview(value)
    while left:
        left = left[file.write(left) :]


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on disk before the next."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileNotFoundError as error:
        if not folder.parent.is_dir():
            raise
        raise ConfigError(
            f"{folder}: that file system takes no folders ({error.strerror}); choose another place"
        ) from error
    except FileExistsError:
        if not folder.is_dir():
            raise StorageError(
                f"{folder} is a file, where a folder is needed; choose another place or move it"
            ) from None
    else:
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Names made or removed in a folder survive a power failure only once the folder is flushed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
