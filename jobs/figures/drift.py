"""Memory of an encode worker over a quarter of an hour: a constant above the model, and no slope."""

import statistics
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.texts import MIXED, make_texts
from jobs.figures.common import Figure, finished, make_job, start, table
from jobs.figures.processes import descendants, role_of

MINUTES = 15.0
WARM_S = 60.0
"""Left out: allocators and thread pools fill up."""

TEXTS, SHARDS = 16_384, 64
UNIT_ROWS = 1024


def measure(folder: Path, minutes: float = MINUTES, warm_s: float = WARM_S) -> Figure:
    """A whole job with more text than can be encoded in that time, on embedded Ray, stopped when the time is over."""
    write_input(folder / "texts", TEXTS, SHARDS)
    job = make_job(folder / "texts", folder / "out", execution__engine="ray", units__rows=UNIT_ROWS)
    process = start(job, folder / "job")
    samples: list[tuple[float, int]] = []  # seconds since the first, bytes
    began = 0.0
    while process.poll() is None and (not samples or samples[-1][0] < minutes * 60):
        for found in descendants(process.pid):
            if role_of(found, process.pid) == "encode worker":
                began = began or time.monotonic()
                samples.append((time.monotonic() - began, found.own_bytes))
        time.sleep(1.0)  # between two looks
    if process.poll() is None:
        process.terminate()
        process.communicate()
    else:
        finished(process)
        raise RuntimeError(f"the job had ended after {samples[-1][0]:.0f} s: more text is needed")
    warm = [(at, size) for at, size in samples if at > warm_s]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope  # bytes a second
    sizes = [size for _, size in warm]
    values = {
        "minutes": minutes,
        "slope_bytes_per_h": slope * 3600,
        "median_bytes": statistics.median(sizes),
        "peak_bytes": max(sizes),
        "first_bytes": statistics.median(sizes[: len(sizes) // 10 + 1]),
        "last_bytes": statistics.median(sizes[-(len(sizes) // 10) - 1 :]),
    }
    text = (
        f"Mixed texts, `gated`, embedded Ray: anonymous memory of the encode worker, every second for {minutes:g} minutes after "
        f"its first; the first {warm_s:g} s are left out.\n\n"
        + table(
            ("median", "peak", "first tenth", "last tenth", "slope"),
            [
                (
                    *(_mb(values[name]) for name in ("median_bytes", "peak_bytes", "first_bytes", "last_bytes")),
                    f"{values['slope_bytes_per_h'] / 1e6:+,.0f} MB/h",
                )
            ],
        )
    )
    return Figure("Memory of an encode worker over time", text, values)


def write_input(folder: Path, texts: int, shards: int) -> None:
    """Parquet files of the same mixed texts; each row begins with a number of its own, so that none is folded."""
    folder.mkdir(parents=True)
    found = make_texts(MIXED, texts)
    for shard in range(shards):
        ids = [f"{shard}-{number}" for number in range(texts)]
        rows = [f"{name} {text}" for name, text in zip(ids, found, strict=True)]
        pq.write_table(pa.table({"id": ids, "text": rows}), folder / f"{shard:03}.parquet")


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"
