"""A store in memory, for protocol tests that look at every operation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.errors import StorageError
from pipeline.storage.store import Entry


@dataclass
class MemoryStore:
    """Strongly consistent, single-threaded; `operations` counts what was asked of it."""

    root: str = "memory://out"
    objects: dict[str, bytes] = field(default_factory=dict)
    operations: list[tuple[str, str]] = field(default_factory=list)

    def get(self, key: str) -> bytes | None:
        self.operations.append(("get", key))
        return self.objects.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.operations.append(("get_range", key))
        found = self.objects.get(key, b"")[start : start + length]
        if len(found) != length:
            raise StorageError(f"{key} is gone or shorter than {start + length} bytes")
        return found

    def put_new(self, key: str, value: bytes) -> bool:
        self.operations.append(("put_new", key))
        if key in self.objects:
            return False
        self.objects[key] = value
        return True

    def put(self, key: str, value: bytes) -> None:
        self.operations.append(("put", key))
        self.objects[key] = value

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.operations.append(("delete", key))
            self.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[Entry]:
        self.operations.append(("list", prefix))
        yield from [Entry(key, len(self.objects[key])) for key in sorted(self.objects) if key.startswith(prefix)]

    def size(self, key: str) -> int | None:
        return len(self.objects[key]) if key in self.objects else None

    def tidy(self) -> int:
        return 0
