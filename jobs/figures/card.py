"""The model card's own architecture, built from its recipe: embedded through the whole pipeline, and by sentence-transformers."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.figures.common import Figure, docstrings, make_job, run, table
from jobs.figures.parity import by_number, compare, load_plain
from pipeline.check.verify import verify
from pipeline.config.training import Architecture
from pipeline.train.build import build_model

ROWS = 10_000
ASKED = 1e-5
"""Largest relative L2 distance from sentence-transformers that `exact` may have."""


def measure(folder: Path) -> Figure:
    """Random weights serve: neither parity nor speed depends on them."""
    source, texts, numbered = first_lines(folder)
    model = build(folder, texts)
    output = folder / "out"
    summary = run(make_job(source, output, model__name=str(model), model__precision="exact"), folder / "job")
    expected, seconds = plain(model, texts)
    cosine, distance = compare(str(output), by_number(expected))
    report = verify(str(output), sample=200, model=str(model))
    if not report.passed:
        raise RuntimeError(f"verification failed: {report}")
    encoding = summary["times"]["encode"] / 1000
    rows = [
        ("sentence-transformers, float32, its defaults", f"{seconds:.0f}", f"{ROWS / seconds:.1f}"),
        ("embedpipe, `exact`, encoding alone", f"{encoding:.0f}", f"{ROWS / encoding:.1f}"),
        ("embedpipe, `exact`, the whole command", f"{summary['command_s']:.0f}", f"{ROWS / summary['command_s']:.1f}"),
    ]
    zeros = float((expected == 0).mean())
    copies = f", {numbered:,} of them others with a number behind" if numbered else ""
    text = (
        "RoBERTa with 12 layers of 768 → max pooling → Dense to 153 with ReLU → Dropout, random weights; "
        f"{ROWS:,} first lines of docstrings{copies}. Verified, 200 texts of them embedded again. Largest relative L2 distance "
        f"from sentence-transformers in float32: **{distance:.1e}** (asked for: {ASKED:.0e}), lowest cosine {cosine:.7f}; "
        f"{zeros:.0%} of the values are exact zeros.\n\n" + table(("", "seconds", "rows/s"), rows)
    )
    missed = "" if distance <= ASKED else f"a distance of {distance:.1e}, more than {ASKED:.0e}"
    values = {"max_relative_l2": distance, "min_cosine": cosine, "plain_s": seconds, "encode_s": encoding}
    return Figure("The card's model", text, values | {"command_s": summary["command_s"]}, missed)


def first_lines(folder: Path) -> tuple[Path, list[str], int]:
    """Short real texts, with their numbers as ids; and how many of them are others with a number behind, for want of more."""
    found = pa.concat_tables(
        pq.read_table(file) for file in sorted(docstrings(folder / "docs", 4 * ROWS).glob("*.parquet"))
    )
    lines = dict.fromkeys(text.strip().splitlines()[0] for text in found["text"].to_pylist() if text.strip())
    texts = [*lines, *(f"{line} ({n})" for n, line in enumerate(lines))][:ROWS]
    source = folder / "in"
    source.mkdir()
    pq.write_table(pa.table({"id": [f"{n}" for n in range(ROWS)], "text": texts}), source / "lines.parquet")
    return source, texts, max(0, ROWS - len(lines))


def build(folder: Path, texts: list[str]) -> Path:
    """The card's architecture as `embedpipe train` begins with it, saved."""
    (folder / "work").mkdir()
    built = build_model(Architecture(), texts, folder / "work", similarity="euclidean", device="cpu", seed=1)
    built.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def plain(model: Path, texts: list[str]) -> tuple[npt.NDArray[np.float32], float]:
    """sentence-transformers' own vectors, and the seconds they took."""
    loaded = load_plain(str(model))
    loaded.encode(texts[:32], show_progress_bar=False)
    began = time.monotonic()
    vectors = loaded.encode(texts, show_progress_bar=False)
    return np.asarray(vectors, np.float32), time.monotonic() - began
