"""Rule 1 of the commit protocol under everything a store may answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.create import Created, create, create_file
from pipeline.storage.retry import REQUESTS
from pipeline.storage.store import Entry

ANSWERS = ("ok", "lost before", "lost after", "conflict", "refused", "other first")


@dataclass
class ScriptedStore:
    """Answers each put as the script says; after its end, like a good store."""

    script: list[str]
    root: str = "memory://out"
    value: bytes | None = None
    asked: list[str] = field(default_factory=list)
    landed: int = 0

    def get(self, key: str) -> bytes | None:
        self.asked.append("get")
        return self.value

    def size(self, key: str) -> int | None:
        self.asked.append("size")
        return None if self.value is None else len(self.value)

    def put_new(self, key: str, value: bytes) -> bool:
        self.asked.append("put")
        answer = self.script.pop(0) if self.script else "ok"
        if answer == "refused":
            raise StorageError("403")
        if answer == "conflict":
            return False
        if answer == "lost before":
            raise TransientStorageError("503")
        if answer == "other first" and self.value is None:
            self.value = b"other"
        if self.value is not None:
            return False
        self.value = value
        self.landed += 1
        if answer == "lost after":
            raise TransientStorageError("timeout")
        return True

    def get_range(self, key: str, start: int, length: int) -> bytes:
        raise NotImplementedError

    def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    def delete(self, keys: Sequence[str]) -> None:
        raise NotImplementedError

    def list(self, prefix: str) -> Iterator[Entry]:
        raise NotImplementedError


def no_sleep(seconds: float) -> None:
    """Time passes."""


@given(st.lists(st.sampled_from(ANSWERS), max_size=12), st.booleans())
def test_create_tells_what_stands_there_whatever_the_answers_were(script: list[str], taken: bool) -> None:
    """Ours exactly if our value stands there; an error only where nothing does."""
    store = ScriptedStore(list(script), value=b"other" if taken else None)
    try:
        created = create(store, "key", b"ours", sleep=no_sleep)
    except StorageError:
        assert store.value is None
        assert not set(script[: len(store.asked)]).isdisjoint({"refused", "lost before", "conflict"})
    else:
        assert created == Created(store.value == b"ours", store.value or b"")
        assert store.landed == (1 if created.ours else 0)


@pytest.mark.parametrize("answer", ["lost before", "lost after", "conflict"])
def test_create_survives_a_single_bad_answer(answer: str) -> None:
    assert create(ScriptedStore([answer]), "key", b"ours", sleep=no_sleep).ours


def test_a_retry_that_meets_its_own_first_request_has_not_lost() -> None:
    """The first request arrives although its reply is lost; the client's repetition is then told 'exists'."""
    store = ScriptedStore(["lost after"])
    assert create(store, "key", b"ours", sleep=no_sleep) == Created(True, b"ours")
    assert store.asked == ["put", "get"]


def test_each_try_is_a_sign_of_life() -> None:
    """A step that waits for a slow store, try after try, does get on; told at its beginning only, it would pass for hung."""
    seen: list[int] = []
    store = ScriptedStore(["lost before"] * 3)
    assert create(store, "key", b"ours", sleep=lambda _: seen.append(REQUESTS.tried)).ours
    assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


def test_success_needs_one_request_only() -> None:
    store = ScriptedStore([])
    create(store, "key", b"ours", sleep=no_sleep)
    assert store.asked == ["put"]


def test_create_gives_up_after_a_bounded_number_of_tries() -> None:
    waited: list[float] = []
    with pytest.raises(TransientStorageError, match="run again"):
        create(ScriptedStore(["lost before"] * 100), "key", b"ours", sleep=waited.append)
    assert len(waited) == 12


def test_a_refusal_is_raised_at_once() -> None:
    store = ScriptedStore(["refused"] * 100)
    with pytest.raises(StorageError, match="403"):
        create(store, "key", b"ours", sleep=no_sleep)
    assert store.asked == ["put", "get"]


def test_a_refusal_where_something_stands_is_a_lost_create() -> None:
    """Some policies forbid overwriting, and say so with 403."""
    store = ScriptedStore(["refused"], value=b"other")
    assert create(store, "key", b"ours", sleep=no_sleep) == Created(False, b"other")


def test_equal_values_are_ours_whoever_put_them() -> None:
    assert create(ScriptedStore([], value=b"same"), "key", b"same", sleep=no_sleep).ours


def test_create_file_takes_presence_with_its_size_for_success() -> None:
    """Reading hundreds of megabytes back would tell nothing more: the name is used once."""
    store = ScriptedStore(["lost after"])
    create_file(store, "part", b"rows", sleep=no_sleep)
    assert store.asked == ["put", "size"]


def test_create_file_refuses_another_file_under_its_name() -> None:
    with pytest.raises(StorageError, match="2 bytes instead of 4"):
        create_file(ScriptedStore([], value=b"xx"), "part", b"rows", sleep=no_sleep)
