"""Who is struck, where several could be; without a cluster."""

import os
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults.chaos.cluster import Cluster
from faults.chaos.striker import Caught, Striker
from faults.chaos.strikes import Fault

JOB_OF = {
    1: "01000000",
    2: "02000000",
    11: "01000000",
    12: "02000000",
    21: "01000000",
    22: "02000000",
    3: "",
    4: "04000000",
}
DRIVERS, BOARDS = (1, 2), (11, 12)


@pytest.fixture
def striker() -> Striker:
    boards = [SimpleNamespace(id=board) for board in BOARDS]
    cluster: Any = SimpleNamespace(job_of=JOB_OF.get, processes=lambda _: boards)
    return Striker(cluster, Counter())


def victim(striker: Striker, kind: str, caught: int, over: tuple[int, ...] = ()) -> int | None:
    drivers: Any = [SimpleNamespace(id=driver, code=0 if driver in over else None) for driver in DRIVERS]
    return striker._victim(Fault("staging", "before commit_unit", kind), Caught(Path(), caught), drivers)


def test_of_two_drivers_the_one_dies_whose_worker_is_in_that_phase(striker: Striker) -> None:
    assert [victim(striker, "driver", worker) for worker in (21, 22)] == [1, 2]
    assert victim(striker, "driver", 22, over=(2,)) is None, "the other one is elsewhere"
    assert victim(striker, "driver", 3) == 1, "it can't be told"


def test_of_two_boards_the_one_dies_that_knows_of_who_was_caught(striker: Striker) -> None:
    assert [victim(striker, "board", caught) for caught in (21, 22, 2)] == [11, 12, 12]
    assert [victim(striker, "board", caught) for caught in (3, 4)] == [None, None], "it has none"


def test_a_trap_is_set_again_when_who_was_caught_dies_of_something_else(tmp_path: Path) -> None:
    """With its machine, for one. Nobody would be struck there any more, in a run that has few units left."""
    cluster: Any = SimpleNamespace(traps=tmp_path)
    striker = Striker(cluster, Counter())
    fault, other = Fault("encoding", "after begin_attempt"), Fault("staging", "after create_file")
    striker.set([fault, other])
    process = subprocess.Popen(["sleep", "60"])
    held = tmp_path / f"held {process.pid} encoding after begin_attempt"
    (tmp_path / "encoding after begin_attempt").rename(held)
    process.kill()
    process.wait()
    assert striker.catch([fault, other], over=lambda: True) is None
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "encoding after begin_attempt",
        "staging after create_file",
    ]


def test_a_trap_that_has_caught_is_set_once_more_for_another_fault_at_its_place(tmp_path: Path) -> None:
    cluster: Any = SimpleNamespace(traps=tmp_path)
    striker = Striker(cluster, Counter())
    faults = [Fault("staging", "after create_file"), Fault("staging", "after create_file", "board")]
    striker.set(faults)
    trap = tmp_path / "staging after create_file"
    trap.rename(tmp_path / f"held {os.getpid()} staging after create_file")
    found = striker.catch(faults, over=lambda: True)
    assert found is not None
    assert not trap.exists(), "nobody else is held meanwhile"
    found[1].let_go()
    striker.catch(faults[1:], over=lambda: True)
    assert trap.exists()


def test_logs_tell_whose_job_a_process_is_of(tmp_path: Path) -> None:
    cluster: Any = SimpleNamespace(folder=tmp_path)
    logs = tmp_path / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "python-core-driver-02000000ffff_8.log").touch()
    (logs / "worker-0a1b-03000000-9.out").touch()
    assert [Cluster.job_of(cluster, process) for process in (7, 8, 9)] == ["", "02000000", "03000000"]
