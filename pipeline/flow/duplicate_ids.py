"""Counting ids that are there twice, of what is about to be published and what stays of the head."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import Overtaken, StorageError
from pipeline.flow.job import Job
from pipeline.flow.overlap import behind
from pipeline.flow.planning import Planned
from pipeline.sink.assemble import check_there, damaged
from pipeline.sink.duplicates import MAX_ROWS, count_duplicates
from pipeline.source.streams import one_line
from pipeline.storage.pinned import open_stored
from pipeline.storage.store import Store

READERS = 16
"""Threads that read ids: on an object store each file is a few requests, and waiting for them one after the other takes longer
than anything here."""


@dataclass(frozen=True, order=True, slots=True)
class _File:
    """A Parquet file of the output, or one within a staged part."""

    key: str
    start: int = 0
    bytes: int | None = None  # None: all of the object


def count_duplicate_ids(job: Job, planned: Planned, published: bool) -> int | None:
    """Rows of the next snapshot, or of the head where none is to be `published`, whose id an earlier row has.

    None where nobody has to know: ids are generated from files all of which are listed; or the config keeps duplicates, and
    nothing is published or the rows are too many to count by the way.
    """
    generated = job.extraction.id is None
    if generated and job.config.output.mode != "append":
        return None
    refused = generated or job.config.rows.duplicate_id == "refuse"
    if not published and planned.head is not None:
        counted: int | None = planned.head.entry.facts.get("duplicate_ids")
        if counted is not None or not refused:
            return counted if refused else None
    wanted: dict[_File, list[tuple[int, int]]] = {}
    for unit in planned.plan.kept:
        for part in unit.slices:
            wanted.setdefault(_File(part.file.key), []).append((part.first_row, part.rows))
    for record in planned.plan.committed:
        if record.part is not None:
            for group in record.folders:
                wanted[_File(record.part.key, group.start, group.bytes)] = [(0, group.rows)]
    rows = sum(rows for slices in wanted.values() for _, rows in slices)
    if rows > MAX_ROWS and not refused:
        return None
    return count_duplicates(_ids(job.store, dict(sorted(wanted.items()))), rows)


def uncounted(job: Job, duplicates: int | None) -> Iterator[str]:
    """What a summary says where ids were published and `count_duplicate_ids` has not counted them."""
    if duplicates is None and job.extraction.id is not None:
        yield (
            f"these are more than {MAX_ROWS:,} rows, and duplicate ids were not counted; `embedpipe verify` counts them, and "
            "so does a run with rows.duplicate_id=refuse"
        )


def _ids(store: Store, wanted: dict[_File, list[tuple[int, int]]]) -> Iterator[pa.ChunkedArray]:
    """The id column of slices (first row, rows) of files. Raises Overtaken when a file is gone."""
    columns = behind(lambda file: _read_ids(store, file), wanted, 2 * READERS, READERS)
    for column, slices in zip(columns, wanted.values(), strict=True):
        yield from (column.slice(first, rows) for first, rows in sorted(slices))


def _read_ids(store: Store, file: _File) -> pa.ChunkedArray:
    try:
        opened = open_stored(store, file.key, file.start, file.bytes)
        if opened is not None:
            with opened:
                parquet = pq.ParquetFile(opened, page_checksum_verification=True)
                return parquet.read(columns=["id"], use_threads=False)["id"]
    except MemoryError:  # Arrow's own is one of its exceptions, too, and says nothing of the file
        raise
    except StorageError as error:
        check_there(store, file.key, file.start + (file.bytes or 0), error)
        raise
    except (pa.ArrowException, OSError, KeyError) as error:  # Arrow's own, for bytes that aren't as they were
        check_there(store, file.key, 0, error)
        raise damaged(store, file.key, one_line(error)) from error
    raise Overtaken(f"{store.root}/{file.key} is gone: another run has published what it held")
