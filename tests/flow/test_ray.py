"""The Ray engine: the same rows as the serial one, and what a killed process costs."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.jobs import ids, make_config, read_rows, write_jsonl, write_parquet

import pipeline
from pipeline.flow.progress import Event, UnitDone
from pipeline.flow.supervisor import run_job


@pytest.fixture(scope="module", autouse=True)
def ray_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One embedded Ray for the module: starting one takes seconds. Its token goes to a HOME of its own."""
    import ray

    from pipeline.flow.cluster import connect

    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    connect(None)
    yield
    ray.shutdown()
    patch.undo()


def test_both_engines_publish_the_same_rows(root: str, tmp_path: Path, tiny_model: str) -> None:
    for shard in range(4):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(50 * shard, 50 * shard + 50))
    summary = pipeline.run(make_config(tmp_path / "in", root, tiny_model, execution__engine="ray", units__rows=16))
    assert (summary.exit_code, summary.rows_encoded) == (0, 200)
    serial = str(tmp_path / "serial")
    pipeline.run(make_config(tmp_path / "in", serial, tiny_model, units__rows=16))
    ours, reference = read_rows(root), read_rows(serial)
    assert sorted(ours) == sorted(reference)
    assert np.abs(np.array([ours[key] for key in reference]) - np.array(list(reference.values()))).max() < 1e-6


class Killer:
    """Kills one worker process of a kind after a few units."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.killed = 0
        self.units = 0

    def emit(self, event: Event) -> None:
        self.units += isinstance(event, UnitDone)
        if self.units and not self.killed:
            found = subprocess.run(["pgrep", "-f", f"ray::.*{self.name}"], capture_output=True, text=True, check=False)
            for line in found.stdout.split():
                os.kill(int(line), signal.SIGKILL)
                self.killed += 1


@pytest.mark.parametrize("worker", ["EncodeActor", "(_read|_stage|IDLE)"])
def test_a_killed_worker_costs_what_it_had_in_flight(tmp_path: Path, tiny_model: str, worker: str) -> None:
    """The kernel's out-of-memory killer takes whichever process is largest."""
    for shard in range(6):
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", range(500 * shard, 500 * shard + 500))
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", units__rows=25, units__text_mib=1
    )
    killer = Killer(worker)
    summary = run_job(config, reporter=killer)
    assert killer.killed
    assert summary.exit_code == 0
    assert sorted(read_rows(str(tmp_path / "out"))) == ids(range(3000))


def test_embedded_ray_listens_on_loopback_only() -> None:
    """Anybody who reaches a Ray port can run code."""
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [line for line in listening if any(name in line for name in ("raylet", "gcs_server", "ray::", "python"))]
    assert ours
    for line in ours:
        address = line.split()[3]
        assert address.startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:")), line
