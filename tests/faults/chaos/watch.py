"""A reader who looks at an output again and again while it is being written, and never may see part of a version.

A version is read whole when it is first seen; as its files are never written twice, later looks hold each file's mark against
the one it had then. Now and then the same is asked of `pipeline.open_snapshot`.

Only files that went while it looked are excused, where a newer version is there by then. What was read whole and is wrong counts,
whatever was published meanwhile: a version that is big enough takes long to read, and there may always be a newer one.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from faults import oracle
from faults.chaos.eyes import eyes
from faults.chaos.world import State
from faults.leftovers import data_files

import pipeline

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 25
"""Looks for one through `open_snapshot`."""

States = Callable[[], Sequence[State]]


@dataclass(frozen=True)
class Seen:
    """A version that was read whole."""

    state: State  # of the input
    marks: Mapping[str, str]  # file → what must not change


class Watch:
    """A thread that polls; a context manager. `states` gives what a version may hold, the newest last; they may grow meanwhile.

    A later version never may hold an older state than the one before it.
    """

    def __init__(self, root: str, states: States, model: str) -> None:
        self.root = root
        self.counts: Counter[str] = Counter(polls=0, partial_reads=0, versions=0)
        self._model, self._states = model, states
        self._eyes, self._output = eyes(root), oracle.reader(root)
        self._seen: dict[int, Seen] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reader", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._ended.wait(
                self._eyes.pause_s
            )  # and one look more: the last thing done may have taken a file away
            try:
                wrong = self.look()
            except Exception as error:  # a reader must never meet one
                wrong = f"{type(error).__name__}: {error}"
            self.counts["polls"] += 1
            if wrong:
                self.counts["partial_reads"] += 1
                log.error("%s: a reader saw %s", self.root, wrong)

    def look(self) -> str:
        """What is wrong with what can be seen now; "" where it's one whole version, or nothing yet."""
        while True:
            version, latest = self._eyes.newest(), max(self._seen, default=0)
            if version < latest:
                return f"version {version or 'none'} after version {latest}"
            if version == 0:
                return ""
            try:
                return self._compare(version) if version in self._seen else self._read(version)
            except oracle.Overtaken as gone:
                if self._eyes.newest() <= version:
                    return f"version {version} with {gone} gone"

    def _read(self, version: int) -> str:
        entry = oracle.newest(self._output)
        if entry is None or entry["version"] < version:
            return f"no version {version}"
        if entry["version"] > version:
            raise oracle.Overtaken(f"version {version}")
        files = [entry["manifest"]["key"], *data_files(self._output, entry)]
        marks = {key: self._eyes.mark(key) for key in files}
        rows = oracle.rows(self._output, entry)
        state = self._state_of(rows)
        if state is None:
            return f"version {version} with {len(rows)} rows, which no state of the input has"
        before = self._seen[max(self._seen)].state if self._seen else state
        if state.number < before.number:
            return f"version {version} with the rows of state {state.number}, after those of state {before.number}"
        self._seen[version] = Seen(state, marks)
        self.counts["versions"] += 1
        return ""

    def _compare(self, version: int) -> str:
        for key, before in self._seen[version].marks.items():
            mark = self._eyes.mark(key)
            if not mark and before:
                raise oracle.Overtaken(key)
            if mark != before:
                return f"version {version} with {key} changed"
        return self._open(version) if self.counts["polls"] % SNAPSHOT_EVERY == 0 else ""

    def _open(self, version: int) -> str:
        """The ids that anybody gets of the newest version: which may be one more than `version` by now."""
        try:
            ids = pipeline.open_snapshot(self.root).to_table(columns=["id"], use_threads=False)["id"].to_pylist()
        except FileNotFoundError as gone:  # what a scan is documented to raise
            raise oracle.Overtaken(f"through open_snapshot: {gone}") from gone
        seen = self._seen[version].state
        later = [state for state in self._states() if state.number >= seen.number]
        due = later if self._eyes.newest() > version else [seen]
        if any(len(ids) == len(state.texts) and set(ids) == state.texts.keys() for state in due):
            return ""
        return f"{len(ids)} rows through open_snapshot at version {version}, where {len(seen.texts)} are due"

    def _state_of(self, rows: list[oracle.Row]) -> State | None:
        """The newest one that has just these rows."""
        alike = [state for state in reversed(self._states()) if len(state.texts) == len(rows)]
        return next((one for one in alike if oracle.judge(rows, one.texts, self._model, one.kept).right), None)
