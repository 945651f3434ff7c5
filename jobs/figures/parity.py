"""Parity: 2,000 real texts through the whole pipeline, held against `SentenceTransformer.encode` in float32."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset

import pipeline
from jobs.figures.common import MODEL, Figure, docstrings, make_job, run, table
from pipeline.model.resolve import resolve_model

ROWS = 2000


def measure(folder: Path) -> Figure:
    """Publish the same texts in both precisions and compare."""
    source = docstrings(folder / "texts", ROWS)
    expected = reference(source)
    values: dict[str, Any] = {}
    rows = []
    for precision in ("exact", "gated"):
        output = folder / precision
        summary = run(make_job(source, output, model__precision=precision), folder / f"{precision}-job")
        cosine, distance = compare(str(output), expected)
        values[precision] = {"dtype": summary["dtype"], "min_cosine": cosine, "max_relative_l2": distance}
        rows.append(
            (f"`{precision}`", summary["dtype"], f"{cosine:.7f}", f"{distance:.2e}", summary["gate"]["min_cosine"])
        )
    text = (
        f"{len(expected):,} docstrings, all-MiniLM-L6-v2, read from Parquet, published, read back by "
        "`pipeline.open_snapshot`, and compared with plain `SentenceTransformer.encode` in float32.\n\n"
        + table(
            ("precision", "computed in", "lowest cosine", "largest relative L2", "lowest cosine at the parity gate"),
            rows,
        )
        + "\n\nAsked for: 0.999999 for `exact`; for `gated` the gate's 0.9999 and 1.5e-02."
    )
    return Figure("Parity", text, values)


def reference(source: Path) -> dict[str, npt.NDArray[np.float32]]:
    """id → sentence-transformers' own vector."""
    kind = "json" if any(source.glob("*.jsonl")) else "parquet"
    texts = pyarrow.dataset.dataset(source, format=kind).to_table(columns=["id", "text"])
    directory = resolve_model(MODEL, None, None).directory
    return dict(zip(texts["id"].to_pylist(), plain_vectors(directory, texts["text"].to_pylist()), strict=True))


def plain_vectors(model: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """[n, dimensions] by `SentenceTransformer.encode` in float32."""
    return np.asarray(load_plain(model).encode(list(texts), show_progress_bar=False), np.float32)


def load_plain(model: str) -> Any:
    """sentence-transformers' own SentenceTransformer of a directory, in float32 on the CPU."""
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True)


def by_number(vectors: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Of rows whose ids are their numbers: id → vector."""
    return {str(number): vector for number, vector in enumerate(vectors)}


def compare(output: str, expected: dict[str, npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Lowest cosine and largest relative L2 distance of what is published; fails unless every row is there once."""
    parity = compare_rows(output, pipeline.open_snapshot(output).to_table(columns=["id", "embedding"]), expected)
    return parity.min_cosine, parity.max_relative_l2


def compare_rows(output: str, found: pa.Table, expected: Mapping[str, npt.NDArray[np.float32]]) -> "Parity":
    """Of an output's rows, a table with `id` and `embedding`, by id. Fails unless every row is there once."""
    ids = found["id"].to_pylist()
    if sorted(ids) != sorted(expected):
        raise RuntimeError(f"{output} does not hold the rows of its input, each once")
    ours = np.array(found["embedding"].to_pylist(), np.float32)
    return measure_parity(ours, np.array([expected[row] for row in ids], np.float32))


@dataclass(frozen=True, slots=True)
class Parity:
    """Over all texts of a round."""

    min_cosine: float
    max_relative_l2: float


def measure_parity(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Parity:
    """Hold vectors [n, dimensions] against the reference's. A peer that gives them another length has a relative L2 for it."""
    own, due = found.astype(np.float64), expected.astype(np.float64)
    length = np.linalg.norm(due, axis=1)
    cosine = np.einsum("nd,nd->n", own, due) / (np.linalg.norm(own, axis=1) * length)
    return Parity(float(cosine.min()), float((np.linalg.norm(own - due, axis=1) / length).max()))
