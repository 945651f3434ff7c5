"""A Ray of one's own that can't be started, or another's that can't be: said in one message, without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import make_config, write_jsonl

from pipeline.config.load import dump_config
from pipeline.errors import ConfigError, IncompleteError
from pipeline.flow import cluster

PROJECT = Path(__file__).parents[2]
NO_TOKEN = """
import os, sys
import ray
from pipeline.errors import IncompleteError
from pipeline.flow.cluster import connect

connect(None)
ray.shutdown()
os.environ["HOME"] = sys.argv[1]  # where no token is; Ray looks for one only once in a process
os.environ["RAY_gcs_server_port_wait_time_s"] = "3"
try:
    connect(None)
except IncompleteError as error:
    print(error)
"""


def python(home: Path, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_home_that_can_not_be_written_is_named(tmp_path: Path, tiny_model: str) -> None:
    write_jsonl(tmp_path / "in.jsonl", range(10))
    config = make_config(tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model, execution__engine="ray")
    (tmp_path / "job.yaml").write_text(dump_config(config), encoding="utf-8")
    (tmp_path / "file").touch()
    ran = python(tmp_path / "file", "-m", "pipeline", "run", "--config", "job.yaml", cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert f"below HOME ({tmp_path / 'file'})" in ran.stderr
    assert "execution.engine to serial" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_ray_that_does_not_come_up_is_no_bug_of_ours(tmp_path: Path) -> None:
    """Its head process had no token and died; the driver waited for it in vain."""
    (tmp_path / "other").mkdir()
    ran = python(tmp_path, "-c", NO_TOKEN, str(tmp_path / "other"), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "Ray has not come up here: Timed out waiting" in ran.stdout


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("head..local:6379", "'head..local' can't be the name of a host"),
        (f"{'a' * 64}.local:6379", "can't be the name of a host"),
        ("ray://.head:10001", "'.head' can't be the name of a host"),
        ("127.0.0.1:65536", "expected a port from 1 to 65535"),
        (f"127.0.0.1:{'9' * 5000}", "expected a port from 1 to 65535"),
        ("head:0", "expected a port from 1 to 65535"),
    ],
    ids=lambda value: value[:20],
)
def test_an_address_that_can_be_nobodys_is_refused_at_once(address: str, said: str) -> None:
    """The codec for host names raises no OSError: a typing mistake passed for a bug."""
    with pytest.raises(ConfigError) as refused:
        cluster.connect(address)
    assert said in refused.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_an_address_where_nobody_listens_is_one_to_try_again(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "START_S", 0.0)
    with pytest.raises(IncompleteError, match="no Ray cluster answers at"):
        cluster.connect(f"{host}:1")
