"""The plain Ray Data recipe that embedpipe is measured against: read_parquet → map_batches(encode) → write_parquet.

    python jobs/plain_recipe.py INPUT OUTPUT MODEL_DIRECTORY

It is given what it needs to do well on one machine: a Ray of its own, the model loaded once, and all cores (Ray sets
one thread in a worker that asks for one CPU). Prints one JSON line: rows and seconds, Ray's start not counted.
"""

import json
import os
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import ray
import ray.data


class Encode:
    """One replica of the model."""

    def __init__(self, model: str, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(model, device="cpu")

    def __call__(self, batch: dict) -> dict:  # type: ignore[type-arg]
        """Texts of a batch → their vectors beside them."""
        return {"id": batch["id"], "embedding": self.model.encode(list(batch["text"]), batch_size=32)}


def main(source: str, target: str, model: str) -> None:
    """Run the recipe once."""
    cores = os.cpu_count() or 1
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray.init(address="local", num_cpus=max(2, cores), include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.monotonic()
    rows = ray.data.read_parquet(source, columns=["id", "text"])
    vectors = rows.map_batches(
        Encode,
        fn_constructor_args=(model, cores),
        batch_size=32,
        batch_format="numpy",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    vectors.write_parquet(target)
    seconds = time.monotonic() - started
    count = sum(pq.ParquetFile(file).metadata.num_rows for file in _files(target))
    print(json.dumps({"rows": count, "seconds": round(seconds, 3), "rows_per_s": round(count / seconds, 2)}))
    ray.shutdown()


def _files(folder: str) -> list[str]:
    return [str(path) for path in Path(folder).rglob("*.parquet")]


if __name__ == "__main__":
    main(*sys.argv[1:4])
