"""What a snapshot must be at the moment it is published: complete files, each row once, nothing lost, nothing brought back."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from faults.simulation.disk import Disk
from faults.simulation.source import Source, all_rows
from faults.simulation.stand_ins import rows_of
from msgspec.json import decode


@dataclass(frozen=True)
class Publication:
    """A log entry about to stand."""

    key: str
    entry: dict[str, Any]
    command: Any  # the run or collection that asked for it


@dataclass(frozen=True)
class Published:
    """A snapshot as the judge understands it."""

    version: int
    oldest: int
    spec: str
    manifest: str
    files: dict[str, tuple[int, str]]  # size and hash
    uris: dict[str, str]  # version of each file it claims
    units: frozenset[tuple[str, int]]
    wanting: frozenset[str]  # units of which rows were kept aside
    embedded: Counter[str]  # rows
    aside: Counter[str]
    failed: frozenset[str]
    since: int  # when it was published
    command: Any  # the run or collection that published it


class Snapshots:
    """The log, entry by entry."""

    def __init__(
        self,
        disk: Disk,
        source: Source,
        records: Mapping[tuple[str, int], dict[str, Any]],
        values: Mapping[str, bytes],
    ) -> None:
        self.disk, self.source = disk, source
        self.records, self.values = records, values  # of units, and what was ever written under a key
        self.all: list[Published] = []
        self.published: set[tuple[str, int]] = set()  # (unit, generation) that some snapshot had
        self.referenced: set[str] = set()

    @property
    def head(self) -> Published | None:
        """The newest."""
        return self.all[-1] if self.all else None

    @property
    def version(self) -> int:
        """Of the newest; 0 when there is none."""
        return len(self.all)

    def is_replaced(self, spec: str, base: int) -> bool:
        """Whether a snapshot had this spec since the version `base`, and the head hasn't."""
        since = [old for old in self.all if old.version >= base]
        return self.head is not None and self.head.spec != spec and any(old.spec == spec for old in since)

    def add(self, new: Publication) -> list[str]:
        """Take a snapshot in; what is wrong with it."""
        wrong: list[str] = []
        published = self._read(new, wrong)
        if published is None:
            return wrong
        if new.key != f"_embedpipe/log/{self.version + 1:020d}.json" or published.version != self.version + 1:
            return [f"{new.key} does not follow version {self.version}"]
        if new.entry["base"] != self.version:
            wrong.append(f"version {published.version} says it is made from {new.entry['base']}")
        wrong += self._check_rows(published, new.entry)
        wrong += self._check_share(published, new.entry, new.command)
        wrong += self._check_succession(published, new.command)
        wrong += _check_wish(published, self.head, new.command)
        if new.command is not None:
            new.command.bare = self.head is not None and published.files.keys() <= self.head.files.keys()
        self.all.append(published)
        self.published |= published.units
        kept = self.all[published.oldest - 1 :]
        for entry in kept:
            wrong += [f"{key} of kept version {entry.version} is gone or damaged" for key in self._damaged(entry)]
        self.referenced = {key for entry in kept for key in (*entry.files, entry.manifest)}
        return wrong

    def _read(self, new: Publication, wrong: list[str]) -> Published | None:
        entry = new.entry
        manifest = self.disk.get(entry["manifest"]["key"])
        if manifest is None or hashlib.sha256(manifest).hexdigest() != entry["manifest"]["sha256"]:
            wrong.append(f"the manifest of version {entry['version']} is gone or damaged")
            return None
        units = decode(manifest)
        files = {key: (size, digest) for unit in units for key, size, digest, _, _ in unit["slices"]}
        contents = {key: self._rows(key) for key in files}
        uris: dict[str, str] = {}
        embedded: Counter[str] = Counter()
        aside: Counter[str] = Counter()
        for unit in units:
            for uri, version in unit["pieces"]:
                if uris.setdefault(uri, version) != version:
                    wrong.append(f"version {entry['version']} has {uri} in two versions")
            found = [row for key, _, _, first, rows in unit["slices"] for row in contents[key][first : first + rows]]
            wrong += [f"version {entry['version']}: {what}" for what in self._check_unit(unit, entry["spec"], found)]
            embedded.update(row.partition("!")[0] for row in found)
            if unit["quarantine"]:
                aside.update(self._rows(unit["quarantine"]))
        if embedded.total() != sum(map(len, contents.values())):
            wrong.append(f"version {entry['version']} claims other rows than its files hold")
        return Published(
            version=entry["version"],
            oldest=entry["oldest"],
            spec=entry["spec"],
            manifest=entry["manifest"]["key"],
            files=files,
            uris=uris,
            units=frozenset((unit["unit"], unit["generation"]) for unit in units),
            wanting=frozenset(unit["unit"] for unit in units if unit["quarantine"]),
            embedded=embedded,
            aside=aside,
            failed=frozenset(entry["failed"]),
            since=self.disk.now + 1,
            command=new.command,
        )

    def _rows(self, key: str) -> list[str]:
        return rows_of(self.disk.get(key) or b"")

    def _check_unit(self, unit: dict[str, Any], spec: str, found: list[str]) -> Iterator[str]:
        """Just the rows of the attempt that was committed, vectors included."""
        record = self.records.get((unit["unit"], unit["generation"]))
        if record is None or record["state"] != "done":
            yield f"unit {unit['unit']} was never committed"
            return
        if record["spec"] != spec:
            yield f"unit {unit['unit']} is of another spec"
        part = self.values.get(record["part"]["key"], b"") if record["part"] else b""
        if sorted(found) != sorted(rows_of(part)):
            yield f"unit {unit['unit']} has other rows than were committed"

    def _check_rows(self, new: Published, entry: dict[str, Any]) -> list[str]:
        """Each row of each file it claims, once, embedded or kept aside."""
        wrong = []
        expected = Counter(row for uri, version in new.uris.items() for row in all_rows(uri, version))
        found = new.embedded + new.aside
        for row in sorted(found.keys() | expected.keys()) if found != expected else ():
            missing = found[row] < expected[row] and row.partition("@")[0] not in new.failed
            if missing or found[row] > expected[row]:
                wrong.append(f"version {new.version} has {row} {found[row]} times, not {expected[row]}")
        if entry["rows_in"] != entry["rows"] + entry["rows_quarantined"] or entry["rows"] != new.embedded.total():
            wrong.append(f"version {new.version} does not balance")
        return wrong

    def _check_share(self, new: Published, entry: dict[str, Any], command: Any) -> list[str]:
        """No more is missing than the user allows, but for what was missing before."""
        if command is None or command.kind != "run":
            return []
        wrong = []
        if new.aside.total() > command.share * entry["rows_in"]:
            wrong.append(f"version {new.version} sets {new.aside.total()} of {entry['rows_in']} rows aside")
        before = self.head.failed if self.head else frozenset()
        if command.share == 0 and new.failed - before:
            wrong.append(f"version {new.version} is without a file, and none may be missing")
        return wrong

    def _check_succession(self, new: Published, command: Any) -> list[str]:
        """Against the snapshot before it, and against what the source was since then."""
        wrong: list[str] = []
        base = self.head
        since = base.since if base else 0
        if base and (new.units, new.spec) == (base.units, base.spec):
            forgotten = [
                f"version {new.version} forgets that it is without {uri}"
                for uri in base.failed - new.failed
                if self.source.was_there(uri, since)  # else it owes nobody anything
            ]
            return wrong + forgotten + _check_need(new, base, command)
        was = base.uris if base and base.spec == new.spec else {}
        for uri, version in new.uris.items():
            if was.get(uri) != version and not self.source.was_current(uri, version, since):
                wrong.append(
                    f"version {new.version} has {uri}@{version}, which was not there since version {new.version - 1}"
                )
        for uri, version in was.items():
            if (
                new.uris.get(uri) != version
                and uri not in new.failed
                and self.source.always_current(uri, version, since)
            ):
                wrong.append(f"version {new.version} has lost {uri}@{version}, which is still there")
            if command is not None and command.append and uri not in new.uris and uri not in new.failed:
                wrong.append(f"version {new.version} has dropped {uri} in append mode")
        for uri, file in self.source.files.items():
            missing = new.uris.get(uri) != file.version and uri not in new.failed
            if missing and self.source.always_current(uri, file.version, since):
                wrong.append(f"version {new.version} is without {uri}@{file.version}")
        if base and command is not None and not command.allow_drop:
            before, after = base.embedded.total(), new.embedded.total()
            if before - after > before * 0.1:
                wrong.append(f"version {new.version} has {after} rows of {before}, without leave to drop")
        return wrong

    def _damaged(self, entry: Published) -> list[str]:
        found = [
            key
            for key, (size, digest) in entry.files.items()
            if (value := self.disk.get(key)) is None
            or len(value) != size
            or hashlib.sha256(value).hexdigest() != digest
        ]
        return found + ([entry.manifest] if self.disk.get(entry.manifest) is None else [])


