"""Fitting replicas onto nodes: what asks for more than a node has waits for ever, and nothing says so."""

import socket

import pytest

from pipeline.config.schema import Execution
from pipeline.errors import ConfigError
from pipeline.flow import cluster


@pytest.mark.parametrize(
    ("nodes", "cores", "asked", "replicas", "threads"),
    [
        (1, 1, None, 1, 1),
        (1, 2, None, 1, 2),
        (3, 1, None, 3, 1),
        (3, 2, None, 3, 2),
        (3, 2, 1, 1, 2),
        (2, 8, None, 2, 8),
        (4, 16, None, 8, 8),
        (1, 64, 2, 2, 8),
    ],
)
def test_every_node_has_room_for_its_replicas_and_a_reader(
    nodes: int, cores: int, asked: int | None, replicas: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": float(nodes * cores)})
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": float(cores)}}] * nodes)
    pool = cluster.plan_pool(Execution(replicas=asked))
    assert (pool.replicas, pool.threads) == (replicas, threads)
    on_a_node = -(-replicas // nodes)
    assert 0 < pool.num_cpus * on_a_node <= cores - cluster.READ_CPUS


def test_an_address_where_nobody_listens_is_a_wrong_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would end the process from C++, with the exit code of a bug and without a word."""
    monkeypatch.setattr(cluster, "START_S", 0.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        with pytest.raises(ConfigError, match="no Ray cluster answers"):
            cluster.connect(f"127.0.0.1:{closed.getsockname()[1]}")
