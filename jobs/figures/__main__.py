"""Measure and write docs/figures.md.

    python -m jobs.figures [--only NAME …] [--stsb TSV]

What isn't measured this time keeps its last values, which stand in docs/figures.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from jobs.figures import card, drift, first_unit, kills, memory, parity, recipe, resume, sts, training
from jobs.figures.common import PROJECT, Figure, keep, measured_with

DOCUMENT, VALUES = PROJECT / "docs" / "figures.md", PROJECT / "docs" / "figures.json"
ALL: dict[str, Callable[[Path], Figure]] = {
    "parity": parity.measure,
    "recipe": recipe.measure,
    "kills": kills.measure,
    "memory": memory.measure,
    "drift": drift.measure,
    "first_unit": first_unit.measure,
    "resume": resume.measure,
    "card": card.measure,
}
LABELLED: dict[str, Callable[[Path, Path], Figure]] = {"sts": sts.measure, "training": training.measure}
"""Which need the STS benchmark."""

HEAD = """# Figures

Written by `make figures`; the values for machines are in [figures.json](figures.json). One figure alone:
`python -m jobs.figures --only NAME`. Machines differ and are noisy: repeat them on yours.
"""


def main() -> None:
    """Measure one after the other, so that none disturbs another, and write after each."""
    parser = argparse.ArgumentParser(description="Measure the figures of docs/figures.md.")
    parser.add_argument("--only", nargs="+", choices=[*ALL, *LABELLED], default=[*ALL, *LABELLED], help="just these")
    parser.add_argument("--stsb", type=Path, help="TSV of the STS benchmark: split, score, sentence1, sentence2")
    asked = parser.parse_args()
    missed = []
    for name in asked.only:
        if name in LABELLED and asked.stsb is None:
            print(f"{name}: not measured, it needs --stsb")
            continue
        prefix = f"embedpipe-figures-{name}-"
        print(f"{name} …", flush=True)
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
            labelled = LABELLED.get(name)
            figure = ALL[name](Path(folder)) if labelled is None else labelled(Path(folder), asked.stsb.absolute())
        print(f"{figure.title}\n\n{figure.text}\n", flush=True)
        record(name, figure)
        if figure.missed:
            missed.append(f"{name}: {figure.missed}")
    if missed:
        sys.exit("\n".join(("not what was asked for:", *missed)))


def record(name: str, figure: Figure) -> None:
    """Keep a figure, and write the document from all that are kept."""
    kept = keep(VALUES, name, {"title": figure.title, "text": figure.text, "values": figure.values})
    sections = [
        f"## {entry['title']}\n\n{entry['text']}\n\n"
        f"<sub>`python -m jobs.figures --only {key}`, {measured_with(entry)}</sub>\n"
        for key in (*ALL, *LABELLED)
        if (entry := kept.get(key))
    ]
    DOCUMENT.write_text("\n".join([HEAD, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
