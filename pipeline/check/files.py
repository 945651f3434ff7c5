"""Reading every data file once: bytes, footer, pages, columns, rows."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.check.columns import check_folder, check_footer, check_schema
from pipeline.check.ids import IdCounter
from pipeline.check.ledger import UNREADABLE, FileFacts, Ledger
from pipeline.check.report import Findings
from pipeline.check.rows import RowRules, SliceDigest, as_matrix, check_rows
from pipeline.errors import StorageError
from pipeline.storage.faults import translate
from pipeline.storage.store import Store

CHUNK_BYTES = 8 << 20
NEEDED = ("id", "embedding", "token_count", "truncated", "text_hash")


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A published row to be made again from its source."""

    unit: int  # index into `Ledger.units`
    place: str  # data file and row
    id: int | str
    text_hash: str
    vector: npt.NDArray[np.float32]  # [dimensions]


@dataclass(frozen=True, slots=True)
class FileResult:
    """What one file gave."""

    findings: Findings
    rows: int  # rows read
    digests: int  # units whose pairing of ids and texts was checked
    sampled: tuple[SampledRow, ...]


def check_files(
    store: Store, ledger: Ledger, rules: RowRules, picks: dict[str, list[int]], ids: IdCounter, threads: int
) -> Iterator[FileResult]:
    """Check the data files, `threads` at a time. `picks`: rows wanted as samples, by key.

    Memory: one row group a thread. A store on the network is read once, each file through a temporary copy on disk.
    """
    reader = _Reader(store, ledger, rules, picks, ids)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        yield from pool.map(reader.check, ledger.files.values())


@dataclass(frozen=True, slots=True)
class _Reader:
    store: Store
    ledger: Ledger
    rules: RowRules
    picks: dict[str, list[int]]
    ids: IdCounter

    def check(self, facts: FileFacts) -> FileResult:
        findings = Findings()
        check_folder(facts.key, self.ledger, findings)
        size = self.store.size(facts.key)
        if size is None:
            findings.add("files present", f"{facts.key} is not there")
            return FileResult(findings, 0, 0, ())
        if size != facts.bytes:
            findings.add("file sizes", f"{facts.key} has {size} bytes, the manifest says {facts.bytes}")
        try:
            return self._read(facts, size, findings)
        except (OSError, StorageError) as error:
            if self.store.size(facts.key) is None:
                findings.add("files present", f"{facts.key} went away while it was read")
            elif isinstance(error, IsADirectoryError):
                findings.add("files present", f"{facts.key} is a folder, where a file is due")
            elif isinstance(error, OSError):
                raise translate(error, "reading", f"{self.store.root}/{facts.key}") from error
            else:
                raise
            return FileResult(findings, 0, 0, ())

    def _read(self, facts: FileFacts, size: int, findings: Findings) -> FileResult:
        with _whole(self.store, facts.key, size) as (sha256, file):
            if sha256 != facts.sha256:
                findings.add("sha256", f"{facts.key} has sha256 {sha256}, the manifest says {facts.sha256}")
            try:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                usable = self._footer(facts, parquet, findings)
            except UNREADABLE as error:
                findings.add("footers", f"{facts.key} is not a readable Parquet file: {error}")
                return FileResult(findings, 0, 0, ())
            return self._content(facts, parquet, usable, findings)

    def _footer(self, facts: FileFacts, parquet: pq.ParquetFile, findings: Findings) -> bool:
        """Check what the file says of itself; whether its columns are those that are due."""
        if parquet.metadata.num_rows != facts.rows:
            found = parquet.metadata.num_rows
            findings.add("footers", f"{facts.key} says {found} rows, the manifest says {facts.rows}")
        check_footer(parquet.schema_arrow, self.ledger, facts.key, findings)
        return check_schema(parquet.schema_arrow, self.ledger, facts.key, findings)

    def _content(self, facts: FileFacts, parquet: pq.ParquetFile, usable: bool, findings: Findings) -> FileResult:
        pairing = _Pairing(self.ledger, facts.key)
        sampled: list[SampledRow] = []
        first = 0
        for group in range(parquet.metadata.num_row_groups):
            place = f"{facts.key}, row group {group}"
            try:
                table = parquet.read_row_group(group)
                table.validate(full=True)
            except UNREADABLE as error:
                findings.add("pages", f"{place}: {error}")
                return FileResult(findings, first, 0, ())
            if usable:
                check_rows(table, self.rules, place, findings)
                self.ids.add(table["id"])
                pairing.update(table, first)
                sampled.extend(self._sample(facts.key, table, first))
            first += table.num_rows
        if first != facts.rows:
            findings.add("rows", f"{facts.key} holds {first} rows, the manifest says {facts.rows}")
        checked = pairing.finish(findings) if usable else 0
        return FileResult(findings, first, checked, tuple(sampled))

    def _sample(self, key: str, table: pa.Table, first: int) -> Iterator[SampledRow]:
        for row in self.picks.get(key, ()):
            if not first <= row < first + table.num_rows:
                continue
            unit = next((part.unit for part in self.ledger.slices[key] if row < part.first_row + part.rows), None)
            one = table.slice(row - first, 1)
            dimensions = len(one["embedding"][0]) if one["embedding"][0].is_valid else 0
            if unit is None or dimensions != self.rules.dimensions:
                continue  # told by the checks `slices` and `dimensions`
            vector = as_matrix(one["embedding"], dimensions)[0]
            yield SampledRow(unit, f"{key}, row {row}", one["id"][0].as_py(), one["text_hash"][0].as_py(), vector)


