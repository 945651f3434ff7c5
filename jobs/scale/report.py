"""docs/scale.md and its plot, made from docs/scale.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.figures.common import measured_with, table
from jobs.scale import paper
from jobs.scale.rows import cost_us

HEAD = """# Scale

Written by `make scale`; the values for machines are in [scale.json](scale.json). One section alone:
`python -m jobs.scale --only NAME`. The model is left out: encoders here wait instead of computing, or no encoder takes part, so
what is measured is everything around it, on one machine with a local disk.
"""


def workers_section(found: Mapping[str, Any]) -> str:
    """Efficiency by number of workers."""
    rows = [(run["workers"], run["units"], f"{run['efficiency']:.1%}") for run in found["runs"]]
    return (
        "## One driver, many encoders\n\n"
        f"One Ray, encoders that wait {found['unit_s']:g} s for each unit of {found['unit_rows']} rows, read from Parquet and "
        "published. Efficiency: the time they waited, of all the time between the ends of their first and last units.\n\n"
        + table(("encoders", "units", "efficiency"), rows)
        + f"\n\nWith encoders that take no time at all {found['ceiling']:.1f} units a second pass through one driver and its "
        "readers and stagers on this machine."
    )


def files_section(found: Mapping[str, Any]) -> str:
    """Many input files."""
    return (
        "## Many input files\n\n"
        + _planned(found, f"{found['pending']:,} files of one row, none encoded yet")
        + "\n\nAppending, so that each file is a segment of its own; mirroring, small files share segments, and less is left "
        "to do."
    )


def committed_section(found: Mapping[str, Any]) -> str:
    """Many committed units."""
    return (
        "## Many committed units\n\n"
        + _planned(found, f"{found['committed']:,} units committed, none published, {found['pending']} segments left")
        + "\n\nThis is how long a re-run thinks before it goes on."
    )


def manifest_section(found: Mapping[str, Any]) -> str:
    """A long manifest."""
    rows = [
        ("written in", f"{found['write_s']:.1f} s"),
        ("read in", f"{found['read_s']:.1f} s"),
        ("size", f"{found['bytes'] / 1e6:,.0f} MB"),
        ("peak memory of the process, records and all", f"{found['peak_bytes'] / 1e9:.2f} GB"),
    ]
    return f"## A manifest of {found['units']:,} units\n\n" + table(("", ""), rows)


def rows_section(found: Mapping[str, Any]) -> str:
    """Cost of a row by number of rows."""
    runs = zip(found["runs"], cost_us(found), strict=True)
    rows = [(f"{run['rows']:,}", f"{run['seconds']:.1f} s", f"{cost:.1f} µs") for run, (_, cost) in runs]
    return (
        "## What a row costs besides its vector\n\n"
        "Texts of about 70 characters from Parquet, tokenised, read, staged, assembled and published on this machine's cores by "
        f"an embedded Ray; encoders take no time, vectors have 16 dimensions. Any job takes {found['fixed_s']:.1f} s, which "
        "the last column leaves out.\n\n" + table(("rows", "whole run", "per row"), rows)
    )


def _planned(found: Mapping[str, Any], what: str) -> str:
    rows = [
        ("from the config to the plan", f"{found['plan_s']:.1f} s"),
        ("peak memory of the process", f"{found['peak_bytes'] / 1e6:,.0f} MB"),
    ]
    return f"{what}; local disk.\n\n" + table(("", ""), rows)


def save_plot(found: Mapping[str, Any], file: Path) -> None:
    """Cost per row, and efficiency, as far as they are measured."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "embedpipe"
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    if "rows" in found:
        left.semilogx(*zip(*cost_us(found["rows"]), strict=True), marker="o", color="#1f6f8b")
    left.set(title="Besides the vector", xlabel="rows", ylabel="µs a row")
    left.set_ylim(bottom=0)
    if "workers" in found:
        runs = found["workers"]["runs"]
        right.semilogx(
            [run["workers"] for run in runs],
            [100 * run["efficiency"] for run in runs],
            base=2,
            marker="o",
            color="#1f6f8b",
        )
    right.set(title="Encoders that wait", xlabel="encoders on one Ray", ylabel="efficiency, %", ylim=(0, 105))
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(visible=True, alpha=0.3)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


SECTIONS = {
    "workers": workers_section,
    "files": files_section,
    "committed": committed_section,
    "manifest": manifest_section,
    "rows": rows_section,
}


def document(kept: Mapping[str, Mapping[str, Any]], plot: str) -> str:
    """All of docs/scale.md, from what was kept of each section."""
    parts = [HEAD, f"![Cost per row, and efficiency of many encoders]({plot})\n"]
    parts += [
        f"{section(entry['values'])}\n\n<sub>`python -m jobs.scale --only {name}`, {measured_with(entry)}</sub>\n"
        for name, section in SECTIONS.items()
        if (entry := kept.get(name))
    ]
    if set(kept) >= set(SECTIONS):
        parts.append(paper.section({name: entry["values"] for name, entry in kept.items()}))
    return "\n".join(parts)
