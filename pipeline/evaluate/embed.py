"""Texts to vectors through the pipeline itself, as a job of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from pipeline.commit.snapshot import read_stored_spec
from pipeline.config.schema import Config, Execution, Input, Model, Output
from pipeline.errors import EncodeError
from pipeline.export.snapshot import find_snapshot, open_dataset
from pipeline.flow.summary import Summary
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Reporter
from pipeline.storage.open import open_store

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a job has made."""

    vectors: pyarrow.dataset.Dataset
    summary: Summary
    recipe: Mapping[str, Any]  # what the vectors depend on: prompt, task, precision, … as the job had them


@dataclass(frozen=True, slots=True)
class Embedder:
    """How the texts of an evaluation become vectors."""

    execution: Execution
    reporter: Reporter

    def embed_file(self, source: Path, output: Path, model: Model) -> Embedded:
        """The published vectors of a Parquet file with `id` and `text`, each row once.

        Raises as `run_job` does, and EncodeError where a text has no vector.
        """
        config = Config(
            input=Input(paths=(str(source),), text="text", id="id"),
            model=model,
            output=Output(path=str(output), max_rejected_share=1.0),
            execution=self.execution,
        )
        summary = run_job(config, reporter=self.reporter)
        missing = pq.read_metadata(source).num_rows - summary.rows
        if missing:
            reasons = [f"{kind} {count:,}" for kind, count in summary.quarantined.items()] + list(
                summary.failed.values()
            )
            raise EncodeError(
                f"{missing:,} texts of the sets have no vector ({', '.join(reasons)}), so nothing can be measured on them"
            )
        store = open_store(str(output))
        spec = read_stored_spec(store, find_snapshot(store, None).entry.spec)
        return Embedded(open_dataset(str(output)), summary, spec.recipe)

    def embed_texts(self, texts: Sequence[str], folder: Path, model: Model) -> tuple[Vectors, Embedded]:
        """Vectors of distinct texts: float32 [n, dimensions], in their order. Raises as `embed_file` does."""
        source = folder / "texts.parquet"
        ids = pa.array(range(len(texts)), pa.int64())
        pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), source)
        embedded = self.embed_file(source, folder / "vectors", model)
        table = embedded.vectors.to_table(columns=["id", "embedding"])
        return vectors_of(table)[np.argsort(table["id"].to_numpy())], embedded


def vectors_of(table: pa.Table | pa.RecordBatch) -> Vectors:
    """Column `embedding` as [rows, dimensions]."""
    column = table["embedding"]
    flat = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).flatten()
    vectors: Vectors = np.array(flat.to_numpy(zero_copy_only=False))  # Arrow's own can't be written, which torch minds
    return vectors.reshape(table.num_rows, -1)
