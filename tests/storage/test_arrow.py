"""pyarrow's dataset readers over an output root."""

import io

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.storage.arrow import arrow_filesystem
from pipeline.storage.open import open_store


def test_a_dataset_reads_what_a_store_wrote(root: str) -> None:
    """With partition folders, and names that must not be unescaped on the way."""
    store = open_store(root)
    for number in range(2):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"id": [number]}), buffer)
        store.put_new(f"data/k=a%20b/{number}.parquet", buffer.getvalue())
    filesystem, prefix = arrow_filesystem(root)
    files = [f"{prefix}/{entry.key}" for entry in store.list("data/")]
    table = ds.dataset(files, filesystem=filesystem, format="parquet").to_table()
    assert sorted(table["id"].to_pylist()) == [0, 1]
