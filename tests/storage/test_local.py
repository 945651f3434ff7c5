"""Local disk: what a killed or meddling process may leave, and what file systems can't do."""

import errno
import os
import re
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import IO

import pytest
from support.space import nothing_fits

from pipeline.errors import ConfigError, StorageError, TransientStorageError
from pipeline.storage.local import LocalStore
from pipeline.storage.open import open_store
from pipeline.storage.probe import mark, probe, sees
from pipeline.storage.store import Entry


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


def test_what_a_killed_writer_left_is_never_seen(store: LocalStore) -> None:
    left = Path(store.root, "_embedpipe/tmp/0123")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a val")
    store.put_new("_embedpipe/log/1.json", b"1")
    assert [entry.key for entry in store.list("_embedpipe/")] == ["_embedpipe/log/1.json"]
    assert [entry.key for entry in store.list("")] == ["_embedpipe/log/1.json"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_put_leaves_no_temporary_file(store: LocalStore, taken: bool) -> None:
    if taken:
        store.put_new("a", b"")
    assert store.put_new("a", b"x") is not taken
    store.put("b", b"x")
    assert list(Path(store.root, "_embedpipe/tmp").iterdir()) == []


def test_a_value_is_on_disk_before_it_has_its_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure must not leave a committed name over an empty file, nor lose the name later."""
    done: list[str] = []
    flush, link = os.fsync, os.link

    def noted_flush(descriptor: int) -> None:
        done.append("flush folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "flush file")  # noqa: PTH112
        flush(descriptor)

    def noted_link(source: Path, target: Path) -> None:
        done.append("link")
        link(source, target)

    store.put_new("data/first", b"x")
    monkeypatch.setattr(os, "fsync", noted_flush)
    monkeypatch.setattr(os, "link", noted_link)
    store.put_new("data/second", b"x")
    assert done == ["flush file", "flush folder", "link", "flush folder"]  # its folder, and the name in it


def test_new_folders_are_flushed_into_their_parents(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a whole folder of commits could vanish with the power."""
    flushed: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.put_new("data/k=v/x", b"")
    root = Path(store.root)
    assert {str(root.parent), str(root), str(root / "data"), str(root / "data/k=v")} <= set(flushed)


@pytest.fixture
def flushed(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed from now on, as paths below the root."""
    noted: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        noted.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), store.root))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return noted


def test_a_name_that_is_taken_is_on_disk_before_that_is_told(store: LocalStore, flushed: list[str]) -> None:
    """Whoever linked it may have been stopped before it flushed the folder. Taken for ours, a manifest would be built upon, and
    the power could still take it away from under the log."""
    store.put_new("data/x", b"1")
    flushed.clear()
    assert not store.put_new("data/x", b"2")
    assert flushed[-1] == "data"


@pytest.mark.parametrize("put", [LocalStore.put_new, LocalStore.put])
def test_a_folder_that_somebody_else_made_is_flushed_into_its_parent(
    store: LocalStore, flushed: list[str], put: Callable[[LocalStore, str, bytes], object]
) -> None:
    """It may have been stopped before it came to that, and all files in it would go with the folder."""
    folder = Path(store.root, "data", "k=v")
    folder.mkdir(parents=True)
    put(store, "data/k=v/x", b"1")
    assert flushed[-2:] == ["data", "data/k=v"]


def test_deleting_removes_folders_it_empties_but_not_the_root(store: LocalStore) -> None:
    """Readers take an empty `k=v` folder for a partition."""
    store.put_new("data/k=a/x", b"")
    store.put_new("data/k=b/c=d/x", b"")
    store.delete(["data/k=b/c=d/x"])
    assert sorted(path.name for path in Path(store.root, "data").iterdir()) == ["k=a"]
    store.delete(["data/k=a/x"])
    assert not Path(store.root, "data").exists()
    assert Path(store.root).is_dir()


def test_a_put_survives_the_removal_of_its_folder(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes the last file of a folder, and with it the folder, between our making it and using it."""
    link = os.link
    removals = [1, 2, 3]

    def contested(source: Path, target: Path) -> None:
        if removals:
            removals.pop()
            target.parent.rmdir()
        link(source, target)

    monkeypatch.setattr(os, "link", contested)
    assert store.put_new("data/k=v/x", b"1")
    assert not removals
    assert store.get("data/k=v/x") == b"1"


def test_a_folder_that_keeps_vanishing_is_an_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanished(source: Path, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(os, "link", vanished)
    with pytest.raises(TransientStorageError, match="removed again and again"):
        store.put_new("a/x", b"1")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EPERM, "hard links"),
        (errno.ENOTSUP, "hard links"),
        (errno.ENOSPC, "no space left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_what_the_file_system_refuses_is_said_in_words(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StorageError, match=message) as caught:
        store.put_new("a/x", b"1")
    assert not caught.value.retry
    with pytest.raises(StorageError, match=message):
        probe(store)


@pytest.mark.parametrize("size", [1, 8191, 1 << 20])
@pytest.mark.parametrize("put", [LocalStore.put_new, LocalStore.put])
def test_a_disk_that_is_full_before_the_first_byte_is_a_refusal_of_the_store(
    store: LocalStore, put: Callable[[LocalStore, str, bytes], object], size: int
) -> None:
    """A record is smaller than the buffer of a file, which is written once more when that is closed: what the system says then
    must not end a run as a bug."""
    store.put_new("a/there", b"")
    with nothing_fits(), pytest.raises(StorageError, match=r"writing .*_embedpipe/tmp/.*File too large"):
        put(store, "a/x", b"1" * size)
    assert store.get("a/x") is None
    assert list(Path(store.root, "_embedpipe/tmp").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses_when_a_file_is_closed_is_a_refusal_of_the_store(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As network file systems do."""

    class Refusing(FileIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", lambda path, mode, *_, **__: Refusing(path, mode))
    with pytest.raises(StorageError, match=re.escape(os.strerror(number))):
        store.put_new("a", b"1")


def test_a_value_is_written_whole_where_the_system_takes_it_in_pieces(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 2 GiB at most at once."""

    class Slow(FileIO):
        def write(self, value: memoryview) -> int:  # type: ignore[override]
            return super().write(value[:3])

    monkeypatch.setattr(Path, "open", lambda path, mode, *_, **__: Slow(path, mode))
    store.put_new("a", b"0123456789")
    assert store.get("a") == b"0123456789"


def test_a_file_where_a_folder_belongs_is_named(store: LocalStore) -> None:
    """Must not be taken for 'the key exists'."""
    store.put_new("data", b"")
    with pytest.raises(StorageError, match="is a file, where a folder is needed"):
        store.put_new("data/x", b"")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file", "is a file, where an output is a folder"),
        ("file/below", "lies below a file"),
        ("n" * 256, "is a name too long for its file system"),
        ("nul\0", "can't be a path"),
        ("half\ud800", "can't be a path"),
    ],
)
def test_a_root_where_no_folder_can_ever_be_is_a_mistake_of_the_config(tmp_path: Path, path: str, said: str) -> None:
    """As a refusal of the store, schedulers would try it again and again."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=said):
        open_store(f"{tmp_path}/{path}")


def test_a_file_system_that_takes_no_folders_is_a_mistake_of_the_config() -> None:
    """It answers as if the folder above were missing, and that one is there."""
    store = open_store("/proc/embedpipe")
    with pytest.raises(ConfigError, match="/proc/embedpipe: that file system takes no folders"):
        probe(store)


def test_a_link_to_another_file_system_inside_the_output_is_a_mistake_of_the_config(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further try would end otherwise."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ConfigError, match=r"a is on another file system than .*output\.path"):
        store.put_new("a/b", b"x")
    assert list(store.list("")) == []


def test_a_root_that_may_not_be_looked_at_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permission may be granted and a disk come back: what running again can mend is the store's refusal, when it is used."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refused)
        store = open_store(str(tmp_path / "out"))
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StorageError, match="permission denied"):
        store.put_new("a", b"")


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "a//b", "a/./b", "", "a/"])
def test_no_key_leads_out_of_the_root(store: LocalStore, key: str) -> None:
    with pytest.raises(StorageError, match="is no key"):
        store.get(key)


def test_a_file_deleted_during_a_listing_is_left_out(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_new("a/x", b"1")
    store.put_new("a/y", b"22")
    real = os.scandir

    def scandir_then_delete(path: str) -> object:
        found = real(path)
        Path(store.root, "a/x").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "scandir", scandir_then_delete)
    assert list(store.list("a/")) == [Entry("a/y", 2)]


def test_another_machine_sees_the_marker_only_where_the_place_is_shared(tmp_path: Path) -> None:
    here, elsewhere = LocalStore(str(tmp_path / "here")), LocalStore(str(tmp_path / "elsewhere"))
    key = mark(here)
    assert sees(LocalStore(here.root), key)
    assert not sees(elsewhere, key)


def test_tidying_removes_what_killed_writers_left_and_nothing_that_is_being_written(tmp_path: Path) -> None:
    """A writer's lock ends with its process, whatever ended that; so no age has to be looked at."""
    store = LocalStore(str(tmp_path / "out"))
    leftover = tmp_path / "out" / "_embedpipe" / "tmp" / "0123"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    with store._written(b"going on") as living:
        assert store.tidy() == 1
        assert living.read_bytes() == b"going on"
        assert not leftover.exists()
    assert store.tidy() == 0
    assert store.put_new("a/b", b"value")
    assert store.get("a/b") == b"value"


def test_tidying_opens_leftovers_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS locks nothing else, and they would stay for ever."""
    import fcntl

    store = LocalStore(str(tmp_path / "out"))
    leftover = tmp_path / "out" / "_embedpipe" / "tmp" / "0123"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    lock = fcntl.flock

    def as_on_nfs(file: IO[bytes], how: int) -> None:
        if not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    assert store.tidy() == 1
    assert not leftover.exists()


def test_a_writer_whose_file_was_tidied_away_before_it_was_locked_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    store = LocalStore(str(tmp_path / "out"))
    lock, lost = fcntl.flock, []

    def late(file: IO[bytes], how: int) -> None:
        if not lost:
            lost.append(file.name)
            Path(file.name).unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert store.put_new("a", b"value")
    assert store.get("a") == b"value"
