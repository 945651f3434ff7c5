"""The ways in which one operation of a store can go wrong."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DIED = 137
WRITES = frozenset({"put_new", "put", "delete"})
OPERATIONS = WRITES | {"get", "get_range", "list", "size", "tidy"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong: `kind` at the first operation from number `at` on that it can happen to."""

    kind: str
    at: int
    late_by: int = 0  # operations, for the kind `late`


@dataclass
class Call:
    """One operation about to be carried out."""

    inner: Any
    method: str
    arguments: tuple[Any, ...]

    @property
    def name(self) -> tuple[str, str]:
        """Method and key."""
        return self.method, str(self.arguments[0]) if self.arguments else ""

    def act(self) -> Any:
        """What the store really does."""
        result = getattr(self.inner, self.method)(*self.arguments)
        return list(result) if self.method == "list" else result


def _die(call: Call) -> None:
    os._exit(DIED)


def _die_after(call: Call) -> None:
    call.act()
    os._exit(DIED)


def _die_in_delete(call: Call) -> None:
    """Half of the keys are gone."""
    keys = call.arguments[0]
    call.inner.delete(keys[: len(keys) // 2])
    os._exit(DIED)


def _die_within(call: Call) -> None:
    """Half of the bytes are in the temporary file."""
    local = type(call.inner)
    open_temporary = local._temporary
    local._temporary = lambda store: _Torn(open_temporary(store))
    call.act()


class _Torn(contextlib.AbstractContextManager[Any]):
    """A file whose writer dies in mid-write."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.name = file.name

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, value: bytes) -> None:
        self._file.write(value[: len(value) // 2])
        self._file.flush()
        os._exit(DIED)


def _die_named(call: Call) -> None:
    """The file has its name; its folder is not flushed, its temporary name not gone."""
    local = type(call.inner)
    place = local._place
    local._place = lambda store, path, name_it: place(store, path, lambda: (name_it(), os._exit(DIED)))
    call.act()


def _no_answer(call: Call) -> None:
    from pipeline.errors import TransientStorageError

    raise TransientStorageError(f"injected: no answer to {' '.join(call.name)}")


def _refused(call: Call) -> None:
    from pipeline.errors import StorageError

    raise StorageError(f"injected: {' '.join(call.name)} is refused")


def _lost_reply(call: Call) -> None:
    call.act()
    _no_answer(call)


def _stale(call: Call) -> list[Any]:
    """The newest key is not listed yet, as far as order tells."""
    listed: list[Any] = call.act()
    return listed[:-1]


@dataclass(frozen=True)
class Kind:
    """One way to go wrong."""

    do: Callable[[Call], Any]
    methods: frozenset[str]
    lasts: Callable[[str, str], bool] = lambda first, method: False  # whether it goes on, by methods: first, this one
    late: bool = False  # whether the request arrives after all, some time
    places: frozenset[str] = frozenset({"local", "s3"})


KINDS = {
    "die before": Kind(_die, OPERATIONS),
    "die after": Kind(_die_after, WRITES),
    "die within": Kind(_die_within, frozenset({"put_new", "put"}), places=frozenset({"local"})),
    "die named": Kind(_die_named, frozenset({"put_new", "put"}), places=frozenset({"local"})),
    "die in delete": Kind(_die_in_delete, frozenset({"delete"})),
    "no answer once": Kind(_no_answer, OPERATIONS),
    "away": Kind(_no_answer, OPERATIONS, lambda first, method: True),
    "refused": Kind(_refused, OPERATIONS, lambda first, method: first == method),
    "lost reply": Kind(_lost_reply, WRITES),
    "conflict": Kind(lambda call: False, frozenset({"put_new"})),
    "stale": Kind(_stale, frozenset({"list"})),
    "late": Kind(_no_answer, WRITES, late=True),
}
