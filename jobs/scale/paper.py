"""Ten billion rows, on paper: what was measured, multiplied; and what gives way first."""

from collections.abc import Mapping
from typing import Any

from jobs.figures.common import table
from pipeline.config.schema import Units
from pipeline.sink.duplicates import MAX_ROWS

ROWS = 10**10
DIMENSIONS, TEXT_BYTES = 384, 500
S3_GET_S, S3_GETS_AT_ONCE = 0.02, 32
"""A small object by one of the threads that read records."""

S3_PAGE_KEYS, S3_PAGE_S = 1000, 0.15
"""Keys in a page of a listing, and seconds for one."""

NIGHT_S = 10 * 3600


def section(found: Mapping[str, Any]) -> str:
    """The table, and what follows from it."""
    ceiling = found["workers"]["ceiling"]
    night = Units().rows * ceiling * NIGHT_S
    return (
        "## Ten billion rows, on paper\n\n"
        + table(("", "takes", "from"), _reckoned(found))
        + "\n\nWhat gives way first, in this order:\n\n"
        f"1. **The driver's rate of units.** {ceiling:.0f} units a second are {night / 1e9:.1f} billion rows in ten hours, "
        "whatever the number of GPUs. It is a rate of units, not of rows: `units.rows` and the two caps beside it raise it in "
        "proportion, at the price of more memory in each worker and more work lost with a killed one.\n"
        f"2. **Resuming on S3.** Records are read one by one, but only those of units that no snapshot has yet. Publishing along "
        "the way (a job for each part of the input) and bigger units both help.\n"
        "3. **One head node's memory**, for plan, acknowledgements and manifest together; several GB at this size.\n\n"
        "What does not give way: rows per file, files per folder and units per segment are bounded; a run's cost is "
        "proportional to what changed plus one listing of input and records; publication stays one conditional create of a "
        "small object.\n"
    )


def _reckoned(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    units = -(-ROWS // Units().rows)
    ceiling = found["workers"]["ceiling"]
    committed, manifest = found["committed"], found["manifest"]
    record_s, record_bytes = (
        committed["plan_s"] / committed["committed"],
        committed["peak_bytes"] / committed["committed"],
    )
    entry_s = (manifest["read_s"] + manifest["write_s"]) / manifest["units"]
    cost_us = min(run["seconds"] / run["rows"] for run in found["rows"]["runs"]) * 1e6
    return [
        ("units of 16,384 rows", f"{units:,}", "rows over units.rows"),
        (
            "staged and published, each",
            f"{ROWS * (DIMENSIONS * 4 + TEXT_BYTES) / 1e12:.0f} TB",
            "384 float32 and 500 bytes",
        ),
        (
            "units through one driver",
            f"{units / ceiling / 3600:.1f} h",
            f"{ceiling:.1f} units a second on this machine's cores, encoders taking no time",
        ),
        (
            "reading, tokenising, staging",
            f"{ROWS * cost_us / 1e6 / 3600:,.0f} h of this machine",
            f"{cost_us:.0f} µs a row; divided by the machines there are",
        ),
        (
            "resume with all committed, local disk",
            f"{units * record_s:.0f} s, {units * record_bytes / 1e9:.1f} GB",
            f"{record_s * 1e6:.0f} µs and {record_bytes / 1e3:.1f} KB a unit",
        ),
        (
            "the same on S3",
            f"{units * S3_GET_S / S3_GETS_AT_ONCE / 60:.0f} min",
            f"one request a record, {S3_GETS_AT_ONCE} at once, {S3_GET_S * 1000:.0f} ms each",
        ),
        (
            "listing the records on S3",
            f"{units / S3_PAGE_KEYS * S3_PAGE_S:.0f} s",
            f"{S3_PAGE_KEYS} keys and {S3_PAGE_S * 1000:.0f} ms a page",
        ),
        (
            "manifest",
            f"{units * manifest['bytes'] / manifest['units'] / 1e6:.0f} MB, {units * entry_s:.0f} s",
            "written once and read once by each run",
        ),
        ("acknowledgements in the driver", f"{units * 1e3 / 1e9:.1f} GB", "about 1 KB a unit"),
        (
            "ids counted for duplicates",
            f"not above {MAX_ROWS / 1e6:.0f} million rows",
            "8 bytes a row in the driver; `embedpipe verify` spills to disk instead",
        ),
    ]
