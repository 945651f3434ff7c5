"""Memory is flat whatever the size of the file: measured in a process of its own."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BOUND_MIB = 200
"""About two units (32 MiB of text each), a batch on its way, and what allocators keep: 95 to 145 MiB are seen, 300 and
more where a file is taken in whole."""

CHILD = """
import json, sys
from pathlib import Path
from pipeline.config.schema import Input, Rows
from pipeline.source.discover import discover
from pipeline.source.footers import read_footers
from pipeline.source.read import read_segment
from pipeline.source.records import UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.segments import cut_segments

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

def read(path):
    policy = UnitPolicy(16384, 32 << 20, 64 << 20)
    source = Input(paths=(path,), text="text", id="id")
    files = discover(source)
    extraction = inspect(files, source, Rows(), ())
    segments = cut_segments(files, read_footers(files), policy)
    return [unit.rows.num_rows for segment in segments for unit in read_segment(segment, extraction, policy, 16384)]

read(sys.argv[1])
before = peak()
units = read(sys.argv[2])
print(json.dumps({"rows": sum(units), "units": len(units), "grown": peak() - before}))
"""

ROWS, TEXT = 100_000, "two kilobytes of text, more or less, as articles have " * 38


def write_jsonl(path: Path, rows: int) -> None:
    lines = (json.dumps({"id": "00001", "text": TEXT}).encode() + b"\n") * 1000
    member = gzip.compress(lines, 1) if path.suffix == ".gz" else lines
    with path.open("wb") as file:
        for _ in range(rows // 1000):
            file.write(member)


def write_columnar(path: Path, rows: int) -> None:
    """One row group, or record batches of 2,000 rows."""
    table = pa.table({"id": ["00001"] * 2000, "text": [TEXT] * 2000})
    if path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            for _ in range(rows // 2000):
                writer.write_table(table)
        return
    whole = pa.concat_tables([table] * (rows // 2000))
    pq.write_table(whole, path, compression="none", use_dictionary=False, row_group_size=rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow"])
def test_reading_200_mb_takes_no_more_than_a_few_units_of_memory(tmp_path: Path, name: str) -> None:
    write = write_jsonl if "jsonl" in name else write_columnar
    small, big = tmp_path / f"small.{name}", tmp_path / name
    write(small, 2000)
    write(big, ROWS)
    assert ROWS * len(TEXT) > 200_000_000
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(small), str(big)], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    big.unlink()
    assert found["rows"] == ROWS
    assert found["units"] >= 6
    assert found["grown"] < BOUND_MIB, f"{name}: the peak grew by {found['grown']:.0f} MiB"