class _Pairing:
    """Check `pairing`: the ids and text hashes of a unit's rows, in order, are those its commit vouches for.

    Only for units that lie in one piece: across partition folders the order in which they were read is lost.
    """

    def __init__(self, ledger: Ledger, key: str) -> None:
        self.ledger = ledger
        self.slices = [part for part in ledger.slices[key] if len(ledger.units[part.unit]["slices"]) == 1]
        self.digests = [SliceDigest() for _ in self.slices]

    def update(self, table: pa.Table, first: int) -> None:
        """Take in the rows from `first` on."""
        for part, digest in zip(self.slices, self.digests, strict=True):
            start = max(part.first_row, first)
            stop = min(part.first_row + part.rows, first + table.num_rows)
            if start < stop:
                digest.update(table.slice(start - first, stop - start))

    def finish(self, findings: Findings) -> int:
        """Compare; the number of units compared."""
        for part, digest in zip(self.slices, self.digests, strict=True):
            unit = self.ledger.units[part.unit]
            if digest.hexdigest() != unit["digest"]:
                uri = unit["pieces"][0]["uri"]
                findings.add("pairing", f"unit {unit['unit']} of {uri}: ids or texts are not those that were read")
        return len(self.slices)


@contextmanager
def _whole(store: Store, key: str, size: int) -> Iterator[tuple[str, BinaryIO]]:
    """A file's sha256 and its content, from local disk: the bytes that are hashed are those that are parsed."""
    if "://" not in store.root:
        with Path(store.root, key).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            yield sha256, file
        return
    with tempfile.TemporaryFile(prefix="embedpipe-verify-") as copy:
        hasher = hashlib.sha256()
        for start in range(0, size, CHUNK_BYTES):
            chunk = store.get_range(key, start, min(CHUNK_BYTES, size - start))
            hasher.update(chunk)
            copy.write(chunk)
        copy.seek(0)
        yield hasher.hexdigest(), copy


def spread_picks(files: Sequence[FileFacts], rows: Sequence[int]) -> dict[str, list[int]]:
    """Row numbers of the whole snapshot → row numbers within files, by key."""
    picks: dict[str, list[int]] = {}
    ordered = sorted(rows)
    first = at = 0
    for file in files:
        while at < len(ordered) and ordered[at] < first + file.rows:
            picks.setdefault(file.key, []).append(ordered[at] - first)
            at += 1
        first += file.rows
    return picks
