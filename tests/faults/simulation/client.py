"""The store as one process sees it: every operation lets others go first, and may go wrong."""

from collections.abc import Callable, Iterator, Sequence

from faults.simulation.disk import Disk
from faults.simulation.misfortune import Faults
from faults.simulation.scheduler import Scheduler

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.store import Entry

ROOT = "sim://out"
LULL_STEPS = 600


class SimulatedStore:
    """See `pipeline.storage.store.Store`."""

    root = ROOT

    def __init__(self, disk: Disk, scheduler: Scheduler, faults: Faults, trace: Callable[[str], None] | None) -> None:
        self._disk, self._scheduler, self._faults, self._trace = disk, scheduler, faults, trace
        process = scheduler.current
        assert process is not None
        self._process = process
        self._may_delete = process.command is None or process.command.may_delete

    def get(self, key: str) -> bytes | None:
        self._before("get", key)
        value = self._disk.get(key)
        self._settles(key)
        self._say("get", key, "" if value is None else f"{len(value)} bytes")
        return value

    def get_range(self, key: str, start: int, length: int) -> bytes:
        found = (self.get(key) or b"")[start : start + length]
        if len(found) != length:
            raise StorageError(f"{key} is gone or shorter than {start + length} bytes")
        return found

    def size(self, key: str) -> int | None:
        self._before("size", key)
        value = self._disk.get(key)
        self._say("size", key, value and len(value))
        return None if value is None else len(value)

    def list(self, prefix: str) -> Iterator[Entry]:
        fault = self._before("list", prefix)
        found = self._disk.list(prefix)
        if fault == "in pages":
            self._faults.happened("list", fault, effective=len(found) > 1)
        elif fault:
            fresh, found = found, self._disk.list(prefix, 1 + int(self._faults.rng.random() * 12))
            self._faults.happened("list", fault, effective=found != fresh)
        self._say("list", prefix, f"{len(found)} keys {fault}")
        if fault == "in pages" and len(found) > 1:
            page = found[: len(found) // 2]
            yield from page
            self._scheduler.pause()
            found = [entry for entry in self._disk.list(prefix) if entry.key > page[-1].key]
            self._say("list", prefix, f"next page, {len(found)} keys")
        yield from found

    def put_new(self, key: str, value: bytes) -> bool:
        fault = self._before("put_new", key)
        if fault == "conflict":
            self._faults.happened("put_new", fault, effective=key not in self._disk.folder(key))
            self._say("put_new", key, "409")
            return False
        if fault == "late":
            self._postpone("put_new", key, lambda: self._disk.put_new(key, value, self._process))
        stored = self._disk.put_new(key, value, self._process)
        self._say("put_new", key, f"{stored} {fault}")
        self._after("put_new", key, fault, changed=stored)
        return stored and fault != "repeated"

    def put(self, key: str, value: bytes) -> None:
        fault = self._before("put", key)
        if fault == "late":
            self._postpone("put", key, lambda: self._disk.put(key, value, self._process))
        self._disk.put(key, value, self._process)
        self._settles(key)
        self._say("put", key, fault)
        self._after("put", key, fault, changed=True)

    def delete(self, keys: Sequence[str]) -> None:
        keys = tuple(keys)
        fault = self._before("delete", keys)
        if not self._may_delete:
            raise StorageError(f"{ROOT}: access denied")
        if fault == "late":
            self._postpone("delete", keys, lambda: self._disk.delete(keys, self._process))
        before = self._disk.now
        self._disk.delete(keys[: len(keys) // 2] if fault == "in part" else keys, self._process)
        self._say("delete", keys, fault)
        self._after("delete", keys, fault, changed=self._disk.now != before)

    def tidy(self) -> int:
        return 0

    def _before(self, operation: str, what: str | tuple[str, ...]) -> str:
        """Let others go first; then what goes wrong, if it is not over with that."""
        scheduler = self._scheduler
        scheduler.pause()
        first = what if isinstance(what, str) else str(what[0])
        self._follow_script(operation, first)
        if self._disk.late and self._faults.rng.random() < self._faults.arrival:
            self._say("late", what, "a request arrives")
            self._disk.deliver(self._faults.rng)
        fault = self._faults.draw(operation, first, self._process.command is not None)
        if fault in ("error", "killed before"):
            self._faults.happened(operation, fault)
            self._say(operation, what, fault)
        if fault == "error":
            raise TransientStorageError(f"{operation} {what}: no answer")
        if fault == "killed before":
            scheduler.kill(self._process)
        return fault

    def _follow_script(self, operation: str, key: str) -> None:
        command = self._process.command
        if command is None:
            return
        if operation == "list" and command.dozes == key:
            self._scheduler.park(int(self._faults.rng.random() * LULL_STEPS))
        if not operation.startswith("put"):
            return
        if command.lull and key.startswith(command.lull):
            self._scheduler.park(int(self._faults.rng.random() * LULL_STEPS))
        if command.fated and key.startswith(command.fated):
            self._say(operation, key, "killed before, as it had to be")
            self._scheduler.kill(self._process)

    def _settles(self, key: str) -> None:
        if key == "_SUCCESS" and self._process.command is not None:
            self._process.command.settled = self._scheduler.step

    def _after(self, operation: str, what: object, fault: str, *, changed: bool) -> None:
        if fault:
            self._faults.happened(operation, fault, effective=changed)
        command = self._process.command
        if command is not None and command.dies_after and str(what).startswith(command.dies_after):
            self._say(operation, what, "killed after, as it had to be")
            self._scheduler.kill(self._process)
        if fault == "killed after":
            self._scheduler.kill(self._process)
        if fault in ("reply lost", "in part"):
            raise TransientStorageError(f"{operation} {what}: no answer")

    def _postpone(self, operation: str, what: object, apply: Callable[[], object]) -> None:
        def arrive() -> None:
            before = self._disk.now
            apply()
            self._faults.happened(operation, "late", effective=self._disk.now != before)

        self._disk.late.append((arrive, self._process))
        self._say(operation, what, "late")
        raise TransientStorageError(f"{operation} {what}: no answer")

    def _say(self, operation: str, what: object, outcome: object) -> None:
        if self._trace is not None:
            self._trace(
                f"{self._scheduler.step:5} {self._process.name:18} {operation:8} {what} {outcome or ''}".rstrip()
            )
