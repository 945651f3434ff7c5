"""Reading a folder as a run does: discover, look at columns, footers, segments, units; with the memory it took. And once
more with units so small that each file comes in pieces, as one of gigabytes does: their readers never see each other."""

import gc
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from faults.corpus.case import Read, Row

from pipeline.config.schema import Input
from pipeline.config.schema import Rows as RowSettings
from pipeline.errors import InputError
from pipeline.source.discover import discover
from pipeline.source.footers import read_footers
from pipeline.source.read import read_segment
from pipeline.source.records import Extraction, InputFile, Segment, UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.segments import cut_segments

POLICY = UnitPolicy(16_384, 32 << 20, 64 << 20)
"""The defaults: what is bounded here is bounded in a job."""

PARTS = 5
"""Small units hold such a part of a file."""

SHOWN_ROWS, SHOWN_BYTES = 1000, 1 << 20
"""What is kept of a file to be compared; beyond it rows are counted by their kinds."""


def read_folder(folder: Path, options: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Read]:
    """What became of each file below a folder, by URI. A refusal of the whole folder stands under ""."""
    source = Input(**{"paths": (str(folder),), "text": "text", "id": "id", **options})
    try:
        files = discover(source)
        extraction = inspect(files, source, RowSettings(**rows), ())
    except InputError as error:
        return {"": Read(refusals=(error.message,))}
    return {file.uri: _read_file(file, extraction) for file in files}


def _read_file(file: InputFile, extraction: Extraction) -> Read:
    footers, small = read_footers([file]), replace(POLICY, text_bytes=max(1, file.size // PARTS))
    whole, cut = (cut_segments([file], footers, policy) for policy in (POLICY, small))
    found = _read_segments(whole, extraction, POLICY)
    return replace(found, cut=_read_segments(cut, extraction, small)) if len(cut) > len(whole) else found


def _read_segments(segments: Sequence[Segment], extraction: Extraction, policy: UnitPolicy) -> Read:
    """One that is refused keeps none of the others from being published."""
    reads = [_read_segment(segment, extraction, policy) for segment in segments]
    return Read(
        [row for read in reads for row in read.rows],
        sum((Counter(read.counts) for read in reads), Counter()),
        [message for read in reads for message in read.refusals],
    )


def _read_segment(segment: Segment, extraction: Extraction, policy: UnitPolicy) -> Read:
    found: list[Row] = []
    kinds: Counter[str] = Counter()
    try:
        for unit in read_segment(segment, extraction, policy, policy.rows):
            kinds.update(kind or "" for kind in unit.rows["kind"].to_pylist())
            shown = unit.rows.select(["id", "text"]).nbytes
            if len(found) + unit.rows.num_rows <= SHOWN_ROWS and shown <= SHOWN_BYTES:
                found.extend(zip(*(unit.rows[name].to_pylist() for name in ("id", "text", "kind")), strict=True))
    except InputError as error:
        return Read(refusals=(error.message,))
    return Read(found, kinds)


class Peak:
    """How far this process's resident memory rises, in MiB, between its making and `grown`."""

    def __init__(self) -> None:
        gc.collect()
        pa.default_memory_pool().release_unused()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before = _status("VmRSS")

    def grown(self) -> float:
        """MiB so far."""
        return (_status("VmHWM") - self._before) / 1024


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
