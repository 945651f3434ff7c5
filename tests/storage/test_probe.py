"""What a run finds out of its store before it trusts it."""

from collections.abc import Iterator

from support.memory import MemoryStore

from pipeline.storage.open import open_store
from pipeline.storage.probe import FOLDER, tells_case
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


def test_ordinary_stores_tell_case_apart(root: str) -> None:
    store = open_store(root)
    assert tells_case(store)
    assert list(store.list(FOLDER)) == []


def test_a_store_that_folds_case_is_found_out_and_left_as_it_was() -> None:
    """Two partitions in one folder: the listing knows one spelling, and files under the other look like nobody's."""
    store: Store = Folding()
    assert not tells_case(store)
    assert list(store.list(FOLDER)) == []
