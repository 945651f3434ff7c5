"""A training run on a real cluster: a Ray head with dashboard and token, on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Head, ray_head

from jobs.train import main
from pipeline.config.training import Training
from pipeline.errors import ConfigError
from pipeline.train.submit import portable, submit_training

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("home")) as started:
        yield started


def test_a_recipe_that_is_sent_trains_over_there(head: Head, recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["schedule"]["epochs"] = 1
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    command = [
        sys.executable, "-m", "jobs.train", "--config", "train.yaml", "--address", head.dashboard,
        "--set", "schedule.batch_size=32",
    ]  # fmt: skip
    environment = {**head.environment, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "submitted as raysubmit_" in done.stdout
    assert f"{tmp_path}/out/model: 153 dimensions" in done.stdout
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["steps"] == 192 // 32
    assert (tmp_path / "out" / "model" / "modules.json").is_file()


def test_a_recipe_that_is_wrong_is_told_here(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not minutes later, over there."""
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    wrong = ["--config", str(tmp_path / "train.yaml"), "--address", "http://127.0.0.1:1", "--set", "schedule.epoch=3"]
    assert main(wrong) == 2
    assert "did you mean schedule.epochs?" in capsys.readouterr().err


def test_a_gpu_that_is_wanted_must_be_asked_for(training: Training) -> None:
    """Ray hides its GPUs from a command that asks for none."""
    wanted = training.model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match="say --gpus 1"):
        submit_training(wanted, "http://127.0.0.1:1", show=lambda _: None)


def test_places_are_the_same_from_another_working_directory(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    here = training.model_copy(
        update={
            "output": "out",
            "model": training.model.model_copy(update={"base": "base"}),
            "pairs": training.pairs.model_copy(update={"paths": ("pairs/*.jsonl", "s3://bucket/pairs/")}),
        }
    )
    there = portable(here)
    assert there.output == f"{tmp_path}/out"
    assert there.model.base == f"{tmp_path}/base"
    assert there.pairs.paths[0] == f"{tmp_path}/pairs/*.jsonl"
    assert there.pairs.paths[1].startswith("s3://bucket/pairs")
