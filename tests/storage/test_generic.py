"""Google's and Azure's stores as fsspec presents them; its file system in memory stands in for both."""

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import SourceChanged, StorageError, TransientStorageError
from pipeline.storage import object_store as object_module
from pipeline.storage.generic import GenericObjects
from pipeline.storage.inputs import expand, open_input
from pipeline.storage.open import open_store
from pipeline.storage.probe import can_delete, probe
from pipeline.storage.store import Store


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Tells a version as the real ones do, and refuses what `refusals` says, once each."""

    refusals: list[Exception]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        info: dict[str, Any] = super().info(path, **kwargs)
        if info["type"] == "file":
            info["etag"] = hashlib.md5(self.cat_file(path)).hexdigest()
        return info

    def find(self, path: str, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().find(path, **kwargs)
        return {name: self.info(name) for name in found}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if self.refusals:
            raise self.refusals.pop()
        super().pipe_file(path, value, mode=mode, **kwargs)


@pytest.fixture
def filesystem(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """Behind gs://, for this test only."""
    filesystem = Flaky(skip_instance_cache=True)
    filesystem.refusals = []
    objects = GenericObjects("memory", filesystem, {})
    monkeypatch.setattr(object_module, "connect", lambda scheme: objects)
    monkeypatch.setattr("pipeline.storage.inputs.connect", lambda scheme: objects)
    monkeypatch.setattr("pipeline.storage.open.connect", lambda scheme: objects)
    yield filesystem
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def store(filesystem: Flaky) -> Store:
    return open_store(f"gs://bucket-{uuid.uuid4().hex[:8]}/out")


def test_the_probe_passes(store: Store) -> None:
    probe(store)
    assert can_delete(store)


def test_reads_writes_and_listings(store: Store) -> None:
    assert store.get("a/b") is None
    assert store.size("a/b") is None
    assert list(store.list("a/")) == []
    assert store.put_new("a/b", b"0123")
    assert not store.put_new("a/b", b"x")
    store.put("a/c", b"1")
    store.put("a/c", b"22")
    assert store.get("a/b") == b"0123"
    assert store.get_range("a/b", 1, 2) == b"12"
    assert [(entry.key, entry.size) for entry in store.list("a/")] == [("a/b", 4), ("a/c", 2)]
    store.delete(["a/b", "a/absent"])
    assert [entry.key for entry in store.list("")] == ["a/c"]


def test_answers_to_a_conditional_put(store: Store, filesystem: Flaky) -> None:
    filesystem.refusals = [FileExistsError("x")]
    assert not store.put_new("a", b"")
    filesystem.refusals = [TimeoutError("x")]
    with pytest.raises(TransientStorageError):
        store.put_new("a", b"")
    filesystem.refusals = [PermissionError("x")]
    with pytest.raises(StorageError, match="access denied"):
        store.put_new("a", b"")


def test_inputs_are_found_and_pinned(filesystem: Flaky) -> None:
    filesystem.pipe_file("/bucket/in/x/a.txt", b"abc")
    filesystem.pipe_file("/bucket/in/_b.txt", b"abc")
    [found] = expand(["gs://bucket/in/**/*.txt"])
    assert (found.uri, found.size, found.root) == ("gs://bucket/in/x/a.txt", 3, "gs://bucket/in")
    with open_input(found.uri, found.version) as file:
        assert file.read() == b"abc"
    filesystem.pipe_file("/bucket/in/x/a.txt", b"xyz")
    with pytest.raises(SourceChanged), open_input(found.uri, found.version) as file:
        file.read()
