"""Memory: a 2 GB JSONL file and a gzip that inflates to 2 GB, through the whole job and through the reader alone."""

import gzip
import itertools
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from jobs.figures.common import Figure, docstrings, finished, make_job, start, table
from jobs.figures.processes import descendants, role_of

BYTES = 2 << 30
WIDE_ROWS = 12_000  # rows of the whole job's file: short texts beside a column that nobody asked for
READER = """
import re, sys
from pipeline.config.schema import Input, Rows
from pipeline.source.discover import discover
from pipeline.source.read import read_segment
from pipeline.source.records import UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.segments import cut_segments
source = Input(paths=(sys.argv[1],), text="text", id="id")
files = discover(source)
extraction = inspect(files, source, Rows(), ())
policy = UnitPolicy(16_384, 32 << 20, 64 << 20)
def peak():  # of this program alone; getrusage also knows what its parent had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10
base = peak()
rows = sum(
    unit.rows.num_rows
    for segment in cut_segments(files, {}, policy)
    for unit in read_segment(segment, extraction, policy, 16_384)
)
print(rows, base, peak())
"""


def measure(folder: Path) -> Figure:
    """Peaks of every kind of process of the job, and of the reader when all 2 GB are text."""
    texts = [json.loads(line)["text"] for line in _lines(docstrings(folder / "texts", 12_000, "jsonl"))]
    values: dict[str, dict[str, int]] = {}
    for name in ("wide.jsonl", "wide.jsonl.gz"):
        path = folder / name
        write(path, texts, wide=True)
        values[name] = whole_job(path, folder / f"{name}-out")
        path.unlink()
    alone = {}
    for name in ("text.jsonl", "text.jsonl.gz"):
        path = folder / name
        write(path, texts, wide=False)
        alone[name] = reader_alone(path)
        path.unlink()
    roles = ("driver", "read worker", "encode worker", "stage worker")
    text = (
        f"Whole job, embedded Ray, {WIDE_ROWS:,} rows of 2 GiB in all (short texts beside a wide column that is not asked "
        "for): the highest anonymous memory of any process of a kind, sampled twenty times a second.\n\n"
        + table(
            ("input", *roles), [(name, *(_mb(found.get(role, 0)) for role in roles)) for name, found in values.items()]
        )
        + "\n\nReader alone, 2 GiB that are all text, in one process, units of 16,384 rows or 32 MiB: peak resident memory, "
        "and what of it was there before the first byte was read.\n\n"
        + table(
            ("input", "rows", "peak", "before reading"),
            [(name, f"{rows:,}", _mb(peak), _mb(base)) for name, (rows, base, peak) in alone.items()],
        )
        + "\n\nThe bound: a reader holds two units (text twice, as lines and as columns) and one block of the stream; nothing "
        "grows with the file. The driver holds about 1 KB a unit."
    )
    return Figure("Memory", text, {"whole_job": values, "reader_alone": alone})


def _lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, texts: list[str], *, wide: bool) -> None:
    """A JSONL file of 2 GiB, inflated."""
    padding = "".join(texts)[: BYTES // WIDE_ROWS]
    written = 0
    with gzip.open(path, "wt", compresslevel=1) if path.suffix == ".gz" else path.open("w") as out:
        for number, text in enumerate(itertools.cycle(texts)):
            row = {"id": number, "text": text[:200]} | {"padding": padding} if wide else {"id": number, "text": text}
            line = json.dumps(row) + "\n"
            out.write(line)
            written += len(line)
            if written >= BYTES:
                return


def whole_job(path: Path, output: Path) -> dict[str, int]:
    """Highest anonymous memory by role, in bytes."""
    process = start(make_job(path, output, execution__engine="ray"), output.with_suffix(".job"))
    peaks: dict[str, int] = defaultdict(int)
    while process.poll() is None:
        for found in descendants(process.pid):
            role = role_of(found, process.pid)
            peaks[role] = max(peaks[role], found.own_bytes)
        time.sleep(0.05)  # between two looks
    finished(process)
    peaks.pop("", None)
    return dict(peaks)


def reader_alone(path: Path) -> tuple[int, int, int]:
    """Rows, bytes before, bytes at the peak."""
    ran = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=True)
    rows, base, peak = map(int, ran.stdout.split())
    return rows, base, peak


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
