"""The clock, the input's listing and the output's folder are not what they were."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from faults.ground.running import config_of, exact, mixed, run, settle
from faults.ground.scenarios import Ground, clock_jumps, output_goes
from support.rights import without_rights

from pipeline.errors import InputError, RefusedError, StorageError
from pipeline.storage.faults import translate

DAY = 86_400.0


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_a_clock_that_is_a_day_off_changes_nothing(ground: Ground, seconds: float) -> None:
    proof = clock_jumps(ground, seconds, 150)
    assert proof.struck
    assert proof.right, proof
    assert proof.again.summary is not None
    assert 0 < proof.again.summary.units_encoded < proof.again.summary.units, "committed work was not reused"


def test_a_source_whose_files_are_from_the_future_or_the_past_is_read_as_any_other(ground: Ground) -> None:
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    os.utime(f"{world.place.path}/a.jsonl", (0, 0))
    os.utime(f"{world.place.path}/b.jsonl", (4e9, 4e9))
    assert run(config).code == 0
    assert exact(config, world, ground.model).right
    again = run(config)
    assert again.summary is not None
    assert not again.summary.published


def test_a_store_that_finds_this_clock_wrong_is_understood() -> None:
    """It answers 403, which otherwise speaks of permissions."""
    said = {"Code": "RequestTimeTooSkewed", "Message": "The difference between the request time and now is too large."}
    error = ClientError({"Error": said, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")
    found = translate(error, "reading", "s3://bucket/key")
    assert found.exit_code == StorageError.exit_code
    assert "clock" in found.message


def test_a_pattern_that_matches_nothing_any_more_is_refused(ground: Ground) -> None:
    world = ground.world("csv")
    config = config_of(world, ground.output, ground.model, input__paths=[f"{world.place.path}/*.csv"])
    assert run(config).code == 0
    for path in Path(world.place.path).iterdir():
        path.rename(path.with_suffix(".bak"))
    outcome = run(config, allow_drop=True)
    assert outcome.code == InputError.exit_code
    assert "matches no file" in outcome.message
    for path in Path(world.place.path).iterdir():
        path.rename(path.with_suffix(".csv"))
    assert run(config).code == 0
    assert exact(config, world, ground.model).right


def test_a_listing_that_shrinks_is_refused_until_it_is_meant(ground: Ground) -> None:
    world = ground.world("csv")
    config = config_of(world, ground.output, ground.model)
    assert run(config).code == 0
    world.change("remove")
    refused = run(config)
    assert refused.code == RefusedError.exit_code
    assert "--allow-drop" in refused.message
    assert settle(config, world, ground.model)[1].right


@pytest.mark.parametrize("what", ["b.jsonl", ""])
def test_an_input_that_may_not_be_read_is_named_and_read_once_it_may(ground: Ground, what: str) -> None:
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    assert run(config).code == 0  # all that the program loads on its way is loaded now
    world.change("replace")
    for folder in (ground.folder, *ground.folder.parents):
        if folder != folder.parent and folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o777)
    subprocess.run(["chmod", "-R", "a+rwX", ground.output, ground.model], check=True)
    Path(ground.model).parent.chmod(0o755)
    path = Path(world.place.path, what)
    with without_rights(path):
        outcome = run(config)
    assert outcome.code == InputError.exit_code, outcome
    assert str(path) in outcome.message
    assert "permission denied" in outcome.message
    assert run(config).code == 0
    assert exact(config, world, ground.model).right


@pytest.mark.parametrize("moment", [60, 140, 200])
def test_an_output_that_is_taken_away_under_the_run_is_made_anew(ground: Ground, moment: int) -> None:
    proof = output_goes(ground, moment)
    assert proof.struck
    assert proof.right, proof


def test_an_output_on_a_read_only_file_system_is_told_and_stands(ground: Ground) -> None:
    world = ground.world("csv")
    config = config_of(world, ground.output, ground.model)
    assert run(config).code == 0
    world.change("replace")
    if subprocess.run(["mount", "--bind", "-o", "ro", ground.output, ground.output], capture_output=True).returncode:
        pytest.skip("mounting isn't allowed here")
    try:
        outcome = run(config)
    finally:
        subprocess.run(["umount", ground.output], check=True)
    assert outcome.code == StorageError.exit_code, outcome
    assert "read-only" in outcome.message
    assert not mixed(config, world, ground.model)
    assert settle(config, world, ground.model)[1].right


def test_an_output_that_was_copied_is_an_output(ground: Ground) -> None:
    world = ground.world("csv")
    config = config_of(world, ground.output, ground.model)
    assert run(config).code == 0
    copied = ground.folder / "copied"
    shutil.copytree(ground.output, copied)
    there = config_of(world, str(copied), ground.model)
    again = run(there)
    assert again.summary is not None
    assert not again.summary.published
    world.change("overwrite")
    assert settle(there, world, ground.model)[1].right
    assert exact(config, world, ground.model).mispaired, "the original has changed with its copy"
