"""Planning with I/O: reads head, listing, footers and records, and hands them to the pure plan.

The head is read first and the input listed after: a file that changes in between is seen as changed by the next plan,
never taken for covered. A run lists its input once for each head that it plans on. What comes after that is for the next
run: a source that is written to all night would have no run ever publish.
"""

import gc
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from pipeline.commit.attempts import list_unended
from pipeline.commit.keys import SUCCESS
from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.snapshot import Snapshot, read_head, read_stored_spec
from pipeline.commit.success import marked_version
from pipeline.commit.units import RETRY, list_generations, read_rulings
from pipeline.errors import RefusedError
from pipeline.flow.job import Job
from pipeline.plan.plan import candidate_units, keep_only, make_plan, match_head, segments_by_id
from pipeline.plan.records import Plan
from pipeline.plan.refuse import check_drop, check_spec
from pipeline.source.footers import read_footers
from pipeline.source.records import InputFile, Segment
from pipeline.source.segments import cut_segments
from pipeline.spec import gate_unit
from pipeline.storage.store import Store

MAX_LIMITED_PIECES = 1000


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what it was made from."""

    head: Snapshot | None  # what the next entry follows
    same_spec: bool  # False: the next snapshot replaces the head's rows as a whole
    files: tuple[InputFile, ...]
    plan: Plan
    gate_generation: int  # at which the parity gate is to be noted
    gate_deaths: int  # runs that ended over it without a word, or are still at it
    again: tuple[ManifestUnit, ...] = ()  # of the head, worked again for the sake of their quarantined rows

    @property
    def version(self) -> int:
        """Of the head; 0 where nothing is published."""
        return self.head.entry.version if self.head else 0

    @property
    def input_bytes(self) -> int:
        """Size of the listed files."""
        return sum(file.size for file in self.files)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A million records are no garbage, and looking through them for some again and again takes as long as reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def plan_now(
    job: Job,
    *,
    allow_drop: bool = False,
    replace: bool = False,
    before: Planned | None = None,
    changed: Set[str] = frozenset(),
    apart: Sequence[frozenset[str]] = (),
    given_up: Set[str] = frozenset(),
) -> Planned:
    """The plan as things stand. `before`: this run's last one, and `changed`: URIs of its files that are not what they were then.
    `apart`: see `_cut`. `given_up`: segments of which something was tried in vain; what is published of them stays, but for what
    was worked again.

    Raises RefusedError for what must not go on: an empty input, another spec, another program's output, too many rows gone.
    """
    store, spec = job.store, job.spec
    head = read_head(store)
    if head is None:
        _refuse_foreign(store)
    entry = head.entry if head else None
    published = read_stored_spec(store, entry.spec) if entry and entry.spec != spec.spec_id else spec
    same_spec = check_spec(spec, entry, published, replace=replace, output=store.root)
    if before is None or before.version != (entry.version if entry else 0):
        files = job.discover()
    else:
        files = job.look_again(before.files, changed)
    if not files:
        raise RefusedError(f"the input is empty: {', '.join(job.config.input.paths)} holds no file to read")
    by_uri = {file.uri: file for file in files}
    append = job.config.output.mode == "append"
    generations = list_generations(store)
    units = head.units if head and same_spec else ()
    redo = units_to_redo(store, units, generations, given_up)
    match = match_head(spec.spec_id, by_uri, units, job.extraction, append=append, redo=redo)
    if not same_spec:
        match = replace_fields(match, gone_rows=_rows_without(head, by_uri))
    check_drop(store.root, entry, match.gone_rows, spec, allow_drop=allow_drop)
    if job.limit is None:
        open_files = [file for file in files if file.uri in match.open_files]
        segments = _cut(job, open_files, _appended(open_files, match.again) if append else apart)
    else:
        segments = _cut_first(job, files, job.limit)
    by_id = segments_by_id(spec.spec_id, segments, job.extraction)
    if job.limit is not None:
        match = keep_only(match, by_id.keys())
    rulings = read_rulings(store, candidate_units(by_id, generations), generations)
    unended = {unit: count for (unit, _), count in list_unended(store, generations).items()}
    gate = gate_unit(spec.spec_id)
    plan = make_plan(match, by_id, rulings, unended, covered_files=len(files) - len(match.open_files))
    return Planned(
        head, same_spec, tuple(files), plan, generations.get(gate, -1) + 1, unended.get(gate, 0), match.again
    )


def _refuse_foreign(store: Store) -> None:
    """A mark that is another program's promises its files, and would be taken for a promise of ours, or be written over."""
    if store.get(SUCCESS) is not None and marked_version(store) is None:
        raise RefusedError(
            f"{store.root} holds a {SUCCESS} that embedpipe did not write: it is the output of another program. Use another "
            f"output.path, or remove that {SUCCESS} if nobody needs it"
        )


def _rows_without(head: Snapshot | None, listed: Container[str]) -> int:
    """Rows of a snapshot none of whose files is listed any more: a replacement can't have them, in append mode neither."""
    units = head.units if head else ()
    return sum(unit.rows_out for unit in units if not any(piece.uri in listed for piece in unit.pieces))


def units_to_redo(
    store: Store, units: Sequence[ManifestUnit], generations: Mapping[str, int], given_up: Set[str] = frozenset()
) -> frozenset[str]:
    """Published units with quarantined rows that somebody asked to be tried again, those that have been since, and those that
    were in vain, unless that was in this run."""
    suspects = [unit for unit in units if unit.rows_quarantined and generations.get(unit.unit, 0) > unit.generation]
    rulings = read_rulings(store, [unit.unit for unit in suspects], generations)
    return frozenset(
        unit
        for unit, record in rulings.items()
        if record.state == "done"
        or (record.segment not in given_up and (record.state == "failed" or record.reason == RETRY))
    )


def _appended(files: Iterable[InputFile], again: Iterable[ManifestUnit]) -> list[frozenset[str]]:
    """Each file is on its own: a unit over several could not outlive one of them. But what a mirror has published of several is
    worked again as it is."""
    together = {frozenset(piece.uri for piece in unit.pieces) for unit in again}
    return [*sorted(together, key=sorted), *(frozenset([file.uri]) for file in files)]


def _cut(job: Job, files: list[InputFile], apart: Sequence[frozenset[str]] = ()) -> list[Segment]:
    """apart: sets of URIs that are not grouped with others; a file is in the first of its sets."""
    footers = read_footers(files)
    left = {file.uri: file for file in files}
    groups = [[left.pop(uri) for uri in sorted(own) if uri in left] for own in apart]
    return [segment for group in (list(left.values()), *groups) for segment in cut_segments(group, footers, job.policy)]


def _cut_first(job: Job, files: list[InputFile], limit: int) -> list[Segment]:
    """A limited run's one segment: the first pieces of all files, whatever the head has of them; else each run would go on behind
    the one before."""
    pieces = tuple(piece for segment in _cut(job, files) for piece in segment.pieces)
    return [Segment(pieces[: max(MAX_LIMITED_PIECES, limit)])] if pieces else []
