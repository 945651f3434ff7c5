"""A store that numbers its operations and does one wrong thing at one of them.

Through `HOOKS` it stands between the program and every store it opens; a process chooses its fault by `begin`.
"""

import contextlib
import json
import os
import pickle
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from faults.sweep.kinds import KINDS, Call, Fault, Kind


@dataclass
class Script:
    """This process's operations so far, its fault, and requests still on their way to the store."""

    fault: Fault | None = None
    witness: Path | None = (
        None  # gets the operation that the fault happens to, before it does: dead processes tell nothing
    )
    log: list[tuple[str, str]] = field(default_factory=list)
    fired: tuple[str, str] | None = None
    outstanding: list[tuple[int, Call]] = field(default_factory=list)  # operations to wait, what arrives then
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, call: Call) -> Kind | None:
        """Number an operation; what goes wrong with it."""
        with self.lock:
            number = len(self.log)
            self.log.append(call.name)
            due = [late for wait, late in self.outstanding if wait <= 0]
            self.outstanding = [(wait - 1, late) for wait, late in self.outstanding if wait > 0]
            hit = self._hits(number, call)
        for late in due:
            arrive(late)
        return hit

    def _hits(self, number: int, call: Call) -> Kind | None:
        kind = KINDS[self.fault.kind] if self.fault is not None and number >= self.fault.at else None
        if kind is None or call.method not in kind.methods:
            return None
        if self.fired is not None:
            return kind if kind.lasts(self.fired[0], call.method) else None
        self.fired = call.name
        if self.witness is not None:
            self.witness.write_text(json.dumps(call.name))
        if kind.late:
            self.outstanding.append((self.fault.late_by, call))
        return kind

    def arrive_all(self) -> None:
        """Nothing stays on its way for ever."""
        waiting, self.outstanding = self.outstanding, []
        for _, late in waiting:
            arrive(late)

    def save(self, path: Path) -> None:
        """Leave what is on its way to the process that comes next."""
        path.write_bytes(pickle.dumps(self.outstanding))


def arrive(late: Call) -> None:
    """A request reaches the store when nobody waits for its answer any more."""
    with contextlib.suppress(Exception):
        late.act()


SCRIPT = Script()


def begin(fault: Fault | None, late: Path, witness: Path, seed: str) -> Script:
    """Start counting in this process, with names that follow from `seed`."""
    global SCRIPT
    SCRIPT = Script(fault, witness)
    if late.exists():
        SCRIPT.outstanding = pickle.loads(late.read_bytes())
    draw = random.Random(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=draw.getrandbits(128), version=4)
    return SCRIPT


class FaultyStore:
    """See `pipeline.storage.store.Store`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def root(self) -> str:
        return str(self.inner.root)

    def get(self, key: str) -> bytes | None:
        return perform(self.inner, "get", key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return perform(self.inner, "get_range", key, start, length)

    def put_new(self, key: str, value: bytes) -> bool:
        return perform(self.inner, "put_new", key, value)

    def put(self, key: str, value: bytes) -> None:
        perform(self.inner, "put", key, value)

    def delete(self, keys: Sequence[str]) -> None:
        perform(self.inner, "delete", list(keys))

    def list(self, prefix: str) -> Iterator[Any]:
        yield from perform(self.inner, "list", prefix)

    def size(self, key: str) -> int | None:
        return perform(self.inner, "size", key)

    def tidy(self) -> int:
        return perform(self.inner, "tidy")


def perform(inner: Any, method: str, *arguments: Any) -> Any:
    """Carry out an operation, or what is done to it."""
    call = Call(inner, method, arguments)
    kind = SCRIPT.strikes(call)
    return call.act() if kind is None else kind.do(call)


def _wrap_store(module: ModuleType) -> None:
    real = module.open_store  # type: ignore[attr-defined]
    module.open_store = lambda root: FaultyStore(real(root))  # type: ignore[attr-defined]


def _no_pauses(module: ModuleType) -> None:
    real = module.pauses  # type: ignore[attr-defined]
    module.pauses = lambda *arguments, **named: (0.0 for _ in real(*arguments, **named))  # type: ignore[attr-defined]


def _name_versions(inputs: ModuleType) -> None:
    """Files of the source have versions that tell nothing of when and where they were written: the names of units follow from
    them, and from those the order of what is done. Any other state of a file has the version that it always has."""
    real = inputs._local_version  # type: ignore[attr-defined]
    named = json.loads(os.environ[SOURCE_FILES])
    names = {real(Path(path).stat()): name for name, path in named.items()}
    inputs._local_version = lambda status: names.get(real(status), real(status))  # type: ignore[attr-defined]


def _one_at_a_time(probe: ModuleType) -> None:
    """Who is first in the probe's race is left to chance; here they ask one after the other."""
    real = probe.ThreadPoolExecutor  # type: ignore[attr-defined]
    probe.ThreadPoolExecutor = lambda _, **named: real(1, **named)  # type: ignore[attr-defined]


SOURCE_FILES = "FAULTS_SOURCE_FILES"
"""Setting: JSON, name of a version → path of the file that has it now."""

HOOKS = {
    "pipeline.storage.inputs": _name_versions,
    "pipeline.storage.open": _wrap_store,
    "pipeline.storage.probe": _one_at_a_time,
    "pipeline.storage.retry": _no_pauses,
}
