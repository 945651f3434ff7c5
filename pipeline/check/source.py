"""Source rows counted independently and held against what the snapshot says it read."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.check.ledger import Ledger
from pipeline.check.report import Check, Findings, unchecked
from pipeline.check.source_rows import count_rows, kind_of
from pipeline.errors import InputError, SourceChanged
from pipeline.storage.inputs import find, open_input


@dataclass(frozen=True, slots=True)
class Group:
    """Files that share segments: their rows are only known together."""

    files: tuple[tuple[str, str], ...]  # (uri, version)
    rows: int  # that the snapshot's units took from them
    whole: bool  # whether the snapshot holds all of these files


def check_source(ledger: Ledger, threads: int) -> tuple[Check, ...]:
    """Checks `source versions` (which files are still what was read) and `source rows` (of those that are)."""
    groups = group_files(ledger)
    uris = [file for group in groups for file in group.files]
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        counts = dict(zip(uris, pool.map(lambda file: _count(file, ledger.recipe["reader"]), uris), strict=True))
    findings, counted, partial, changed = Findings(), 0, 0, []
    for group in groups:
        gone = [f"{uri} ({reason})" for uri, version in group.files if isinstance(reason := counts[uri, version], str)]
        changed.extend(gone)
        if gone:
            continue
        found = sum(count for file in group.files if isinstance(count := counts[file], int))
        counted += len(group.files)
        partial += 0 if group.whole else len(group.files)
        if found < group.rows or (group.whole and found > group.rows):
            findings.add("source rows", f"{_named(group)}: {found} rows in the source, {group.rows} were read")
    return _versions(len(uris), changed), _rows(findings, counted, partial)


def _versions(files: int, changed: Sequence[str]) -> Check:
    if changed:
        return unchecked("source versions", f"{len(changed)} of {files} files can't be compared any more", changed)
    return Check("source versions", True, f"all {files} source files are still the versions that were read", 0)


def _rows(findings: Findings, counted: int, partial: int) -> Check:
    if not counted:
        return unchecked("source rows", "no source file is left to count")
    note = f", {partial} of which the snapshot holds in part" if partial else ""
    return findings.check("source rows", f"{counted} files counted again{note}")


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
    whole = ledger.entry["limit"] is None and not ledger.entry["failed"]
    unique = {id(group): group for group in group_of.values()}
    return [
        Group(tuple((uri, versions[uri]) for uri in sorted(group)), rows[key], whole) for key, group in unique.items()
    ]


def _count(file: tuple[str, str], reader: Mapping[str, Any]) -> int | str:
    """Rows of a file version, or why they can't be counted."""
    uri, version = file
    kind = kind_of(uri, reader["format"])
    if kind is None:
        return "its name doesn't say its format"
    found = find(uri)
    if found is None:
        return "gone"
    if found.version != version:
        return "changed"
    try:
        with open_input(uri, version) as opened:
            return count_rows(opened, kind, reader["csv_delimiter"])
    except SourceChanged:
        return "changed while being counted"
    except (InputError, pa.ArrowException, OSError, EOFError) as error:
        return f"can't be read: {error}"


def _named(group: Group) -> str:
    return _short([uri for uri, _ in group.files])


def _short(uris: Iterable[str]) -> str:
    first, *rest = uris
    return first + (f" and {len(rest)} more" if rest else "")
