"""A bad or odd file together with what is right: the rows it holds, or why it is refused."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = tuple[int | str | None, str | None, str | None]  # id, text, kind

LONGEST_MESSAGE = 700


@dataclass(frozen=True)
class Read:
    """What reading a file came to: rows, or the message it was refused with."""

    rows: Sequence[Row] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # rows by kind, "" for accepted ones
    refusals: Sequence[str] = ()  # of its pieces
    cut: "Read | None" = None  # the same file in more pieces, where it can be cut

    @property
    def refusal(self) -> str | None:
        """The message of the first piece that was refused, and with it the file."""
        return next(iter(self.refusals), None)


@dataclass(frozen=True)
class Rows:
    """The file is read, and gives exactly these rows."""

    rows: tuple[Row, ...]

    def differs(self, found: Read) -> str | None:
        """What is not as it should be."""
        if found.refusal is not None:
            return None if not self.rows and "there is no row in it" in found.refusal else f"refused: {found.refusal}"
        return None if tuple(found.rows) == self.rows else f"gave {found.rows!r:.300}, not {self.rows!r:.300}"


@dataclass(frozen=True)
class Counts:
    """The file is read, and gives so many rows of each kind: for files whose rows are too big to write down."""

    counts: Mapping[str, int]

    def differs(self, found: Read) -> str | None:
        """What is not as it should be."""
        if found.refusal is not None:
            return f"refused: {found.refusal}"
        return None if dict(found.counts) == dict(self.counts) else f"gave {found.counts}, not {self.counts}"


@dataclass(frozen=True)
class Refused:
    """The file is refused, with messages that this pattern is found in. Where it comes in pieces, those that are read all the
    same are published, and so may give none but the rows that are intact."""

    pattern: str
    intact: tuple[Row, ...] = ()

    def differs(self, found: Read) -> str | None:
        """What is not as it should be."""
        if found.refusal is None:
            return f"was read: {found.rows!r:.300} {found.counts}"
        other = next((refusal for refusal in found.refusals if not re.search(self.pattern, refusal)), None)
        if other is not None:
            return f"{other!r} lacks {self.pattern!r}"
        right = Counter(found.rows) & Counter(self.intact)
        if right.total() == Counter(found.counts).total():
            return None
        return f"was refused, but a part of it gave {found.rows!r:.300} {found.counts}"


@dataclass(frozen=True)
class Case:
    """One file. Its name tells the reader the format, as in a user's folder."""

    name: str
    file: str
    data: Callable[[], bytes]
    right: Rows | Counts | Refused
    options: Mapping[str, Any] = field(default_factory=dict)  # of the config's `input`
    rows: Mapping[str, Any] = field(default_factory=dict)  # of the config's `rows`
    company: bool = True  # whether a good file with string ids can lie beside it
    by_name: bool = False  # refused for its name alone, before anything is read


def rows(*found: Row | str) -> Rows:
    """Rows; a text alone is an accepted row whose id is its number from 1."""
    return Rows(tuple((str(at), row, None) if isinstance(row, str) else row for at, row in enumerate(found, 1)))


def counts(kinds: Iterable[str | None]) -> dict[str, int]:
    """Rows by kind, "" for accepted ones."""
    return dict(Counter(kind or "" for kind in kinds))


def wrong_message(message: str, uri: str) -> str | None:
    """What a refusal lacks whatever it is about: the file, once; a sentence, not a dump."""
    if message.count(uri) != 1:
        return f"names the file {message.count(uri)} times: {message}"
    said = message.replace(uri, "")
    if len(said) > LONGEST_MESSAGE or "Traceback" in said or not said.isprintable():
        return f"not a sentence: {message[:1000]!r}"
    return None