def _check_wish(new: Published, base: Published | None, command: Any) -> list[str]:
    """Its spec, and how many versions are kept, is what the run asked for; a collection leaves both as they are."""
    wrong = []
    if command is None or (base is None and command.kind != "run"):
        return []
    spec, retain = (command.spec_id, command.retain) if command.kind == "run" else _as_it_is(base)
    oldest = max(base.oldest if base else 1, new.version - retain + 1)
    if new.spec != spec:
        wrong.append(f"version {new.version} is of another spec than was asked for")
    if base and new.spec != base.spec and not command.replace:
        wrong.append(f"version {new.version} is of another spec, and nobody asked for a replacement")
    if new.oldest != oldest:
        wrong.append(f"version {new.version} keeps versions from {new.oldest} on, not from {oldest}")
    return wrong


def _as_it_is(head: Published | None) -> tuple[str, int]:
    assert head is not None
    return head.spec, head.version - head.oldest + 1


def _check_need(new: Published, base: Published, command: Any) -> list[str]:
    """The same once more overtakes whoever is about to publish: only for a reason."""
    keeps_fewer = new.version - new.oldest < base.version - base.oldest
    if command is None or command.abandon or keeps_fewer or new.failed != base.failed:
        return []
    return [f"version {new.version} is version {base.version} once more, for nothing"]
