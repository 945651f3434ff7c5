"""Where everything lies below an output root. Nothing else in the program spells a key of the output.

data/<partition=value>/<base>-<assembly>-<k>-<attempt>.parquet   the table
_SUCCESS                                                        there only while a plain glob of data/ is exact
_embedpipe/spec/<spec>.json
_embedpipe/part/<hh>/<unit>-<g>-<attempt>.parquet               staged rows of one unit, generation g
_embedpipe/quarantine/<hh>/<unit>-<g>-<attempt>.parquet
_embedpipe/unit/<hh>/<unit>-<g>.json                            COMMIT of a unit
_embedpipe/attempt/<hh>/<unit>-<g>-<attempt>.json (+ .end)
_embedpipe/assembly/<base>-<id>/<k>.json                        COMMIT of a data file
_embedpipe/manifest/<version>-<sha256>.parquet
_embedpipe/log/<%020d>.json                                     COMMIT of a snapshot
_embedpipe/probe/…                                              left by a check of the store that was killed
"""

import re
from dataclasses import dataclass

from pipeline.storage import probe

DATA = "data/"
SUCCESS = "_SUCCESS"
META = "_embedpipe/"
PART = META + "part/"
QUARANTINE = META + "quarantine/"
UNIT = META + "unit/"
ATTEMPT = META + "attempt/"
ASSEMBLY = META + "assembly/"
MANIFEST = META + "manifest/"
LOG = META + "log/"
SPEC = META + "spec/"
PROBE = probe.FOLDER


def spec_key(spec: str) -> str:
    """Key of a spec's document."""
    return f"{SPEC}{spec}.json"


def part_key(unit: str, generation: int, attempt: str) -> str:
    """Key of a unit's staged rows; never used twice, since `attempt` is not."""
    return f"{PART}{unit[:2]}/{unit}-{generation}-{attempt}.parquet"


def quarantine_key(unit: str, generation: int, attempt: str) -> str:
    """Key of a unit's rejected rows."""
    return f"{QUARANTINE}{unit[:2]}/{unit}-{generation}-{attempt}.parquet"


def unit_key(unit: str, generation: int) -> str:
    """Key of the commit record of a unit's generation."""
    return f"{UNIT}{unit[:2]}/{unit}-{generation}.json"


def attempt_key(unit: str, generation: int, attempt: str) -> str:
    """Key of the note that an attempt began."""
    return f"{ATTEMPT}{unit[:2]}/{unit}-{generation}-{attempt}.json"


def attempt_end_key(unit: str, generation: int, attempt: str) -> str:
    """Key of the note that an attempt ended in an orderly way without a commit."""
    return f"{ATTEMPT}{unit[:2]}/{unit}-{generation}-{attempt}.end"


def assembly_prefix(base: int, assembly: str) -> str:
    """Folder of an assembly's records."""
    return f"{ASSEMBLY}{base}-{assembly}/"


def assembly_key(base: int, assembly: str, k: int) -> str:
    """Key of the commit record of an assembly's k-th data file."""
    return f"{assembly_prefix(base, assembly)}{k}.json"


def data_key(folder: str, base: int, assembly: str, k: int, attempt: str) -> str:
    """Key of a data file; `folder` is "" or ends with "/"."""
    return f"{DATA}{folder}{base}-{assembly}-{k}-{attempt}.parquet"


def manifest_key(version: int, sha256: str) -> str:
    """Key of a snapshot's manifest."""
    return f"{MANIFEST}{version}-{sha256}.parquet"


def log_key(version: int) -> str:
    """Key of a log entry; sorts by version."""
    return f"{LOG}{version:020d}.json"


@dataclass(frozen=True, slots=True)
class UnitFile:
    """What the name of a part, quarantine or attempt file says."""

    key: str
    unit: str
    generation: int
    attempt: str


_ID = r"[0-9a-f]{32}"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_UNIT_NAME = rf"(?P<folder>[0-9a-f]{{2}})/(?P<unit>(?P=folder)[0-9a-f]{{30}})-(?P<generation>{_NUMBER})"
_UNIT_FILE = re.compile(rf"({PART}|{QUARANTINE}|{ATTEMPT}){_UNIT_NAME}-(?P<attempt>{_ID})\.(parquet|json|end)")
_UNIT = re.compile(rf"{UNIT}{_UNIT_NAME}\.json")
_DATA = re.compile(rf"{DATA}([^/]+=[^/]*/)*(?P<number>{_NUMBER})-{_ID}-{_NUMBER}-{_ID}\.parquet")
_ASSEMBLY = re.compile(rf"{ASSEMBLY}(?P<number>{_NUMBER})-{_ID}/{_NUMBER}\.json")
_MANIFEST = re.compile(rf"{MANIFEST}(?P<number>{_NUMBER})-[0-9a-f]{{64}}\.parquet")
_LOG = re.compile(rf"{LOG}(?P<number>[0-9]{{20}})\.json")
"""Whole keys, spelled as they are made above: a copy that somebody laid beside a record under a name of his own is foreign."""


def parse_unit_file(key: str) -> UnitFile | None:
    """Read the name of a part, quarantine or attempt file; None for a foreign name."""
    match = _UNIT_FILE.fullmatch(key)
    if match is None:
        return None
    return UnitFile(key, match["unit"], int(match["generation"]), match["attempt"])


def parse_unit(key: str) -> tuple[str, int] | None:
    """(unit, generation) of a unit record's key; None for a foreign name."""
    match = _UNIT.fullmatch(key)
    return (match["unit"], int(match["generation"])) if match else None


def parse_data_base(key: str) -> int | None:
    """The base of a data file; None for a foreign name."""
    return _number(_DATA, key)


def parse_assembly_base(key: str) -> int | None:
    """The base of an assembly's record; None for a foreign name."""
    return _number(_ASSEMBLY, key)


def parse_manifest_version(key: str) -> int | None:
    """The version that a manifest was made for; None for a foreign name."""
    return _number(_MANIFEST, key)


def parse_log_version(key: str) -> int | None:
    """The version of a log entry; None for a foreign name."""
    return _number(_LOG, key)


def _number(name: re.Pattern[str], key: str) -> int | None:
    match = name.fullmatch(key)
    return int(match["number"]) if match else None
