"""The user's input files: what they hold, which version each has, and which it had at any earlier moment.

A version says everything about a file: its rows, which of them can't be embedded, and whether it can be read to its end.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from pipeline.source.records import InputFile, Piece, Segment

TEXT_BYTES = 8192
"""A unit's text in the simulated policy; files below 1/512 of it are grouped."""
UNIT_ROWS = 2
NAMES = tuple(f"/in/{letter}.txt" for letter in "abcdef")
CONTENTS = 6
"""Different contents a file may have; the same content comes back with the same version where the store hashes it."""


def number(*parts: object) -> int:
    """A fixed number made from `parts`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class Life:
    """A time in which a file had a version; `until` is None while it still has."""

    version: str
    since: int
    until: int | None


class Source:
    """Files by URI. `clock` gives the present moment."""

    def __init__(self, *, hashed: bool) -> None:
        self.hashed = hashed
        self.files: dict[str, InputFile] = {}
        self.lives: dict[str, list[Life]] = {}
        self._changes = 0

    def write(self, uri: str, content: int, now: int) -> None:
        """Create or replace a file."""
        self._changes += 1
        version = f"{content}" if self.hashed else f"{content}.{self._changes}"
        if uri in self.files:
            if self.files[uri].version == version:
                return
            self.remove(uri, now)
        self.files[uri] = make_file(uri, version)
        self.lives.setdefault(uri, []).append(Life(version, now, None))

    def remove(self, uri: str, now: int) -> None:
        """Take a file away."""
        del self.files[uri]
        last = self.lives[uri][-1]
        self.lives[uri][-1] = Life(last.version, last.since, now)

    def was_current(self, uri: str, version: str, since: int) -> bool:
        """Whether the file had that version at some moment from `since` on."""
        return any(
            life.version == version and (life.until is None or life.until >= since) for life in self.lives.get(uri, ())
        )

    def was_there(self, uri: str, since: int) -> bool:
        """Whether the file was there, in whatever version, all the time from `since` until now."""
        lives = self.lives.get(uri, [])
        seen = [life for life in lives if life.until is None or life.until >= since]
        ends = pairwise(seen)
        whole = bool(seen) and seen[0].since <= since and seen[-1].until is None
        return whole and all(before.until == after.since for before, after in ends)

    def always_current(self, uri: str, version: str, since: int) -> bool:
        """Whether the file had that version all the time from `since` until now."""
        lives = self.lives.get(uri)
        return bool(lives) and lives[-1].version == version and lives[-1].until is None and lives[-1].since <= since


@cache
def make_file(uri: str, version: str) -> InputFile:
    """A file of one or two pieces, or a small one that is grouped with others."""
    draw = number("size", uri, version[0])
    size = 4 + draw // 8 % 8 if draw % 8 < 4 else TEXT_BYTES * (1 + draw // 8 % 2)
    return InputFile(uri, version, size, "text", "none", uri.removeprefix("/in/"))


@cache
def rows_of(uri: str, version: str, start: int) -> tuple[str, ...]:
    """The rows of the piece that begins at `start`."""
    count = number("rows", uri, version[0], start) % 6
    return tuple(f"{uri}@{version}/{start}.{i}" for i in range(count))


def all_rows(uri: str, version: str) -> tuple[str, ...]:
    """Every row of a file version."""
    return tuple(
        row for start in range(0, make_file(uri, version).size, TEXT_BYTES) for row in rows_of(uri, version, start)
    )


@cache
def is_bad(row: str) -> bool:
    """Whether a row can't be embedded."""
    uri, _, rest = row.partition("@")
    return number("bad", uri, rest[0], row.partition("/")[2].rpartition("/")[2]) % 6 == 0


@cache
def torn_row(uri: str, version: str) -> str | None:
    """The row at which a file can't be read on; None for one that can be read to its end."""
    rows = all_rows(uri, version)
    torn = rows and number("torn", uri, version[0]) % 3 == 0
    return rows[number("row", uri, version[0]) % len(rows)] if torn else None


@cache
def units_of(segment: Segment) -> tuple[tuple[tuple[Piece, tuple[str, ...]], ...], ...]:
    """A segment as units of (piece, rows): at most `UNIT_ROWS` rows each, and at least one unit."""
    rows = [
        (piece, row) for piece in segment.pieces for row in rows_of(piece.file.uri, piece.file.version, piece.start)
    ]
    return tuple(tuple(_runs(rows[at : at + UNIT_ROWS])) for at in range(0, max(1, len(rows)), UNIT_ROWS))


def _runs(rows: list[tuple[Piece, str]]) -> Iterator[tuple[Piece, tuple[str, ...]]]:
    for piece in dict.fromkeys(piece for piece, _ in rows):
        yield piece, tuple(row for owner, row in rows if owner is piece)
