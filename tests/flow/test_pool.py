"""Fitting replicas onto nodes: what asks for more than a node has waits for ever, and nothing says so."""

import socket
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.config.schema import Execution
from pipeline.errors import ConfigError, EmbedpipeError, IncompleteError
from pipeline.flow import cluster, ray_engine
from pipeline.flow.cluster import Pool
from pipeline.flow.ray_engine import RayEngine
from pipeline.storage.environment import WorkerEnvironment


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


def test_a_head_that_offers_no_core_is_no_measure_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for one of a single core, it made of two nodes of 16 cores 32 replicas of one thread: eight times the memory."""
    nodes: list[dict[str, Any]] = [{"Alive": True, "Resources": {}}, *[{"Alive": True, "Resources": {"CPU": 16.0}}] * 2]
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 32.0})
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    pool = cluster.plan_pool(Execution())
    assert (pool.replicas, pool.threads) == (4, 8)


class Night:
    """A cluster's resources, look after look, for an engine that has nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *gpus: float) -> None:
        looks = iter(gpus)
        monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": next(looks)})
        monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])
        monkeypatch.setattr(ray_engine, "LOOK_S", 0.001)
        self.stop = threading.Event()

    def pools(self, *waves: int, **execution: Any) -> list[Pool]:
        self.engine = object.__new__(RayEngine)
        self.engine._execution, self.engine._most_gpus, self.engine._gone_since = Execution(**execution), 0, None
        return [self.engine._pool(self.stop) for _ in waves]


@pytest.mark.parametrize("execution", [{}, {"device": "cuda"}, {"replicas": 2}])
def test_what_was_begun_on_gpus_waits_for_one_that_was_taken_away(
    monkeypatch: pytest.MonkeyPatch, execution: dict[str, Any]
) -> None:
    """A preempted node was the end of the night: refused as a mistake in the config, or done on the cores that were left."""
    night = Night(monkeypatch, 2, 0, 0, 0, 2, 2)
    assert [pool.num_gpus for pool in night.pools(1, 2, **execution)] == [1, 1]


def test_a_run_that_waits_for_a_gpu_can_be_stopped_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    night = Night(monkeypatch, 2, *[0] * 100_000)
    monkeypatch.setattr(ray_engine, "STILL_S", 0.05)
    with pytest.raises(IncompleteError, match="no GPU any more"):
        night.pools(1, 2)
    monkeypatch.setattr(ray_engine, "LOOK_S", 3600)
    with pytest.raises(IncompleteError, match="no GPU any more"):  # at once: each round would be another hour
        night.engine._pool(night.stop)
    night = Night(monkeypatch, 2, 0, 0)
    monkeypatch.setattr(ray_engine, "STILL_S", 3600)
    night.stop.set()
    with pytest.raises(IncompleteError, match="no GPU any more"):
        night.pools(1, 2)


def test_replicas_that_are_asked_for_on_gpus_are_left_to_ray_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    night = Night(monkeypatch, 0, 0, 0, 0)
    assert [pool.num_gpus for pool in night.pools(1, 2, device="cuda", replicas=3)] == [1, 1]


def test_gpus_of_which_a_part_was_taken_away_are_waited_for_while_the_rest_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one of eight back the next 20,000 segments were planned on that one, and nobody asked for the others."""
    assert [pool.replicas for pool in Night(monkeypatch, 8, 0, 1, 1, 8, 8).pools(1, 2, 3)] == [8, 8, 8]


def test_a_run_without_gpus_stays_on_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [pool.num_gpus for pool in Night(monkeypatch, 0, 0).pools(1, 2)] == [None, None]


def test_an_address_where_nobody_listens_is_one_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would end the process from C++, with the exit code of a bug and without a word. The cluster may be starting or have
    died: a scheduler that runs the job again does right."""
    monkeypatch.setattr(cluster, "START_S", 0.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        with pytest.raises(IncompleteError, match="no Ray cluster answers"):
            cluster.connect(f"127.0.0.1:{closed.getsockname()[1]}")


WHILE_CONNECTING: list[tuple[Exception, type[EmbedpipeError], str]] = [
    (ray.exceptions.AuthenticationError("no token"), ConfigError, "wants its token; set RAY_AUTH_MODE=token"),
    (ray.exceptions.RpcError("UNAVAILABLE"), IncompleteError, "no Ray cluster answers at .*: UNAVAILABLE"),
    (ConnectionError("not found"), IncompleteError, "no Ray cluster answers at .*RAY_AUTH_TOKEN"),
    (
        RuntimeError("Version mismatch: The cluster has\n  Ray: 2.1"),
        ConfigError,
        "another Ray or Python.* has Ray: 2.1",
    ),
    (RuntimeError("starting"), IncompleteError, "no Ray cluster answers at .*: starting"),
]
"""What Ray raises, and what a scheduler must be told: a cluster that is starting or away is one to try again, a wrong token or
another build of Ray isn't."""


@pytest.mark.parametrize(("error", "kind", "said"), WHILE_CONNECTING, ids=lambda value: repr(value)[:40])
def test_what_ray_raises_while_connecting_says_whether_to_run_again(
    error: Exception, kind: type[EmbedpipeError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything that is none of the program's own errors would end the run as a bug of it."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", fail)
    with pytest.raises(kind, match=said):
        cluster.connect("auto")


@pytest.mark.parametrize(("error", "kind", "said"), WHILE_CONNECTING[:2], ids=lambda value: repr(value)[:40])
def test_a_cluster_that_goes_just_after_it_answered_is_no_bug_of_ours(
    error: Exception, kind: type[EmbedpipeError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing that is made on it is the board."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", fail)
    with pytest.raises(kind, match=said):
        RayEngine(Execution(address="head:6379"))


@pytest.mark.parametrize(("alive", "raises"), [(True, True), (False, False)])
def test_a_node_that_dies_while_it_is_asked_for_the_output_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool, raises: bool
) -> None:
    """Spot nodes go at any moment, and the run would end as a bug. One that lives and doesn't answer is another matter."""
    lives = iter([True, True, *[alive] * 8])

    class Look:
        def remote(self, *_: object) -> None: ...

    def fail(_: object) -> None:
        raise ray.exceptions.TaskUnschedulableError("its node doesn't exist any more")

    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"NodeID": name * 56, "Alive": next(lives)} for name in "ab"])
    monkeypatch.setattr(cluster.ray, "remote", lambda **_: lambda _function: Look())
    monkeypatch.setattr(cluster.ray, "get", fail)
    with pytest.raises(ray.exceptions.RayError) if raises else nullcontext():
        cluster.check_shared(str(tmp_path), WorkerEnvironment())
    assert list(tmp_path.glob("**/mark")) == []
