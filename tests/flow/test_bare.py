"""Encoding on a machine that has torch, transformers, sentence-transformers, tokenizers and pyarrow, and nothing else of ours:
no Ray, no S3 client, none of what a driver reads configs with. GPU machines of strangers are like that.
"""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from support.jobs import make_config, read_rows, text_of, write_parquet
from support.missing import without

from pipeline.flow.job import make_context, resolve
from pipeline.flow.planning import plan_now
from pipeline.flow.supervisor import run_job

MISSING = {
    "ray", "pydantic", "pydantic_core", "s3fs", "aiobotocore", "botocore", "boto3", "aiohttp", "msgspec", "duckdb",
    "accelerate", "datasets", "dill",
}  # fmt: skip
BARE = """
    import pickle, sys, threading
    from pipeline.flow.serial import SerialEngine

    with open(sys.argv[1], "rb") as file:
        context, work = pickle.load(file)
    engine = SerialEngine(1, 60.0)
    for ack in engine.encode(context, work, threading.Event()):
        print(ack.state, ack.rows_out, ack.message)
    engine.close()
    print({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:]))
"""


def test_the_serial_engine_needs_neither_ray_nor_what_reads_configs(tmp_path: Path, tiny_model: str) -> None:
    """And what it has committed a whole installation goes on with: nothing is encoded again."""
    for number in range(3):
        write_parquet(tmp_path / "in" / f"{number}.parquet", range(20 * number, 20 * number + 20))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)
    job = resolve(config)
    work = plan_now(job).plan.pending
    context = make_context(job, [one.segment for one in work], 0)
    (tmp_path / "work").write_bytes(pickle.dumps((context, work)))
    done = subprocess.run(
        [sys.executable, "-c", without(MISSING, BARE), str(tmp_path / "work"), *MISSING],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert sum(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("done")) == 60, done.stderr
    assert done.stdout.endswith("set()\n"), done.stdout
    summary = run_job(config)
    assert (summary.rows, summary.rows_encoded) == (60, 0)
    rows = read_rows(str(tmp_path / "out"))
    due = SentenceTransformer(tiny_model, device="cpu").encode([text_of(n) for n in range(60)])
    found = np.array([rows[f"id-{n}"] for n in range(60)])
    assert np.abs(found - due).max() < 1e-2
