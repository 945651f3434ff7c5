"""What may be there when nothing is under way and all has been collected, by docs/design.md: everything else is left over."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
from faults import oracle

FOR_GOOD = re.compile(r"_embedpipe/(log/\d{20}|spec/[0-9a-f]+|unit/[0-9a-f]{2}/[0-9a-f]{32}-\d+)\.json")


def leftovers(output: oracle.Reader) -> list[str]:
    """Keys that nothing refers to, with one snapshot kept.

    The log, the specs and the records of units are kept for good, and with a unit's record the rows it says were set aside.
    Of everything else the head must name it: its manifest and its data files. Parts were published, so their rows lie in
    data files; notes of attempts are superseded by the units' records; records of assemblies, and what probes and writers
    put down on the way, have served.
    """
    entry = oracle.newest(output)
    assert entry is not None
    named = {entry["manifest"]["key"], "_SUCCESS", *data_files(output, entry)}
    keys = output.keys()
    return [key for key in keys if key not in named and not FOR_GOOD.fullmatch(key) and not _is_aside(output, key)]


def manifest_units(output: oracle.Reader, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The units of an entry's manifest. Raises Overtaken when it is gone."""
    manifest = output.read(entry["manifest"]["key"])
    if manifest is None:
        raise oracle.Overtaken(entry["manifest"]["key"])
    assert hashlib.sha256(manifest).hexdigest() == entry["manifest"]["sha256"]
    return list(pq.ParquetFile(io.BytesIO(manifest)).read(use_threads=False).to_pylist())


def data_files(output: oracle.Reader, entry: Mapping[str, Any]) -> set[str]:
    """The data files that an entry's manifest names."""
    return {part["file"] for unit in manifest_units(output, entry) for part in unit["slices"]}


def _is_aside(output: oracle.Reader, key: str) -> bool:
    """Whether it is a quarantine file that the record of its own unit and generation names."""
    if not key.startswith("_embedpipe/quarantine/"):
        return False
    folder, name = key.removeprefix("_embedpipe/quarantine/").split("/")
    unit, generation, _ = name.split("-")
    record = json.loads(output.read(f"_embedpipe/unit/{folder}/{unit}-{generation}.json") or b"{}")
    return (record.get("quarantine") or {}).get("key") == key
