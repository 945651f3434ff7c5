"""Source rows counted independently and held against what the snapshot says it read; what lies between is blank."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.check.books import spans_by_uri
from pipeline.check.ledger import Ledger
from pipeline.check.report import Check, Findings, unchecked
from pipeline.check.source_rows import BOM, UNREADABLE, count_rows, is_compressed, kind_of
from pipeline.errors import InputError, SourceChanged
from pipeline.storage.inputs import find, open_input

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """Files that share segments: their rows are only known together."""

    files: tuple[tuple[str, str], ...]  # (uri, version)
    rows: int  # that the snapshot's units took from them
    whole: bool  # whether the snapshot holds all of these files


@dataclass(frozen=True, slots=True)
class Recount:
    """What a source file holds."""

    rows: int
    unread: tuple[str, ...] = ()  # parts outside of every span that are not blank
    reason: str = ""  # why it could not be counted


def check_source(ledger: Ledger, threads: int) -> tuple[Check, ...]:
    """Checks `source versions` (which files are still what was read), and of those `source rows` and `source gaps`."""
    groups = group_files(ledger)
    files = [file for group in groups for file in group.files]
    spans = spans_by_uri(ledger.units)
    whole = {file for group in groups if group.whole for file in group.files}

    def recount(file: tuple[str, str]) -> Recount:
        return _recount(file, ledger.recipe["reader"], spans.get(file[0], []) if file in whole else None)

    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        counts = dict(zip(files, pool.map(recount, files), strict=True))
    changed = [f"{file[0]} ({count.reason})" for file, count in counts.items() if count.reason]
    findings, counted, partial = Findings(), 0, 0
    for group in groups:
        own = [counts[file] for file in group.files]
        if any(count.reason for count in own):
            continue
        found = sum(count.rows for count in own)
        counted += len(own)
        partial += 0 if group.whole else len(own)
        if found < group.rows or (group.whole and found > group.rows):
            findings.add("source rows", f"{_named(group)}: {found} rows in the source, {group.rows} were read")
        for file, count in zip(group.files, own, strict=True):
            for place in count.unread:
                findings.add("source gaps", f"{file[0]}: {place} hold text that no unit read")
    return _versions(len(files), changed), *_rows(findings, counted, partial)


def _versions(files: int, changed: Sequence[str]) -> Check:
    if changed:
        return unchecked("source versions", f"{len(changed)} of {files} files can't be compared any more", changed)
    return Check("source versions", True, f"all {files} source files are still the versions that were read", 0)


def _rows(findings: Findings, counted: int, partial: int) -> tuple[Check, Check]:
    if not counted:
        reason = "no source file is left to count"
        return unchecked("source rows", reason), unchecked("source gaps", reason)
    note = f", {partial} of which the snapshot holds in part" if partial else ""
    rows = findings.check("source rows", f"{counted} files counted again{note}")
    return rows, findings.check("source gaps", "between the lines that were read there are blank ones only")


def group_files(ledger: Ledger) -> list[Group]:
    """Files in groups that no segment reaches across."""
    group_of: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    for unit in ledger.units:
        uris = {piece["uri"] for piece in unit["pieces"]}
        versions.update((piece["uri"], piece["version"]) for piece in unit["pieces"])
        merged = set(uris).union(*(group_of[uri] for uri in uris if uri in group_of))
        for uri in merged:
            group_of[uri] = merged
    rows: dict[int, int] = {}
    for unit in ledger.units:
        key = id(group_of[unit["pieces"][0]["uri"]])
        rows[key] = rows.get(key, 0) + unit["rows_in"]
    unlimited, failed = ledger.entry["limit"] is None, ledger.entry["failed"]
    unique = {id(group): group for group in group_of.values()}
    return [
        Group(tuple((uri, versions[uri]) for uri in sorted(group)), rows[key], unlimited and group.isdisjoint(failed))
        for key, group in unique.items()
    ]


def _recount(file: tuple[str, str], reader: Mapping[str, Any], spans: Sequence[Mapping[str, Any]] | None) -> Recount:
    """Count a file version, and look between its spans (None: it is not all there, so gaps mean nothing)."""
    uri, version = file
    kind = kind_of(uri, reader["format"])
    if kind is None:
        return Recount(0, reason="its name doesn't say its format")
    try:
        found = find(uri)
        if found is None:
            return Recount(0, reason="gone")
        with open_input(uri, found.version) as opened:
            if found.version != version:  # it can be read, so it isn't its rights alone that have changed
                return Recount(0, reason="changed")
            rows = count_rows(opened, kind, reader["csv_delimiter"], 4 * reader["max_text_bytes"])
        if spans is None:
            return Recount(rows)
        with open_input(uri, version) as opened:  # anew: some of the readers have closed it
            return Recount(rows, tuple(_unread(opened, kind, found.size, spans)))
    except SourceChanged:
        return Recount(0, reason="changed while being counted")
    except (InputError, *UNREADABLE) as error:
        return Recount(0, reason=f"can't be read: {error}")


def _unread(file: BinaryIO, kind: str, size: int, spans: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Bytes of an uncompressed line file between and around its spans, where they are more than blank lines."""
    if kind not in ("jsonl", "text") or is_compressed(file) or any(span["measure"] != "bytes" for span in spans):
        return
    end = 0
    for start, stop in (*((span["start"], span["stop"]) for span in spans), (size, size)):
        for at in range(end, start, CHUNK_BYTES):
            file.seek(at)
            gap = file.read(min(CHUNK_BYTES, start - at)).removeprefix(BOM if at == 0 else b"")
            if gap.strip() or (kind == "text" and gap):
                yield f"bytes {end} to {start}"
                break
        end = max(end, stop)


def _named(group: Group) -> str:
    return _short([uri for uri, _ in group.files])


def _short(uris: Iterable[str]) -> str:
    first, *rest = uris
    return first + (f" and {len(rest)} more" if rest else "")
