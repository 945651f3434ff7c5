"""Input that several files of tests share."""

from pathlib import Path

import pytest
from support.jobs import write_parquet


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three Parquet shards of 40 rows."""
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40))
    return tmp_path / "in"
