"""What a run finds out of its store before it trusts it."""

import errno
from collections.abc import Callable, Iterator, Sequence

import pytest
from support.memory import MemoryStore

from pipeline.commit.keys import SUCCESS
from pipeline.commit.success import clear_success
from pipeline.errors import StorageError
from pipeline.storage.faults import translated
from pipeline.storage.open import open_store
from pipeline.storage.probe import FOLDER, can_delete, probe, tells_case
from pipeline.storage.store import Entry, Store


class Folding(MemoryStore):
    """Keeps a key as it was first written and finds it under any case, as file systems of macOS, Windows and SMB do."""

    def _standing(self, key: str) -> str:
        return next((one for one in self.objects if one.lower() == key.lower()), key)

    def get(self, key: str) -> bytes | None:
        return super().get(self._standing(key))

    def put_new(self, key: str, value: bytes) -> bool:
        return super().put_new(self._standing(key), value)

    def put(self, key: str, value: bytes) -> None:
        super().put(self._standing(key), value)

    def list(self, prefix: str) -> Iterator[Entry]:
        found = [key for key in sorted(self.objects) if key.lower().startswith(prefix.lower())]
        return (Entry(key, len(self.objects[key])) for key in found)


class Lacking(MemoryStore):
    """Whoever asks it has no file handles left."""

    def get(self, key: str) -> bytes | None:
        raise lacking(key)

    def delete(self, keys: Sequence[str]) -> None:
        raise lacking(keys[0])


def lacking(key: str) -> StorageError:
    with pytest.raises(StorageError) as caught, translated("reading", key):
        raise OSError(errno.EMFILE, "Too many open files")
    return caught.value


@pytest.mark.parametrize("ask", [probe, can_delete])
def test_what_this_process_lacks_says_nothing_about_its_rights(ask: Callable[[Store], object]) -> None:
    """It said that the right to list is missing, and that this account may not delete: nothing was collected, with exit 0."""
    with pytest.raises(StorageError, match="ulimit -n") as caught:
        ask(Lacking())
    assert "grant" not in caught.value.message


def test_a_mark_that_could_not_be_taken_away_for_want_of_handles_is_no_matter_of_rights() -> None:
    store = Lacking(objects={SUCCESS: b"{}"})
    store.get = lambda key: b"{}"  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="ulimit -n") as caught:
        clear_success(store)
    assert "grant" not in caught.value.message


def test_ordinary_stores_tell_case_apart(root: str) -> None:
    store = open_store(root)
    assert tells_case(store)
    assert list(store.list(FOLDER)) == []


def test_a_store_that_folds_case_is_found_out_and_left_as_it_was() -> None:
    """Two partitions in one folder: the listing knows one spelling, and files under the other look like nobody's."""
    store: Store = Folding()
    assert not tells_case(store)
    assert list(store.list(FOLDER)) == []
