"""The records of the commit protocol, and their one JSON form.

Records are created once and never change; whichever record stands under a key is the truth for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import pyarrow as pa

from pipeline.errors import VerificationError
from pipeline.sink.records import FolderRows
from pipeline.source.records import Measure, Span
from pipeline.spec import canonical_json

T = TypeVar("T")

UnitState = Literal["done", "failed", "retired"]
Bytes: TypeAlias = bytes  # some records have a field called `bytes`


@dataclass(frozen=True, slots=True)
class FileRef:
    """A Parquet file on the store."""

    key: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PieceRef:
    """A piece of a segment, as the plan cut it."""

    uri: str
    version: str
    measure: Measure
    start: int
    stop: int
    last: bool  # the file ends where the piece does


def tiles(pieces: Iterable[PieceRef]) -> bool:
    """Whether pieces cover a file from 0 to its end without gap or overlap."""
    end = 0
    ordered = sorted(pieces, key=lambda piece: piece.start)
    for piece in ordered:
        if piece.start != end:
            return False
        end = piece.stop
    return bool(ordered) and ordered[-1].last


@dataclass(frozen=True, slots=True)
class Times:
    """Where a unit's time went, in milliseconds. A replica waits or encodes; what others do meanwhile is beside that."""

    read: int = 0  # until its rows were there
    tokenise: int = 0  # texts to tokens, identical ones folded
    wait: int = 0  # its replica stood still: nothing to encode, taking it over, the store's answers, compiling
    transfer: int = 0  # of that: taking it over and passing the one before on
    encode: int = 0
    stage: int = 0  # its part made, checked and put

    @property
    def busy_share(self) -> float | None:
        """Of the replicas' time, what they encoded in; None where nothing was encoded."""
        return round(self.encode / (self.encode + self.wait), 4) if self.encode else None

    def __add__(self, other: "Times") -> "Times":
        return Times(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


NO_TIME = Times()


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """COMMIT of a unit's generation. `rows_in == rows_out + rows_quarantined` for a done one."""

    unit: str
    generation: int
    state: UnitState
    spec: str
    segment: str
    k: int
    attempt: str
    base: int = 0  # the newest version when it was planned; 0: none. What it was made for may have been replaced since
    eof: bool = False
    pieces: tuple[PieceRef, ...] = ()
    spans: tuple[Span, ...] = ()
    part: FileRef | None = None  # None: no row came out
    folders: tuple[FolderRows, ...] = ()
    quarantine: FileRef | None = None
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)  # rows by kind
    digest: str = ""  # of the accepted rows' ids and text hashes, in order
    folded: int = 0  # rows whose vector was computed for an identical text of the unit
    truncated: int = 0
    tokens: int = 0  # encoded, after folding and cutting
    source_bytes: int = 0
    device: str = ""
    dtype: str = ""
    gate: dict[str, Any] | None = None
    times: Times = NO_TIME
    reason: str = ""  # of a failed one

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return _dump(self)

    @staticmethod
    def from_json(data: bytes) -> "UnitRecord":
        """The record in `data`."""
        return _load(data, UnitRecord)


@dataclass(frozen=True, slots=True)
class AttemptNote:
    """What is noted when an attempt at a unit begins."""

    unit: str
    run: str
    spec: str
    base: int  # as in `UnitRecord`
    segment: str
    k: int
    pieces: tuple[PieceRef, ...]

    @staticmethod
    def from_json(data: bytes) -> "AttemptNote":
        """The note in `data`."""
        return _load(data, AttemptNote)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one unit in one file: `rows` rows from `first_row` on."""

    unit: str
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class AssemblyRecord:
    """COMMIT of an assembly's k-th data file."""

    base: int
    assembly: str
    k: int
    file: FileRef
    slices: tuple[Slice, ...]

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return _dump(self)

    @staticmethod
    def from_json(data: bytes) -> "AssemblyRecord":
        """The record in `data`."""
        return _load(data, AssemblyRecord)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """COMMIT of a snapshot."""

    version: int
    base: int  # the version it was made from; always version - 1
    oldest: int  # the oldest version that stays readable
    spec: str
    recipe: str
    limit: int | None
    manifest: FileRef
    files: int
    rows: int
    bytes: int
    units: int
    rows_in: int
    rows_quarantined: int
    failed: dict[str, str]  # URI → reason, of files that the snapshot is without, in whole or in part
    facts: dict[str, Any]  # for people: model, dimensions, program version, time of publication

    def to_json(self) -> Bytes:
        """Canonical bytes."""
        return _dump(self)

    @staticmethod
    def from_json(data: Bytes) -> "LogEntry":
        """The record in `data`."""
        return _load(data, LogEntry)


def _dump(record: UnitRecord | AssemblyRecord | LogEntry) -> bytes:
    return canonical_json(asdict(record))


def _load(data: bytes, kind: type[T]) -> T:
    """Raises ValueError where the document isn't one of those."""
    import msgspec  # not needed to encode what nobody has encoded before

    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, pa.ArrowException)
"""What parsers raise on what isn't theirs."""


def parsed(root: str, key: str, data: Bytes, parse: Callable[[Bytes], T]) -> T:
    """What the object `key` says, by `parse`. Raises VerificationError when it isn't what was written there."""
    try:
        return parse(data)
    except MemoryError:  # Arrow's own is one of its exceptions, too, and says nothing of the object
        raise
    except UNREADABLE as error:
        raise VerificationError(
            f"{root}/{key} can't be understood ({type(error).__name__}: {error}): something outside embedpipe has changed it. "
            "Restore it, or write the job's result to another output.path"
        ) from error
