"""Texts to vectors through the pipeline itself, as a job of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from pipeline.config.evaluation import Evaluation
from pipeline.config.schema import Config, Input, Model, Output
from pipeline.errors import EncodeError
from pipeline.export.snapshot import open_dataset
from pipeline.flow.summary import Summary
from pipeline.flow.supervisor import run_job


def embed_file(
    source: Path, output: Path, model: Model, evaluation: Evaluation
) -> tuple[pyarrow.dataset.Dataset, Summary]:
    """The published vectors of a Parquet file with `id` and `text`, each row once.

    Raises as `run_job` does, and EncodeError where a text has no vector.
    """
    config = Config(
        input=Input(paths=(str(source),), text="text", id="id"),
        model=model,
        output=Output(path=str(output), max_rejected_share=1.0),
        execution=evaluation.execution,
    )
    summary = run_job(config)
    if summary.rows_quarantined:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in summary.quarantined.items())
        raise EncodeError(
            f"{summary.rows_quarantined:,} texts of the sets have no vector ({kinds}), so nothing can be measured on them"
        )
    return open_dataset(str(output)), summary


def embed_texts(texts: Sequence[str], folder: Path, evaluation: Evaluation) -> tuple[npt.NDArray[np.float32], Summary]:
    """Vectors of distinct texts: float32 [n, dimensions], in their order. Raises as `embed_file` does."""
    source = folder / "texts.parquet"
    pq.write_table(
        pa.table({"id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())}), source
    )
    dataset, summary = embed_file(source, folder / "texts", evaluation.model, evaluation)
    table = dataset.to_table(columns=["id", "embedding"])
    return vectors_of(table)[np.argsort(table["id"].to_numpy())], summary


def vectors_of(table: pa.Table | pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Column `embedding` as [rows, dimensions]."""
    column = table["embedding"]
    flat = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).flatten()
    vectors: npt.NDArray[np.float32] = flat.to_numpy(zero_copy_only=False)
    return vectors.reshape(table.num_rows, -1)
