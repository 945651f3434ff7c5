"""Seeded damage to good files: to their bytes, and to what their format is made of."""

import gzip
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
from faults.corpus.formats import FILES, LINES, PACK

NUMBERS = tuple(
    number.to_bytes(size, order, signed=number < 0)
    for size in (1, 2, 4, 8)
    for number in (0, 1, -1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1, -(1 << (8 * size - 1)), 1 << (4 * size))
    for order in ("little", "big")
)
"""Lengths, offsets and counts that parsers go wrong by."""

JSON_WORDS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"\\ud800",
    b"\\u0000", b"\\udc00\\ud800", b"[" * 3000, b'{"a":' * 300, b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\xe2\x80\xa8", b'"text": 7, ', b'"id": null, ', b'"id": {"a": 1}, ', b'{"id": "1", "text": "x"}',
)  # fmt: skip
CSV_WORDS = (
    b'"', b'""', b",", b"\t", b";", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"\x85", b'"\n"', b'"a"b"', b"x" * 5000, b"\n\n\n", b"id,text\n", b"\\",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A damaged file."""

    name: str
    data: bytes
    start: int  # the first byte that differs from the good file
    kind: str  # format and compression, as counted

    @property
    def plain(self) -> bytes | None:
        """What the file holds once inflated; None where it can't be."""
        try:
            if self.name.endswith(".zst"):
                return pa.CompressedInputStream(pa.BufferReader(self.data), "zstd").read()
            return gzip.decompress(self.data) if self.name.endswith(".gz") else self.data
        except (OSError, EOFError, ValueError, zlib.error):
            return None


@cache
def good(name: str) -> bytes:
    """The file before any damage."""
    return FILES[name]()


def mutant(seed: int) -> Mutant:
    """The file that this seed stands for: the same on every machine."""
    names = sorted(FILES)
    name, rng = names[seed % len(names)], random.Random(seed)
    plain, suffix = (
        (name.rpartition(".")[0], "." + name.rpartition(".")[2]) if name.endswith(tuple(PACK)) else (name, "")
    )
    data = bytearray(good(plain if suffix and rng.random() < 0.5 else name))
    inside = bool(suffix) and bytes(data) == good(plain)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _damage(rng, plain if inside or not suffix else name, data)
    damaged = PACK[suffix](bytes(data)) if inside else bytes(data)
    return Mutant(name, damaged, _first_difference(good(name), damaged), name.partition(".")[2])


def _damage(rng: random.Random, name: str, data: bytearray) -> None:
    words = JSON_WORDS if name.endswith((".jsonl", ".txt")) else CSV_WORDS if name in LINES else NUMBERS
    if rng.random() < 0.5:
        place = _place(rng, name, data)
        word = rng.choice(words)
        if words is NUMBERS or rng.random() < 0.3:
            data[place : place + len(word)] = word
        else:
            data[place:place] = word
    else:
        rng.choice(_BYTEWISE)(rng, name, data)


def _place(rng: random.Random, name: str, data: bytearray) -> int:
    """Anywhere, but in columnar files every other time in the last part, where the footer is."""
    size = len(data)
    if name.endswith((".parquet", ".arrow")) and rng.random() < 0.5:
        return rng.randrange(max(0, size - size // 3), size + 1)
    return rng.randrange(size + 1)


def _flip(rng: random.Random, name: str, data: bytearray) -> None:
    if data:
        data[min(_place(rng, name, data), len(data) - 1)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, name: str, data: bytearray) -> None:
    if data:
        data[min(_place(rng, name, data), len(data) - 1)] = rng.randrange(256)


def _delete(rng: random.Random, name: str, data: bytearray) -> None:
    place = _place(rng, name, data)
    del data[place : place + rng.choice((1, 1, 2, 8, 100))]


def _insert(rng: random.Random, name: str, data: bytearray) -> None:
    place = _place(rng, name, data)
    data[place:place] = rng.randbytes(rng.choice((1, 1, 4, 50)))


def _double(rng: random.Random, name: str, data: bytearray) -> None:
    place, size = _place(rng, name, data), rng.choice((1, 8, 64, 512))
    data[place:place] = data[place : place + size]


def _swap(rng: random.Random, name: str, data: bytearray) -> None:
    size = rng.choice((1, 4, 32, 200))
    a, b = sorted((_place(rng, name, data), _place(rng, name, data)))
    if a + size <= b and b + size <= len(data):
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _zero(rng: random.Random, name: str, data: bytearray) -> None:
    place, size = _place(rng, name, data), rng.choice((1, 4, 16, 128))
    data[place : place + size] = bytes(len(data[place : place + size]))


def _cut(rng: random.Random, name: str, data: bytearray) -> None:
    del data[_place(rng, name, data) :]


def _splice(rng: random.Random, name: str, data: bytearray) -> None:
    other = good(rng.choice(sorted(FILES)))
    del data[_place(rng, name, data) :]
    data += other[rng.randrange(len(other) + 1) :]


_BYTEWISE: tuple[Callable[[random.Random, str, bytearray], None], ...] = (
    _flip, _flip, _flip, _set, _delete, _insert, _double, _swap, _zero, _cut, _splice,
)  # fmt: skip


def _first_difference(a: bytes, b: bytes) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
