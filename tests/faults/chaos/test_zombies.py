"""What counts as a zombie, and as killed by the watchdog; with processes of this machine, and no cluster."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults.chaos import zombies as module
from faults.chaos.processes import gone, until
from faults.chaos.striker import Caught, lay
from faults.chaos.zombies import Zombies

BUSY = """
import itertools
from faults.chaos.traps import come_by
for _ in itertools.count():
    come_by("encoding", "before encode_finite")
    come_by("encoding", "after Encoding.encode")
"""
IDLE = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    """As much of one as is needed."""
    (tmp_path / "traps").mkdir()

    def strike(process: int, number: signal.Signals) -> bool:
        os.kill(process, number)
        return True

    return SimpleNamespace(traps=tmp_path / "traps", nodes=[], processes=list, strike=strike)


@pytest.fixture
def worker(request: pytest.FixtureRequest, cluster: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process at work, by the program that the test is given."""
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]
    environment = {**os.environ, "FAULTS_TRAPS": str(cluster.traps), "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen([sys.executable, "-c", request.param], env=environment) as started:
        yield started
        started.kill()


def run(code: int | None, told: str = "", number: int = 1) -> Any:
    return SimpleNamespace(id=-number, code=code, told=told)


def caught(cluster: Any, worker: "subprocess.Popen[bytes]") -> Caught:
    """A busy one is held where it came by."""
    place = cluster.traps / f"held {worker.pid} encoding before encode_finite"
    if BUSY in worker.args:
        lay(cluster.traps / "encoding before encode_finite", 1.0)
        assert until(place.exists, 60)
    return Caught(place, worker.pid)


def stopped(cluster: Any, worker: "subprocess.Popen[bytes]", *running: Any) -> Zombies:
    """Stopped while it was encoding."""
    zombies = Zombies(Counter())
    zombies.stop(cluster, caught(cluster, worker), "encoding", running, machine=False)
    return zombies


@pytest.mark.parametrize("worker", [BUSY], indirect=True)
def test_who_goes_on_working_when_others_have_done_its_work_is_a_zombie(cluster: Any, worker: Any) -> None:
    driver = run(None)
    zombies = stopped(cluster, worker, driver)
    driver.code = 0
    zombies.come_back([driver])
    assert (zombies.counts["zombies"], zombies.counts["zombies.worker"], zombies.counts["stopped.idle"]) == (1, 1, 0)
    assert zombies.counts["zombies.steps"] >= 1


@pytest.mark.parametrize("worker", [BUSY], indirect=True)
@pytest.mark.parametrize("before", [False, True], ids=["no run", "a run before"])
def test_who_was_stopped_while_no_run_ended_well_is_none(cluster: Any, worker: Any, before: bool) -> None:
    over = run(0 if before else 4)
    zombies = stopped(cluster, worker, over, run(None, number=2))
    zombies.come_back([over, run(4, number=2)])
    assert zombies.counts == {"stopped.idle": 1}


@pytest.mark.parametrize("worker", [IDLE], indirect=True)
def test_who_does_nothing_afterwards_is_none(cluster: Any, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEXT_S", 0.2)
    zombies = stopped(cluster, worker)
    zombies.come_back([run(0)])
    assert zombies.counts == {"stopped.idle": 1}


@pytest.mark.parametrize("worker", [IDLE], indirect=True)
@pytest.mark.parametrize(
    ("told", "count"),
    [
        ("12:00:00 warning: encode 0a1b: no progress for 6 s; its process is killed", "stopped.killed"),
        ("12:00:00 warning: read 0a1b: no progress for 6 s; its process is killed", "stopped.gone"),
        ("", "stopped.gone"),
    ],
)
def test_only_a_driver_that_says_so_has_killed_who_was_stopped(
    cluster: Any, worker: Any, told: str, count: str
) -> None:
    """Ray kills workers as well, when their driver ends."""
    zombies = stopped(cluster, worker)
    worker.kill()
    assert until(lambda: gone(worker.pid), 30)
    zombies.come_back([run(0, told)])
    assert zombies.counts == {count: 1}


@pytest.mark.parametrize("worker", [BUSY], indirect=True)
def test_a_machine_stays_stopped_until_a_run_has_ended_well(
    cluster: Any, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that were killed leave its work undone."""
    with subprocess.Popen([sys.executable, "-c", IDLE]) as raylet:
        monkeypatch.setattr(module, "parent_of", lambda _: raylet.pid)
        cluster.nodes, cluster.give_up = [raylet.pid], lambda _: None
        zombies = Zombies(Counter())
        zombies.stop(cluster, caught(cluster, worker), "encoding", [], machine=True)
        zombies.come_back([run(4)])
        assert zombies.counts == {}
        raylet.kill()  # or it would be waited for
        zombies.come_back([run(0)])
    assert zombies.counts["zombies"] == 1
