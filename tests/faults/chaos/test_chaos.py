"""Processes of a real Ray cluster are killed and stopped; the output must be right afterwards, and at every moment before."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from faults.chaos.cluster import Cluster
from faults.chaos.processes import gone, until
from faults.chaos.round import ZERO, Clusters, Round
from faults.chaos.strikes import HOLDER, Fault
from faults.chaos.watch import Watch
from faults.sweep.places import Place, open_place

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]  # seconds, on a busy machine
FILES, ROWS = 6, 1600
OVER = """
import sys
from pipeline.cli.terminal import leave
from pipeline.config.schema import Execution
from pipeline.flow.ray_engine import RayEngine

engine = RayEngine(Execution(address=sys.argv[1]))
print("over", flush=True)
sys.stdin.readline()
engine.close()
leave(0)
"""


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    """What was done to whom stands beside a failure: it can't be done again in the same order."""
    caplog.set_level("INFO")


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    made = Clusters()
    yield made
    made.close()


@pytest.fixture
def tiny_cluster() -> Iterator[Cluster]:
    """One that may be ruined."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(getattr(request, "param", "local"), tmp_path) as opened:
        yield opened


@pytest.fixture
def round_(clusters: Clusters, place: Place, tmp_path: Path, tiny_model: str) -> Round:
    """An output of which nothing is there yet, and its input."""
    made = Round(clusters, tmp_path / "round", place.root("out"), tiny_model, place.settings)
    made.world.begin(FILES, ROWS)
    return made


def assert_all_well(round_: Round, watch: Watch) -> None:
    """What must be zero is zero, and the reader has seen something."""
    round_.judge()
    counts = round_.counts + watch.counts
    assert {name: counts[name] for name in ZERO} == dict.fromkeys(ZERO, 0)
    assert counts["rows"] == round_.world.rows
    assert counts["versions"] >= 1
    assert counts["polls"] >= 10


def test_each_kind_of_process_is_killed_in_its_phase(round_: Round) -> None:
    """Each before anybody could come by the next place, and the machine last: who is caught on it dies with it, and the few units
    of this round may all have come by that place before another trap is there."""
    faults = [
        Fault("planning", "after plan_now"),
        Fault("reading", "after Reading._prepare"),
        Fault("encoding", "after begin_attempt"),
        Fault("staging", "after create_file"),
        Fault("staging", "before commit_unit", "board"),
        Fault("assembling", "after create_file"),
        Fault("assembling", "before commit_file", "raylet"),
        Fault("publishing", "after encode_manifest"),
    ]
    with round_.watch() as watch:
        assert round_.publish(faults)
    assert {phase for phase in HOLDER if round_.counts[f"kills.{phase}"]} == set(HOLDER)
    assert {name for name in (*HOLDER.values(), "raylet", "board") if not round_.counts[f"victim.{name}"]} == set()
    assert_all_well(round_, watch)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_worker_that_comes_back_when_all_is_published_changes_nothing(round_: Round) -> None:
    """One was stopped with its machine, so nobody could kill it; another one is killed by the watchdog, or by Ray when the run is
    over: the board that knew of it may have been on that machine."""
    with round_.watch() as watch, round_.collecting():
        assert round_.publish(
            [
                Fault("encoding", "after begin_attempt", manner="stop"),
                Fault("staging", "before create_file", manner="part"),
            ]
        )
    assert round_.counts["zombies"] >= 1
    stopped = ("zombies", *(f"stopped.{end}" for end in ("killed", "gone", "idle")))
    assert sum(round_.counts[name] for name in stopped) == 2
    assert round_.counts["zombies.steps"] >= 1
    assert_all_well(round_, watch)


def test_a_driver_that_was_stopped_while_another_did_its_work_ends_well(round_: Round) -> None:
    with round_.watch() as watch:
        assert round_.publish([Fault("publishing", "before publish", manner="overtake")])
    assert round_.counts["zombies.driver"] == 1
    assert round_.counts["exits.0"] == 2
    assert_all_well(round_, watch)


def test_two_drivers_at_once_with_two_specs_publish_whole_snapshots(round_: Round) -> None:
    """Each may replace the other's. Two drivers of one spec share the work: in the soak, and without Ray in test_kill."""
    with round_.watch() as watch:
        round_.compete()
        assert round_.counts["exits.0"] >= 1
        assert round_.publish([], "--replace")
    assert_all_well(round_, watch)


def test_a_cluster_that_lost_its_head_is_left_and_another_one_goes_on(round_: Round) -> None:
    with round_.watch() as watch:
        assert round_.publish([Fault("staging", "after commit_unit", "gcs")])
    assert round_.counts["victim.gcs"] == 1
    assert_all_well(round_, watch)
    assert_a_broken_output_is_noticed(round_)


def test_a_run_that_is_over_when_the_cluster_dies_ends_as_it_should(tiny_cluster: Cluster) -> None:
    """Ray would wait for its control service and then end the process, with the code of a bug, after all was published."""
    command = [sys.executable, "-c", OVER, tiny_cluster.address]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=tiny_cluster.environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "over\n"
        assert tiny_cluster.strike(tiny_cluster.gcs, signal.SIGKILL)
        assert until(lambda: gone(tiny_cluster.gcs), 30)
        run.communicate("\n")
    assert run.returncode == 0


def assert_a_broken_output_is_noticed(round_: Round) -> None:
    """The reader and the judge would have seen it."""
    output = Path(round_.output)
    watch = round_.watch()
    assert watch.look() == ""
    (output / "_embedpipe/part/00").mkdir(parents=True)
    (output / "_embedpipe/part/00/left").touch()
    assert round_.leftovers() == ["_embedpipe/part/00/left"]
    data = sorted(output.glob("data/*.parquet"))
    data[0].rename(tmp := output / "aside")
    assert watch.look().endswith(f"{data[0].relative_to(output)} gone")
    assert round_.watch().look().endswith(f"{data[0].relative_to(output)} gone")
    shutil.copy(tmp, data[0])
    assert watch.look().endswith(f"{data[0].relative_to(output)} changed")
    shutil.rmtree(output / "_embedpipe/log")
    assert watch.look() == "version none after version 1"
