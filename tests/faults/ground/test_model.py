"""Model files that change under a running job: either the run ends and says so, or nothing came of the change."""

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from faults.encoder import ScriptedEncoder
from faults.ground.moments import at_moment
from faults.ground.running import config_of, exact, run
from faults.ground.scenarios import Ground, change_model, model_changes

from pipeline.errors import ModelError, StorageError, TransientStorageError
from pipeline.model import inspect, resolve
from pipeline.model.resolve import ModelWatch, resolve_model

CHANGES = ("tokenizer", "weights", "card", "gone")


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("moment", [12, 60])
def test_a_model_that_changes_at_any_moment_leaves_no_vector_of_another_one(
    ground: Ground, how: str, moment: int
) -> None:
    proof = model_changes(ground, how, moment)
    assert proof.struck
    assert proof.right, proof


@pytest.mark.parametrize("how", CHANGES)
def test_a_model_that_changes_between_lock_and_load_is_refused(ground: Ground, how: str) -> None:
    """The driver has hashed its files; the worker is about to."""
    world = ground.world("jsonl")
    model = ground.folder / "model"
    shutil.copytree(ground.model, model)
    config = config_of(world, ground.output, str(model))
    locked = len(resolve_model(str(model), None, None).lock.files)
    with at_moment(locked + 1, lambda: change_model(model, how), ((inspect, "refuse_pointer"),)):
        outcome = run(config)
    assert outcome.code == ModelError.exit_code, outcome
    assert str(model) in outcome.message


@pytest.mark.parametrize("how", CHANGES)
def test_a_model_touched_under_a_running_replica_commits_nothing_from_then_on(ground: Ground, how: str) -> None:
    """Float32 weights are read from their file for as long as the replica lives: written over in place they change its
    vectors."""
    world = ground.world("jsonl")
    model = ground.folder / "model"
    shutil.copytree(ground.model, model)
    config = config_of(world, ground.output, str(model))
    with at_moment(3, lambda: change_model(model, how), ((ScriptedEncoder, "encode"),)):
        outcome = run(config)
    assert outcome.code == ModelError.exit_code, outcome
    units = [path for path in Path(ground.output, "_embedpipe", "unit").rglob("*.json") if path.is_file()]
    assert len(units) == 2
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(ground.model, model)
    again = run(config)
    assert again.summary is not None
    assert again.summary.units_encoded == again.summary.units - 2, "committed work was not reused"
    assert exact(config, world, ground.model).right


@pytest.mark.parametrize("how", CHANGES)
def test_the_watch_sees_every_touch_without_reading(ground: Ground, how: str) -> None:
    model = ground.folder / "model"
    shutil.copytree(ground.model, model)
    watch = ModelWatch(str(model), None, None)
    watch.check()
    change_model(model, how)
    with pytest.raises(ModelError, match="changed while the model was in use"):
        watch.check()


def test_a_model_that_goes_while_it_is_hashed_is_an_error_of_the_model(ground: Ground) -> None:
    model = ground.folder / "model"
    shutil.copytree(ground.model, model)
    with (
        at_moment(2, lambda: shutil.rmtree(model), ((inspect, "refuse_pointer"),)),
        pytest.raises(ModelError, match="can't be read"),
    ):
        resolve_model(str(model), None, None)


@pytest.fixture
def remote_model(s3_bucket: str, letters: str) -> str:
    """The model on the loopback S3 server."""
    import boto3

    for path in Path(letters).rglob("*"):
        if path.is_file():
            key = f"model/{path.relative_to(letters)}"
            boto3.client("s3").upload_file(str(path), s3_bucket.removeprefix("s3://"), key)
    return f"{s3_bucket}/model"


def test_a_model_cache_on_a_full_disk_is_no_fault_of_the_model(remote_model: str, tmp_path: Path) -> None:
    """Exit code 4: with space the same command goes on. Nothing half-copied is taken for the model then."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(resolve.shutil, "copyfileobj", full), pytest.raises(StorageError, match="no space left") as found:
        resolve_model(remote_model, None, str(tmp_path))
    assert "execution.model_cache" in found.value.message
    assert resolve_model(remote_model, None, str(tmp_path)).lock.files


def test_a_model_cache_that_can_not_be_made_is_named(remote_model: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match=r"cache.*execution\.model_cache"):
        resolve_model(remote_model, None, str(tmp_path / "cache"))


def test_a_store_that_is_away_while_a_model_is_staged_is_worth_another_try(remote_model: str, tmp_path: Path) -> None:
    def away(*_: object) -> None:
        raise TransientStorageError("the store is away")

    with patch.object(resolve.shutil, "copyfileobj", away), pytest.raises(TransientStorageError):
        resolve_model(remote_model, None, str(tmp_path))


def test_a_remote_model_that_changes_while_it_is_staged_is_not_laid_down(remote_model: str, tmp_path: Path) -> None:
    import boto3

    bucket, _, key = f"{remote_model}/modules.json".removeprefix("s3://").partition("/")
    copying = shutil.copyfileobj

    def change_then_copy(source: object, *rest: object) -> None:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"[]")
        copying(source, *rest)

    with patch.object(resolve.shutil, "copyfileobj", change_then_copy), pytest.raises(ModelError, match="has changed"):
        resolve_model(remote_model, None, str(tmp_path))
    assert not [path for path in (tmp_path / "models").iterdir() if path.is_dir()]
