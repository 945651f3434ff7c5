"""`embedpipe status`: an output as the store alone tells it. Works beside a live run, and after one that died."""

from collections import Counter
from collections.abc import Sequence, Set

from pipeline.commit.attempts import list_unended
from pipeline.commit.records import NO_TIME, LogEntry, UnitRecord
from pipeline.commit.snapshot import Snapshot, read_head
from pipeline.commit.success import marked_version
from pipeline.commit.units import list_generations, read_rulings
from pipeline.flow.summary import PublishedFacts, Status, mixed_formats
from pipeline.storage.open import open_store


def read_status(output: str) -> Status:
    """What is published, what is committed since, and what is or was in flight."""
    store = open_store(output)
    head = read_head(store)
    published = {unit.unit for unit in head.units} if head else set()
    generations = list_generations(store)
    open_units = [unit for unit in generations if unit not in published]
    covered = {(piece.uri, piece.version) for unit in head.units for piece in unit.pieces} if head else set()
    rulings = list(read_rulings(store, open_units, generations).values())
    done = [
        record
        for record in rulings
        if record.state == "done" and record.rows_in and not _is_published(record, head, covered)
    ]
    kinds: Counter[str] = Counter()
    for record in done:
        kinds.update(record.quarantined)
    return Status(
        output=store.root,
        published=_facts(head.entry) if head else None,
        success=head is not None and marked_version(store) == head.entry.version,
        units_committed=len(done),
        rows_committed=sum(record.rows_out for record in done),
        tokens_committed=sum(record.tokens for record in done),
        folded=sum(record.folded for record in done),
        truncated=sum(record.truncated for record in done),
        times=sum((record.times for record in done), NO_TIME),
        quarantined=dict(kinds),
        failed=_failures(head, rulings),
        attempts_open=len(list_unended(store, generations)),
        messages=mixed_formats(unit.dtype for unit in head.units) if head else (),
    )


def _is_published(record: UnitRecord, head: Snapshot | None, covered: Set[tuple[str, str]]) -> bool:
    """Whether the head has the rows of the record's files from other units, or says that it is without them."""
    if head is None or record.spec != head.entry.spec or record.base >= head.entry.version:
        return False  # made on this very head: wanted in spite of what it has
    failed = head.entry.failed
    return all((piece.uri, piece.version) in covered or piece.uri in failed for piece in record.pieces)


def _failures(head: Snapshot | None, rulings: Sequence[UnitRecord]) -> dict[str, str]:
    """URI → reason of what the snapshot is without, and before there is one, of what has failed so far."""
    if head is not None:
        return head.entry.failed
    return {record.pieces[0].uri: record.reason for record in rulings if record.state == "failed" and record.pieces}


def _facts(entry: LogEntry) -> PublishedFacts:
    return PublishedFacts(
        version=entry.version,
        oldest=entry.oldest,
        rows=entry.rows,
        files=entry.files,
        bytes=entry.bytes,
        units=entry.units,
        rows_in=entry.rows_in,
        rows_quarantined=entry.rows_quarantined,
        limit=entry.limit,
        failed=entry.failed,
        spec=entry.spec,
        facts=entry.facts,
    )
