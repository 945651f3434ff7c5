"""Measure what a job costs around the model, at sizes no test has, and write docs/scale.md.

    python -m jobs.scale [--only NAME …]

What isn't measured this time keeps its last values, which stand in docs/scale.json. Takes some 20 GB of disk, below TMPDIR.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.figures.common import PROJECT, keep
from jobs.scale import planning, report, rows, workers

DOCUMENT, VALUES, PLOT = (PROJECT / "docs" / f"scale.{kind}" for kind in ("md", "json", "svg"))
ALL: dict[str, Callable[[Path], dict[str, Any]]] = {
    "workers": lambda folder: workers.measure(folder) | {"ceiling": workers.ceiling(folder / "ceiling")},
    "files": planning.measure_files,
    "committed": planning.measure_committed,
    "manifest": planning.measure_manifest,
    "rows": rows.measure,
}


def main() -> None:
    """Measure one after the other, so that none disturbs another, and write after each."""
    parser = argparse.ArgumentParser(description="Measure what docs/scale.md shows.")
    parser.add_argument("--only", nargs="+", choices=[*ALL], default=[*ALL], help="just these")
    for name in parser.parse_args().only:
        print(f"{name} …", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"embedpipe-scale-{name}-", ignore_cleanup_errors=True) as folder:
            values = ALL[name](Path(folder))
        record(name, values)
        print(report.SECTIONS[name](values), flush=True)


def record(name: str, values: dict[str, Any]) -> None:
    """Keep a measurement, and write document and plot from all that are kept."""
    kept = keep(VALUES, name, {"values": values})
    report.save_plot({key: entry["values"] for key, entry in kept.items()}, PLOT)
    DOCUMENT.write_text(report.document(kept, PLOT.name), encoding="utf-8")


if __name__ == "__main__":
    main()
