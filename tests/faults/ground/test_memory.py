"""More in flight than the object store holds: Ray spills or holds back, and no row is lost over it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import oracle
from faults.ground.small_store import BYTES
from faults.hooks import environment
from support.jobs import make_config, text_of

RUN = Path(__file__).parents[2] / "support" / "run_job.py"
FILES, ROWS, PAD_BYTES = 22, 100, 40_000


@pytest.mark.ray
def test_units_that_are_more_than_the_object_store_holds_all_arrive(tmp_path: Path, letters: str) -> None:
    """4 MB a unit travel with a kept column; the store of 80 MB holds neither all of them nor two stages of half of them."""
    random = np.random.default_rng(0)
    texts = {}
    (tmp_path / "in").mkdir()
    for file in range(FILES):
        rows = range(file * ROWS, (file + 1) * ROWS)
        texts |= {f"id-{row}": text_of(row) for row in rows}
        pads = [random.bytes(PAD_BYTES // 2).hex() for _ in rows]
        table = pa.table({"id": [f"id-{row}" for row in rows], "text": [text_of(row) for row in rows], "pad": pads})
        pq.write_table(table, tmp_path / "in" / f"{file}.parquet", compression="none", use_dictionary=False)
    assert FILES * ROWS * PAD_BYTES > BYTES
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), letters, execution__engine="ray", input__keep=["pad"], units__rows=ROWS
    )
    done = subprocess.run(
        [sys.executable, str(RUN), config.model_dump_json()],
        env=environment("faults.encoder", "faults.ground.small_store"), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unit ") == FILES
    assert oracle.check(str(tmp_path / "out"), texts, letters).right
