"""What a job tells its user: `Preflight` before, `Status` meanwhile, `Summary` at the end. Plain values, JSON-ready."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.commit.records import NO_TIME, Times


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. Figures of the snapshot are the newest published one's; the others are of this run alone."""

    state: Literal["done", "incomplete"]
    exit_code: int
    output: str
    version: int  # of the snapshot that stands now
    published: bool  # False: the snapshot equals the input already
    input_files: int
    rows: int  # in the snapshot
    rows_encoded: int  # by this run
    units: int  # in the snapshot
    units_encoded: int
    rows_quarantined: int  # in the snapshot's units
    quarantined: dict[str, int] = field(default_factory=dict)  # rows of newly published units, by kind
    failed: dict[str, str] = field(default_factory=dict)  # URI → reason, of files the snapshot is without
    folded: int = 0  # rows whose vector was computed for an identical text
    truncated: int = 0  # rows whose text was longer than the model takes
    tokens: int = 0  # encoded
    padded_tokens: int = 0  # computed, padding included
    duplicate_ids: int | None = None  # rows whose id an earlier row has; None: not counted
    files: int = 0  # data files in the snapshot
    bytes: int = 0  # of them
    seconds: float = 0.0
    times: Times = NO_TIME  # of the units of this run, added up
    device: str = ""
    dtype: str = ""
    device_reason: str = ""  # why this device and dtype
    gate: dict[str, Any] | None = None  # the parity gate's values
    messages: tuple[str, ...] = ()

    @property
    def padding_share(self) -> float:
        """Share of computed token positions that are padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows of this run over its wall-clock time."""
        return self.rows_encoded / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens of this run over its wall-clock time."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def next_step(self) -> str:
        """The command to go on with."""
        if self.failed:
            return "mend the files named above and run the same command again: only they are read"
        return f"embedpipe verify {self.output}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object with the rates included."""
        return asdict(self) | {
            "padding_share": round(self.padding_share, 4),
            "rows_per_s": round(self.rows_per_s, 2),
            "tokens_per_s": round(self.tokens_per_s, 2),
            "busy_share": self.times.busy_share,
            "next_step": self.next_step,
        }


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a run would do. Figures marked with `estimate` come from a sample."""

    output: str
    version: int  # of the snapshot that stands now; 0: none
    replaces: bool  # the output holds another spec, whose rows would go as a whole
    model: str
    dimensions: int
    max_tokens: int
    device: str  # as this machine would choose; workers elsewhere choose for themselves
    dtype: str
    device_reason: str
    input_files: int
    input_bytes: int
    rows: int | None  # of all input files; None: not known without reading them
    rows_estimated: bool  # `rows` is an estimate
    files_covered: int  # wholly in the snapshot already
    units_covered: int
    units_committed: int  # done, and waiting to be published
    units_pending: int  # an estimate where files can only be read from the beginning
    rows_dropped: int  # published rows whose files are gone
    pending_bytes: int
    pending_rows: int | None  # estimate
    pending_tokens: int | None  # estimate
    pending_seconds: float | None = None  # estimate, from a timing on this machine; None: nothing to base one on
    replicas: int = 1  # that pending_seconds reckons with, each like the one timed
    output_bytes: int | None = None  # estimate of all data files
    truncated_share: float | None = None  # estimate: share of texts longer than the model takes
    messages: tuple[str, ...] = ()

    @property
    def next_step(self) -> str:
        """What running the job would mean."""
        if self.units_pending:
            return "embedpipe run, with the same options, does this"
        if self.units_committed or self.rows_dropped or self.replaces:
            return "nothing is left to encode; embedpipe run publishes what is committed"
        return "nothing is left to do"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return asdict(self) | {"next_step": self.next_step}


@dataclass(frozen=True, slots=True)
class PublishedFacts:
    """The newest snapshot, as its log entry has it."""

    version: int
    oldest: int  # the oldest version still readable
    rows: int
    files: int
    bytes: int
    units: int
    rows_in: int  # source rows it accounts for
    rows_quarantined: int
    limit: int | None  # rows, of a `--limit` run
    failed: dict[str, str]  # URI → reason, of files it is without
    spec: str
    facts: dict[str, Any]  # model, dimensions, precision, time of publication


@dataclass(frozen=True, slots=True)
class Status:
    """An output as the store alone tells it, while a run is going or after it died."""

    output: str
    published: PublishedFacts | None
    success: bool  # `_SUCCESS` stands: a plain glob of data/ is exact
    units_committed: int = 0  # done since the newest snapshot, not yet published
    rows_committed: int = 0
    tokens_committed: int = 0
    folded: int = 0
    truncated: int = 0
    times: Times = NO_TIME  # of the committed units, added up
    quarantined: dict[str, int] = field(default_factory=dict)  # rows of committed units, by kind
    failed: dict[str, str] = field(default_factory=dict)  # URI → reason, of units that could not be finished
    attempts_open: int = 0  # begun and neither committed nor ended: in flight, or their process died
    messages: tuple[str, ...] = ()

    @property
    def state(self) -> Literal["empty", "published", "in progress"]:
        """`in progress`: work is committed or in flight that no snapshot has."""
        if self.units_committed or self.attempts_open or self.failed:
            return "in progress"
        return "published" if self.published else "empty"

    @property
    def next_step(self) -> str:
        """What to do when no run is going."""
        if self.state == "empty":
            return "embedpipe run: nothing has been written here yet"
        if self.state == "in progress":
            return "if no run is going: embedpipe run, with the job's config, goes on from here"
        return f"embedpipe verify {self.output}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return asdict(self) | {
            "busy_share": self.times.busy_share,
            "state": self.state,
            "next_step": self.next_step,
        }


def mixed_formats(dtypes: Iterable[str]) -> tuple[str, ...]:
    """What to tell of a snapshot whose units were computed in these number formats; nothing where it was one."""
    counts = Counter(dtypes)
    if len(counts) < 2:
        return ()
    shown = " and ".join(f"{dtype} ({count:,} units)" for dtype, count in sorted(counts.items()))
    text = (
        f"the snapshot's vectors were computed in {shown}, on machines that differ; each passed the parity gate. The manifest "
        "has it by unit; model.precision: exact computes all in float32"
    )
    return (text,)
