"""What must hold after every operation, judged from the true state of the store and the source.

Shares no code with the program: keys and records are read here in their own way. What a published snapshot must be is
in `snapshots.py`.
"""

from typing import Any

from faults.simulation.disk import Disk, folder_name
from faults.simulation.scheduler import Process
from faults.simulation.snapshots import Publication, Snapshots
from faults.simulation.source import Source
from msgspec.json import decode

ONCE = frozenset({"part", "quarantine", "unit", "attempt", "manifest", "log", "spec", "data"})
"""Folders whose keys never get a second value, not even after they were deleted."""


class TruthJudge:
    """Keeps its own books of every record and says what was wrong."""

    def __init__(self, disk: Disk, source: Source) -> None:
        self.disk, self.source = disk, source
        self.violations: list[str] = []
        self.first_values: dict[str, bytes] = {}
        self.first_seen: dict[tuple[str, int], int] = {}  # (unit, generation) → when its first file or record came
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self.snapshots = Snapshots(disk, source, self.records, self.first_values)
        self.highest: dict[str, int] = {}
        self.attempts: dict[str, int] = {}  # by unit
        self.planned: dict[str, dict[str, Any]] = {}  # unit → what was last planned of it, on the newest version
        self.marked = 0  # since when `_SUCCESS` stands, where it does
        self.made: dict[str, int] = {}  # data file → when it came
        self.given_up: set[tuple[str, int]] = set()  # records that give up what was asked for, rightly
        self.taken: set[tuple[str, int]] = set()  # units whose part something outside took away
        self.lone_ends: set[str] = set()  # notes that an attempt ended, which nobody noted the beginning of
        self.reworked: dict[str, int] = {}  # by unit: records that ask for it to be worked again

    def created(self, key: str, value: bytes, by: Process) -> None:
        """A conditional put is about to be applied."""
        folder = folder_name(key)
        if folder in ("data", "log"):
            self._check_mark_removed(key, by)
        if folder == "data":
            self.made[key] = self.disk.now
        if folder == "assembly":
            self._check_mark_looked_for(decode(value)["file"]["key"], by)
        if folder in ONCE and self.first_values.setdefault(key, value) != value:
            self._wrong(f"{key} was once written with another value", by)
        if folder == "unit":
            self._unit(key, decode(value), by)
        elif folder in ("part", "quarantine", "attempt"):
            unit, generation, _ = _unit_file(key)
            self.first_seen.setdefault((unit, generation), self.disk.now)
            if folder == "attempt":
                self._attempt(key, unit, value)
        elif folder == "log":
            self._wrong_all(self.snapshots.add(Publication(key, decode(value), by.command)), by)
        elif folder not in ("data", "manifest", "assembly", "spec", "probe"):
            self._wrong(f"{key} is no key of the output", by)

    def replaced(self, key: str, value: bytes, by: Process) -> None:
        """An unconditional put is about to be applied."""
        if key != "_SUCCESS":
            if self.disk.get(key) not in (None, value):
                self._wrong(f"{key} is written over", by)
            self.created(key, value, by)
        elif self.snapshots.head is None or decode(value)["version"] > self.snapshots.head.version:
            self._wrong("_SUCCESS names a version that isn't there", by)
        if key == "_SUCCESS" and self.disk.get(key) is None:
            self.marked = self.disk.now

    def deleted(self, key: str, by: Process) -> None:
        """A delete is about to be applied. What it needs stays true once it is true, so it may come at any later time."""
        folder = folder_name(key)
        if folder == "data":
            self._check_mark_removed(key, by)
        if key in self.snapshots.referenced:
            self._wrong(f"{key} is deleted, and a kept snapshot needs it", by)
        elif folder in ("part", "quarantine", "attempt"):
            self._unit_file_deleted(folder, key, by)
        elif folder in ("data", "manifest", "assembly"):
            if not self._is_before_head(folder, key):
                head = self.snapshots.version
                self._wrong(f"{key} is deleted although it may still be published on top of version {head}", by)
        elif folder not in ("probe", "tmp") and key != "_SUCCESS":
            self._wrong(f"{key} is deleted, which no record of this kind ever may be", by)

    def check_success(self) -> None:
        """Called while nothing is under way: the mark promises that a plain glob is exact."""
        head = self.snapshots.head
        mark = self.disk.get("_SUCCESS")
        if mark is None:
            return
        if head is not None and decode(mark)["version"] != head.version:
            self.violations.append(f"_SUCCESS names another version than {head.version}")
        if head is None or set(self.disk.folders["data"]) != set(head.files):
            self.violations.append("_SUCCESS stands, but data/ does not hold just the head's files")

    def waiting(self) -> list[str]:
        """Units of the head that have rows kept aside, are to be worked again for them, and weren't, not even in vain."""
        head = self.snapshots.head
        found = []
        for unit, generation in head.units if head else ():
            asked = False
            for number in range(generation + 1, self.highest[unit] + 1):
                record = self.records.get((unit, number), {"state": "", "reason": ""})
                ended = record["state"] == "failed" or (unit, number) in self.given_up
                asked = not ended and (asked or record["reason"] == "retry")
            if asked and unit in head.wanting:
                found.append(unit)
        return found

    def staged(self) -> list[tuple[str, int]]:
        """Units, and their generation, that are committed with a part, and in no snapshot."""
        return [
            (unit, generation)
            for unit, generation in self.highest.items()
            if (record := self.records[unit, generation])["part"] is not None
            and (unit, generation) not in self.snapshots.published
            and self.disk.get(record["part"]["key"]) is not None
        ]

    def assembled(self) -> list[str]:
        """Data files that were made for the next version."""
        keys = (key for key in self.disk.folders["data"] if key not in self.snapshots.referenced)
        return [key for key in keys if not self._is_before_head("data", key)]

    def leftovers(self, *, abandoned: bool) -> list[str]:
        """Keys that nothing needs. What is staged for a spec that was never published, or made for the next version, may be
        of a run going on elsewhere, until somebody gives it up."""
        units = {
            quarantine for record in self.records.values() if (quarantine := (record["quarantine"] or {}).get("key"))
        }
        found = []
        for key in self.disk.all_keys():
            folder = folder_name(key)
            needed = folder in ("log", "unit", "spec") or key == "_SUCCESS" or key in self.snapshots.referenced
            if folder in ("part", "quarantine", "attempt"):
                needed = needed or (folder == "quarantine" and key in units)
                needed = needed or not (abandoned or self._is_over(_unit_file(key)[0]))
            if folder in ("data", "manifest", "assembly"):
                needed = needed or not (abandoned or self._is_before_head(folder, key))
            if not needed:
                found.append(key)
        return found

    def _is_before_head(self, folder: str, key: str) -> bool:
        """Whether it was made for a version that is there."""
        name = key.split("/")[2] if folder == "assembly" else key.rpartition("/")[2]
        version, head = int(name.partition("-")[0]), self.snapshots.version
        return version < head or (folder == "manifest" and version == head)

    def _check_mark_removed(self, key: str, by: Process) -> None:
        """Who changes data/ or publishes has seen to it that the mark is gone. Others may have set it again since."""
        if self.disk.get("_SUCCESS") is not None and by.command is not None and self.marked < by.command.begun:
            self._wrong(f"{key} changes beside a _SUCCESS that has stood since before this began", by)

    def _check_mark_looked_for(self, file: str, by: Process) -> None:
        """Who commits a data file has looked for the mark after making it: one that was there before it is gone by then."""
        if self.disk.get("_SUCCESS") is not None and self.marked < self.made.get(file, 0):
            self._wrong(f"{file} is committed beside a _SUCCESS that has stood since before it was made", by)

    def _planned(self, unit: str, record: dict[str, Any]) -> None:
        if unit not in self.planned or record["base"] >= self.planned[unit]["base"]:
            self.planned[unit] = record

    def _is_over(self, unit: str) -> bool:
        """Nobody works on it any more: the head has it or was made since; its spec was replaced, or its source moved on."""
        head, planned = self.snapshots.head, self.planned.get(unit)
        if planned is None or head is None:
            return planned is None
        if planned["spec"] != head.spec:
            return self.snapshots.is_replaced(planned["spec"], planned["base"])
        moved = any(
            uri not in self.source.files or self.source.files[uri].version != version
            for uri, version in ((piece["uri"], piece["version"]) for piece in planned["pieces"])
        )
        return moved or planned["base"] < head.version or unit in {name for name, _ in head.units}

    def _attempt(self, key: str, unit: str, value: bytes) -> None:
        if key.endswith(".json"):
            self.attempts[unit] = self.attempts.get(unit, 0) + 1
            self._planned(unit, decode(value))
        elif self.disk.get(key.removesuffix("end") + "json") is None:
            self.lone_ends.add(key)

    def _unit(self, key: str, record: dict[str, Any], by: Process) -> None:
        unit, _, number = key.split("/")[3].removesuffix(".json").partition("-")
        generation = int(number)
        last = self.highest.get(unit, -1)
        if (record["unit"], record["generation"]) != (unit, generation):
            self._wrong(f"{key} is the record of another unit or generation", by)
        if generation > last + 1:
            self._wrong(f"{key} leaves out a generation after {last}", by)
        if record["state"] == "done":
            self._done(key, record, by)
        if record["state"] == "retired":
            self._retired(key, unit, generation, record, by)
        if record["state"] != "done":
            self.reworked[unit] = self.reworked.get(unit, 0) + 1
        self.records[unit, generation] = record
        self._planned(unit, record)
        self.highest[unit] = max(last, generation)
        self.first_seen.setdefault((unit, generation), self.disk.now)

    def _done(self, key: str, record: dict[str, Any], by: Process) -> None:
        if record["rows_in"] != record["rows_out"] + record["rows_quarantined"]:
            self._wrong(f"{key} does not balance", by)
        for file in (record["part"], record["quarantine"]):
            if file is None:
                continue
            value = self.disk.get(file["key"])
            # A late record may name what is gone: then a higher generation rules.
            if (value is None or len(value) != file["bytes"]) and self.highest.get(record["unit"], -1) < record[
                "generation"
            ]:
                self._wrong(f"{key} names {file['key']}, which isn't there", by)

    def _retired(self, key: str, unit: str, generation: int, record: dict[str, Any], by: Process) -> None:
        """A unit may be given up only when nobody will ever want what is staged of it."""
        if record["reason"] == "retry":
            return
        if by.command is not None and by.command.abandon:
            return
        before = self.records.get((unit, generation - 1), {"state": "retired"})
        since = self.first_seen.get((unit, generation - (before["state"] == "done")))
        if since is None:
            since = self.first_seen.get((unit, generation), self.first_seen.get((unit, generation - 1), 0))
        published = (unit, generation - 1) in self.snapshots.published or self._are_published(record)
        moved = any(not self.source.always_current(piece["uri"], piece["version"], since) for piece in record["pieces"])
        if moved:
            self.given_up.add((unit, generation))
        lost = (unit, generation - 1) in self.taken
        if not (published or moved or lost or self.snapshots.is_replaced(record["spec"], record["base"])):
            self._wrong(f"{key} gives up a unit whose source is as it was, and that was never published", by)

    def _are_published(self, record: dict[str, Any]) -> bool:
        """Whether some snapshot since the unit was planned had all rows of these files from other units, or said that it is
        without them."""
        since = self.snapshots.all[record["base"] :]
        return all(
            any(entry.uris.get(piece["uri"]) == piece["version"] or piece["uri"] in entry.failed for entry in since)
            for piece in record["pieces"]
        )

    def _unit_file_deleted(self, folder: str, key: str, by: Process) -> None:
        unit, generation, _ = _unit_file(key)
        record = self.records.get((unit, generation))
        named = {file["key"] for name in ("part", "quarantine") if record is not None and (file := record[name])}
        higher = self.highest.get(unit, -1) > generation
        if folder == "attempt":
            allowed = higher or record is not None or key in self.lone_ends
        elif folder == "part":
            allowed = higher or (record is not None and key not in named)
        else:
            allowed = record is not None and key not in named
        if not allowed:
            self._wrong(f"{key} is deleted although it may still be needed", by)

    def _wrong_all(self, found: list[str], by: Process) -> None:
        for what in found:
            self._wrong(what, by)

    def _wrong(self, what: str, by: Process) -> None:
        self.violations.append(f"{by.name}: {what}")


def _unit_file(key: str) -> tuple[str, int, str]:
    unit, generation, attempt = key.rpartition("/")[2].partition(".")[0].split("-")
    return unit, int(generation), attempt
