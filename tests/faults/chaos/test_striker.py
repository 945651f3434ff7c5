"""Who is struck, where several could be; without a cluster."""

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


def test_logs_tell_whose_job_a_process_is_of(tmp_path: Path) -> None:
    cluster: Any = SimpleNamespace(folder=tmp_path)
    logs = tmp_path / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "python-core-driver-02000000ffff_8.log").touch()
    (logs / "worker-0a1b-03000000-9.out").touch()
    assert [Cluster.job_of(cluster, process) for process in (7, 8, 9)] == ["", "02000000", "03000000"]
