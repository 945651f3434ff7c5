"""A training's directory: whose it is, what it replaces, and when it has ended."""

import errno
import fcntl
import json
import logging
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.models import make_transformer

from pipeline.config.training import Architecture, Training
from pipeline.errors import ConfigError, RefusedError, StorageError
from pipeline.train.lock import locked
from pipeline.train.records import Step, Trained
from pipeline.train.submit import portable
from pipeline.train.trainer import train_model

HOLD = """
import sys
from pathlib import Path
from pipeline.train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def short(training: Training) -> Training:
    """A training of six steps."""
    schedule = training.schedule.model_copy(update={"epochs": 1, "steps_per_epoch": 6, "checkpoint_steps": 4})
    return training.model_copy(update={"schedule": schedule})


def quiet(_: Step) -> None:
    pass


def nothing(_: Step) -> None:
    raise AssertionError("it is done again")


def edit(path: Path, without: str = "", **changes: Any) -> None:
    """Keys of a JSON object."""
    value = json.loads(path.read_text()) | changes
    value.pop(without, None)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", ["model/precious.txt", "checkpoints/mine/p.bin", "result.json", "curve.json"])
def test_what_a_user_has_of_those_names_is_never_replaced(short: Training, tmp_path: Path, name: str) -> None:
    """`output: .` in a project with a folder called model would end with that folder gone."""
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RefusedError, match=f"holds {name.partition('/')[0]}, but no training.json"):
        train_model(short, nothing)
    assert mine.read_text() == "mine"


def test_what_a_user_has_put_beside_the_checkpoints_stays(short: Training, tmp_path: Path) -> None:
    """A `checkpoint-best` has no number of steps."""
    mine = tmp_path / "out" / "checkpoints" / "checkpoint-best" / "p.bin"

    def put(point: Step) -> None:
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_text("mine")

    train_model(short, put)
    assert mine.read_text() == "mine"
    assert [path.name for path in mine.parents[1].iterdir()] == ["checkpoint-best"]


@pytest.mark.parametrize(("base", "output"), [("o/model", "o"), ("o", "o/out"), ("o", "o")])
def test_a_base_and_an_output_that_lie_in_each_other_are_refused(
    short: Training, tmp_path: Path, base: str, output: str
) -> None:
    """The base would be overwritten by what is made from it, or be another one the next time."""
    make_transformer(tmp_path / base, "roberta")
    before = sorted(tmp_path.rglob("*"))
    wanted = {"output": str(tmp_path / output), "model": Architecture(base=str(tmp_path / base))}
    with pytest.raises(ConfigError, match="lie one in the other"):
        train_model(short.model_copy(update=wanted), nothing)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_process_that_trains_there_is_named_and_its_death_ends_its_claim(
    short: Training, tmp_path: Path
) -> None:
    """Two in one directory would both end well, with the model of a third training."""
    lock = tmp_path / "out" / ".training.lock"
    lock.parent.mkdir()
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        whose = f"process {holder.pid} on {re.escape(platform.node())}"
        with pytest.raises(RefusedError, match=f"another process trains there \\({whose}"):
            train_model(short, nothing)
        os.kill(holder.pid, signal.SIGKILL)
    assert train_model(short, quiet).steps == 6


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some network file systems; refusing would leave no way to train there."""

    def none(file: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock"):
        assert "has no locks (No locks available)" in caplog.text


@pytest.fixture
def ended(short: Training) -> Trained:
    """What six steps gave, in `out`."""
    return train_model(short, quiet)


def test_a_result_of_another_version_is_refused_and_its_model_stays(
    short: Training, ended: Trained, tmp_path: Path
) -> None:
    """Hours of training would be done again, and the model that is in use replaced."""
    weights = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    edit(tmp_path / "out" / "result.json", something_new=1)
    assert train_model(short, nothing) == ended
    edit(tmp_path / "out" / "result.json", without="parameters")
    with pytest.raises(RefusedError, match=r"not as this version .*`parameters`.* the model is .*out/model"):
        train_model(short, nothing)
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == weights


def test_without_its_curve_an_ended_training_is_still_no_other_one(
    short: Training, ended: Trained, tmp_path: Path
) -> None:
    """Its result would be given out as the other recipe's."""
    (tmp_path / "out" / "curve.json").unlink()
    assert train_model(short, nothing) == ended
    other = short.model_copy(update={"loss": short.loss.model_copy(update={"margin": 2.0})})
    with pytest.raises(RefusedError, match=r"another training: loss\.margin differ"):
        train_model(other, nothing)


def test_a_result_that_is_of_another_training_is_refused(short: Training, ended: Trained, tmp_path: Path) -> None:
    edit(tmp_path / "out" / "result.json", training="0" * 64)
    with pytest.raises(RefusedError, match=r"result\.json is not of this training"):
        train_model(short, nothing)


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_model_that_is_gone_is_told(short: Training, ended: Trained, tmp_path: Path, left: str) -> None:
    """Neither taken for finished, nor silently trained again."""
    (tmp_path / "out" / "model").rename(tmp_path / "moved")
    if left == "an empty folder":
        (tmp_path / "out" / "model").mkdir()
    with pytest.raises(RefusedError, match="model is gone or no model any more"):
        train_model(short, nothing)


def test_a_model_without_a_result_is_not_replaced(short: Training, ended: Trained, tmp_path: Path) -> None:
    (tmp_path / "out" / "result.json").unlink()
    with pytest.raises(RefusedError, match=r"model is there, but no result\.json"):
        train_model(short, nothing)
    assert (tmp_path / "out" / "model" / "modules.json").exists()


def test_an_output_that_was_moved_tells_where_its_model_is_now(short: Training, ended: Trained, tmp_path: Path) -> None:
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    moved = train_model(short.model_copy(update={"output": str(tmp_path / "elsewhere")}), nothing)
    assert moved.model == str(tmp_path / "elsewhere" / "model")


@pytest.mark.parametrize("text", ["[]", "{", '{"epochs": 3}'])
def test_a_training_json_of_something_else_is_refused(short: Training, tmp_path: Path, text: str) -> None:
    path = tmp_path / "out" / "training.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RefusedError, match=r"training\.json .*; choose another output"):
        train_model(short, nothing)
    assert path.read_text() == text


def test_killed_before_the_model_had_its_name_it_is_finished(short: Training, ended: Trained, tmp_path: Path) -> None:
    (tmp_path / "out" / "model").rename(tmp_path / "out" / "model.draft")
    assert train_model(short, nothing) == ended
    assert (tmp_path / "out" / "model" / "modules.json").exists()


def test_killed_after_the_last_step_only_the_end_is_done_again(short: Training, tmp_path: Path) -> None:
    draft = tmp_path / "out" / "model.draft"

    def stand_in_its_way(point: Step) -> None:
        if point.step:
            draft.write_text("")

    with pytest.raises(StorageError, match=r"model\.draft: .*goes on from its last checkpoint"):
        train_model(short, stand_in_its_way)
    draft.unlink()
    points: list[Step] = []
    trained = train_model(short, points.append)
    assert (trained.steps, trained.steps_before, points) == (6, 6, [])


def test_a_place_that_cannot_be_written_is_told(short: Training, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/out: Not a directory; mend that"):
        train_model(short.model_copy(update={"output": str(tmp_path / "file" / "out")}), nothing)


def test_a_training_goes_on_where_another_name_of_its_base_is_seen(
    short: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun here with a relative name and sent to a cluster; what counts is what the base is."""
    make_transformer(tmp_path / "base", "roberta")
    monkeypatch.chdir(tmp_path)
    here = short.model_copy(update={"model": Architecture(base="base")})
    first = train_model(here, quiet)
    assert train_model(portable(here), nothing) == first
    make_transformer(tmp_path / "base", "roberta", seed=1)
    with pytest.raises(RefusedError, match=r"another training: model\.base differ"):
        train_model(here, nothing)


def test_an_output_that_is_the_working_directory_has_a_name_on_its_card(
    short: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    train_model(short.model_copy(update={"output": "."}), quiet)
    assert "\n# mine\n" in (tmp_path / "mine" / "model" / "README.md").read_text()
