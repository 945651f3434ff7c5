"""The simulated store itself: keys and bytes, and requests that arrive late. It tells the judge of every change."""

import random
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Protocol

from faults.simulation.scheduler import Process

from pipeline.storage.store import Entry

FOLDERS = ("part", "quarantine", "unit", "attempt", "assembly", "manifest", "log", "spec", "probe", "tmp")

_key = attrgetter("key")


class Judge(Protocol):
    """Looks at every change, before it is made."""

    def created(self, key: str, value: bytes, by: Process) -> None: ...
    def replaced(self, key: str, value: bytes, by: Process) -> None: ...
    def deleted(self, key: str, by: Process) -> None: ...


class Disk:
    """What is on the store."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, bytes]] = {"data": {}, "": {}, **{name: {} for name in FOLDERS}}
        self.judge: Judge
        self.now = 0  # counts changes of the store and of the source
        self.late: list[tuple[Callable[[], object], Process]] = []
        self.journal: dict[str, list[tuple[str, bytes | None]]] = {name: [] for name in self.folders}
        self.changed: Callable[[], None] = lambda: None  # called after each change
        self.arrived: Callable[[], None] = lambda: None  # called when something late arrives
        self._listings: dict[str, list[Entry]] = {}

    def folder(self, key: str) -> dict[str, bytes]:
        """The folder a key lies in."""
        return self.folders[folder_name(key)]

    def all_keys(self) -> list[str]:
        """Everything there is."""
        return sorted(key for folder in self.folders.values() for key in folder)

    def get(self, key: str) -> bytes | None:
        """The value of a key."""
        return self.folder(key).get(key)

    def put_new(self, key: str, value: bytes, by: Process) -> bool:
        """One conditional put."""
        if key in self.folder(key):
            return False
        self.judge.created(key, value, by)
        self._set(key, value)
        return True

    def put(self, key: str, value: bytes, by: Process) -> None:
        """One unconditional put."""
        self.judge.replaced(key, value, by)
        self._set(key, value)

    def delete(self, keys: Sequence[str], by: Process) -> None:
        """Remove keys, one after the other."""
        for key in keys:
            self.judge.deleted(key, by)
            if key in self.folder(key):
                self._set(key, None)

    def take(self, key: str) -> None:
        """Something outside takes a file away, against all that is promised."""
        self._set(key, None)

    def list(self, prefix: str, ago: int = 0) -> Sequence[Entry]:
        """What begins with `prefix`, as it was `ago` changes earlier."""
        names = _folders_below(prefix)
        if ago:
            return sorted(
                (
                    Entry(key, len(value))
                    for name in names
                    for key, value in self._earlier(name, ago).items()
                    if key.startswith(prefix)
                ),
                key=_key,
            )
        if len(names) == 1 and prefix == _prefix(names[0]):
            return self._listing(names[0])
        return sorted(
            (entry for name in names for entry in self._listing(name) if entry.key.startswith(prefix)), key=_key
        )

    def deliver(self, rng: random.Random) -> None:
        """One of the requests that are under way arrives."""
        apply, _ = self.late.pop(int(rng.random() * len(self.late)))
        self.arrived()
        apply()

    def _listing(self, name: str) -> Sequence[Entry]:
        listing = self._listings.get(name)
        if listing is None:
            folder = self.folders[name]
            listing = self._listings[name] = [Entry(key, len(folder[key])) for key in sorted(folder)]
        return listing

    def _earlier(self, name: str, ago: int) -> dict[str, bytes]:
        there = dict(self.folders[name])
        for key, before in reversed(self.journal[name][-ago:]):
            if before is None:
                there.pop(key, None)
            else:
                there[key] = before
        return there

    def _set(self, key: str, value: bytes | None) -> None:
        name = folder_name(key)
        self._listings.pop(name, None)
        folder = self.folders[name]
        self.journal[name].append((key, folder.get(key)))
        self.now += 1
        if value is None:
            del folder[key]
        else:
            folder[key] = value
        self.changed()


def folder_name(key: str) -> str:
    """part, unit, data, …; "" for what lies at the root."""
    if key.startswith("_embedpipe/"):
        return key.split("/", 2)[1]
    return "data" if key.startswith("data/") else ""


@cache
def _folders_below(prefix: str) -> tuple[str, ...]:
    names = ("data", "", *FOLDERS)
    return tuple(name for name in names if _prefix(name).startswith(prefix) or prefix.startswith(_prefix(name)))


@cache
def _prefix(name: str) -> str:
    return name + "/" if name == "data" else f"_embedpipe/{name}/" if name else ""
