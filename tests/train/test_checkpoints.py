"""Checkpoints: one that isn't as it was written gives another model, or a crash for ever."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.config.training import Training
from pipeline.errors import StorageError
from pipeline.train.checkpoints import SEAL, last_whole, name_of, remove_all, seal
from pipeline.train.records import Step
from pipeline.train.trainer import train_model


class Killed(BaseException):
    """As if the process were."""


def kill_after(step: int) -> Callable[[Step], None]:
    def report(point: Step) -> None:
        if point.step > step:
            raise Killed

    return report


def write(folder: Path, step: int) -> Path:
    checkpoint = folder / name_of(step)
    for name in ("model.safetensors", "optimizer.pt", "1_Pooling/config.json"):
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_text(f"{name} after {step}")
    seal(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda made: (made / "optimizer.pt").unlink(), "optimizer.pt is missing, or not as it was written"),
        (lambda made: (made / "model.safetensors").write_text("m"), "model.safetensors is missing, or not"),
        (lambda made: (made / "1_Pooling" / "config.json").write_text("{}"), "1_Pooling/config.json is missing, or not"),
        (lambda made: (made / "more.pt").write_text(""), "more.pt is missing, or not"),
        (lambda made: (made / SEAL).unlink(), "it was not written to its end"),
        (lambda made: (made / SEAL).write_text("{"), "it can't be read"),
    ],
)  # fmt: skip
def test_the_one_before_a_damaged_checkpoint_is_gone_on_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], said: str
) -> None:
    older, newer = write(tmp_path, 9), write(tmp_path, 10)
    assert last_whole(tmp_path) == newer
    damage(newer)
    assert last_whole(tmp_path) == older
    assert f"checkpoint-10 is passed over: {said}" in caplog.text
    assert not newer.exists()


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    for name in ("checkpoint-best", "checkpoint-", "mine"):
        (tmp_path / name).mkdir()
    write(tmp_path, 3)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-3"
    remove_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-", "checkpoint-best", "mine"]
    assert last_whole(tmp_path / "nowhere") is None


def test_without_its_optimizer_a_checkpoint_does_not_make_another_model(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The trainer takes one without, and begins AdamW's means anew."""
    schedule = training.schedule.model_copy(update={"epochs": 3})
    whole = training.model_copy(update={"schedule": schedule, "output": str(tmp_path / "whole")})
    train_model(whole, lambda _: None)
    killed = whole.model_copy(update={"output": str(tmp_path / "killed")})
    with pytest.raises(Killed):
        train_model(killed, kill_after(20))
    (tmp_path / "killed" / "checkpoints" / "checkpoint-20" / "optimizer.pt").unlink()
    assert train_model(killed, lambda _: None).steps_before == 10
    assert "checkpoint-20 is passed over: optimizer.pt is missing" in caplog.text
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=1e-6)


def test_a_checkpoint_that_these_libraries_do_not_load_is_named(training: Training, tmp_path: Path) -> None:
    """Written by another version of torch, say: whole, and yet of no use here."""
    with pytest.raises(Killed):
        train_model(training, kill_after(10))
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-10"
    (checkpoint / "optimizer.pt").write_bytes(b"of another format")
    seal(checkpoint)
    with pytest.raises(StorageError, match=r"checkpoint-10: it can't be gone on from .*remove it to go on from"):
        train_model(training, lambda _: None)


def test_a_disk_that_is_full_is_told_and_training_goes_on_afterwards(recipe: dict[str, Any], tmp_path: Path) -> None:
    """safetensors and torch have errors of their own for that, which would be taken for a bug of this program."""
    recipe["schedule"] |= {"epochs": 1, "checkpoint_steps": 4}
    del recipe["evaluation"]
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    train = [sys.executable, "-m", "pipeline", "train", "-c", str(tmp_path / "train.yaml")]
    for kib in (64, 150):  # less than model.safetensors has; more, but less than optimizer.pt
        limited = ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *train]
        full = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert full.returncode == 4, full.stderr
        assert "it can't be written (" in full.stderr
        assert "is passed over" not in full.stderr
    done = subprocess.run(train, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-4 is passed over: it was not written to its end" in done.stderr
