"""What a run thinks about before it begins: a hundred thousand files, a million committed units, a manifest as long."""

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.figures.common import PROJECT, make_job
from jobs.figures.resume import done_record
from pipeline.commit.keys import unit_key
from pipeline.commit.manifest import FileSlice, ManifestUnit, decode_manifest, encode_manifest
from pipeline.commit.records import FileRef, PieceRef
from pipeline.config.schema import Config, Units
from pipeline.flow.job import Job, resolve
from pipeline.flow.planning import plan_now
from pipeline.source.records import Span

FILES, UNITS = 100_000, 1_000_000
UNITS_A_FILE = 1000
FILE_UNITS = 8
"""Units in a data file: 16,384 rows of 384 dimensions are 25 MB, and a file aims at 192 MB."""


def measure_files(folder: Path, files: int = FILES) -> dict[str, Any]:
    """Plan a job of so many small JSONL files, none of them encoded yet."""
    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(files):
        (source / f"{number:06}.jsonl").write_text(json.dumps({"id": number, "text": f"text {number}"}) + "\n")
    return _apart("files", folder, Units().rows)


def measure_committed(folder: Path, units: int = UNITS, each: int = UNITS_A_FILE) -> dict[str, Any]:
    """Plan a job all of whose units are committed and none published."""
    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(units // each):
        ids = pa.array(range(number * each, (number + 1) * each))
        pq.write_table(pa.table({"id": ids, "text": ids.cast(pa.string())}), source / f"{number:06}.parquet")
    commit_all(resolve(_job(folder, rows=1)), each)
    return _apart("committed", folder, 1)


def commit_all(job: Job, each: int) -> None:
    """The records that a run with units of one row would leave; written as the local store lays them out."""
    for work in plan_now(job).plan.pending:
        for k in range(each):
            start = work.pieces[0].start + k
            record = done_record(job, work, k, start, start + 1, eof=k == each - 1)
            path = Path(job.store.root, unit_key(record.unit, 0))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record.to_json())


def measure_manifest(folder: Path, units: int = UNITS) -> dict[str, Any]:
    """Write and read the manifest of so many units."""
    folder.mkdir(parents=True, exist_ok=True)
    return _apart("manifest", folder, units)


def _manifest(units: int) -> dict[str, Any]:
    made = [_published(number) for number in range(units)]
    began = time.monotonic()
    data = encode_manifest(made)
    written = time.monotonic()
    del made
    found = decode_manifest(data)
    return {
        "units": len(found),
        "write_s": written - began,
        "read_s": time.monotonic() - written,
        "bytes": len(data),
    }


def _job(folder: Path, rows: int) -> Config:
    # Appending, small files aren't grouped: each is a segment.
    return make_job(folder / "in", folder / "out", units__rows=rows, output__mode="append")


def _published(number: int) -> ManifestUnit:
    """A unit as a snapshot has it: one file of the input, its rows in one data file with seven others."""
    unit = f"{number // UNITS_A_FILE:024x}{number % UNITS_A_FILE:08x}"
    k, uri = number % UNITS_A_FILE, f"s3://corpus/texts/{number // UNITS_A_FILE:06}.parquet"
    version = f"{number // UNITS_A_FILE:032x}"
    rows, of_file = Units().rows, Units().rows * UNITS_A_FILE
    digest = hashlib.sha256(unit.encode()).hexdigest()
    file = FileRef(f"data/{number // FILE_UNITS:032x}.parquet", 190 << 20, rows * FILE_UNITS, digest)
    return ManifestUnit(
        unit=unit,
        generation=0,
        segment=unit[:24],
        k=k,
        eof=k == UNITS_A_FILE - 1,
        pieces=(PieceRef(uri, version, "rows", 0, of_file, True),),
        spans=(Span(uri, version, "rows", k * rows, (k + 1) * rows),),
        rows_in=rows,
        rows_out=rows,
        rows_quarantined=0,
        quarantine="",
        digest=digest,
        device="cuda",
        dtype="float16",
        gate="{}",
        slices=(FileSlice(file, rows * (number % FILE_UNITS), rows),),
    )


def _plan(folder: Path, rows: int) -> dict[str, Any]:
    began = time.monotonic()
    plan = plan_now(resolve(_job(folder, rows))).plan
    return {
        "plan_s": time.monotonic() - began,
        "pending": len(plan.pending),
        "committed": len(plan.committed),
    }


def _apart(what: str, folder: Path, count: int) -> dict[str, Any]:
    """In a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "jobs.scale.planning", what, str(folder), str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print one JSON object."""
    what, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    found = _manifest(count) if what == "manifest" else _plan(folder, count)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({**found, "peak_bytes": int(peak[1]) << 10 if peak else None}))


if __name__ == "__main__":
    main()
