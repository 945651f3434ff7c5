"""The config or the surroundings change between a run that was killed and the next: what decides a row is another spec, and
what doesn't changes nothing and keeps what is committed."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from faults import oracle
from faults.encoder import EXIT
from faults.ground.model import save_letters
from faults.ground.running import Outcome, config_of, exact, run
from faults.ground.scenarios import (
    OTHER_SPEC,
    SAME_SPEC,
    Ground,
    config_changes,
    dtype_changes,
    formats,
    interrupted,
)
from faults.ground.world import World, clear
from faults.hooks import environment
from support.jobs import make_config, text_of, write_jsonl

from pipeline.errors import RefusedError
from pipeline.flow.status import read_status

RUN = Path(__file__).parents[2] / "support" / "run_job.py"
MIDDLE = 130  # of what a run asks of disk and model
OTHER: Mapping[str, Mapping[str, Any]] = {
    **OTHER_SPEC,
    "another text column": {"input__text": "id"},
    "a template": {"input__text": None, "input__template": "{text}"},
    "a prompt": {"model__prompt": "query: "},
    "partitions": {"output__partition_by": ["lang"]},
    "kept columns": {"input__keep": ["lang"]},
    "generated ids": {"input__id": None},
}
SAME: Mapping[str, Mapping[str, Any]] = {
    **SAME_SPEC,
    "another root": {"input__root": "/"},
    "the files one by one": {"input__paths": None},
}


def killed(ground: Ground, kind: str = "jsonl", **changes: Any) -> tuple[World, int]:
    """A run that ended in its middle, and how many units it left committed."""
    world = ground.world(kind)
    for name in ("a", "b", "c"):  # bigger, and with a language
        write_jsonl(Path(world.place.path, f"{name}.jsonl"), range(ord(name) * 1000, ord(name) * 1000 + 240))
    _, struck = interrupted(config_of(world, ground.output, ground.model, **changes), MIDDLE)
    assert struck
    units = list(Path(ground.output, "_embedpipe", "unit").rglob("*.json"))
    assert 0 < len(units) < 12
    return world, len(units)


def texts() -> dict[str, str]:
    return {f"id-{row}": text_of(row) for name in "abc" for row in range(ord(name) * 1000, ord(name) * 1000 + 240)}


@pytest.mark.parametrize("change", OTHER)
def test_a_setting_that_decides_rows_makes_another_spec(ground: Ground, change: str) -> None:
    """Nothing of the killed run's is used, and once one spec is published the other one is refused."""
    world, _ = killed(ground)
    other = config_of(world, ground.output, ground.model, **OTHER[change])
    outcome = run(other)
    assert outcome.code == 0, outcome
    assert outcome.summary is not None
    assert outcome.summary.units_encoded == outcome.summary.units
    assert outcome.summary.rows == 720
    refused = run(config_of(world, ground.output, ground.model))
    assert refused.code == RefusedError.exit_code
    assert "another spec" in refused.message


@pytest.mark.parametrize("change", SAME)
def test_a_setting_that_decides_nothing_keeps_what_is_committed(ground: Ground, change: str) -> None:
    world, committed = killed(ground)
    changes = dict(SAME[change])
    if "input__paths" in changes:
        changes["input__paths"] = [f"{world.place.path}/{name}.jsonl" for name in "cab"]
    outcome = run(config_of(world, ground.output, ground.model, **changes))
    assert outcome.code == 0, outcome
    assert outcome.summary is not None
    assert outcome.summary.units_encoded == outcome.summary.units - committed
    assert oracle.check(ground.output, texts(), ground.model).right


def test_another_model_under_the_same_name_is_another_spec(ground: Ground) -> None:
    world, _ = killed(ground)
    other = save_letters(ground.folder / "other", seed=7)
    outcome = run(config_of(world, ground.output, other))
    assert outcome.summary is not None
    assert outcome.summary.units_encoded == outcome.summary.units
    refused = run(config_of(world, ground.output, ground.model))
    assert refused.code == RefusedError.exit_code
    assert "different model" in refused.message


def test_a_root_that_generated_ids_are_made_from_is_part_of_what_a_row_is(ground: Ground) -> None:
    world, _ = killed(ground, input__id=None)
    config = config_of(world, ground.output, ground.model, input__id=None, input__root=str(ground.folder))
    outcome = run(config)
    assert outcome.summary is not None
    assert outcome.summary.units_encoded == outcome.summary.units
    output = oracle.reader(ground.output)
    entry = oracle.newest(output)
    assert entry is not None
    assert all(row.startswith("in/") for row, _ in oracle.published(output, entry))


def test_half_in_bfloat16_and_half_in_float32_is_told_for_each_unit(ground: Ground) -> None:
    """`gated` leaves the number format to the machine, and the next machine may be another one."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    _, struck = interrupted(config, MIDDLE, dtype="bfloat16")
    assert struck
    outcome = run(config, dtype="float32")
    assert outcome.code == 0, outcome
    assert exact(config, world, ground.model).right
    assert formats(ground.output) == {"bfloat16", "float32"}
    assert outcome.summary is not None
    for messages in (outcome.summary.messages, read_status(ground.output).messages):
        assert any("computed in bfloat16" in text and "and float32" in text for text in messages)


@pytest.mark.parametrize("moment", [40, MIDDLE, 225])
def test_what_the_soak_does_at_any_moment(ground: Ground, moment: int) -> None:
    """At the last one the first run has published already."""
    change = next(iter(OTHER_SPEC if moment > MIDDLE else SAME_SPEC))
    proof = config_changes(ground, "jsonl", change, moment)
    assert proof.struck
    assert proof.right, proof
    clear(Path(ground.output))
    proof = dtype_changes(ground, moment)
    assert proof.struck
    assert proof.right, proof


def test_a_number_format_that_nobody_is_told_of_is_a_finding(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.flow.supervisor.mixed_formats", lambda _: ())
    proof = dtype_changes(ground, MIDDLE)
    assert proof.untold
    assert not proof.right


def test_hash_seed_locale_time_zone_folder_and_umask_change_nothing(tmp_path: Path, letters: str) -> None:
    """Killed as one user would run it, and run again as another one would, by another path to the same input."""
    write_jsonl(tmp_path / "in" / "a.jsonl", range(400))
    write_jsonl(tmp_path / "in" / "b.jsonl", range(400, 440))
    with (tmp_path / "in" / "b.jsonl").open("a") as file:
        file.write('{"id": "id-440", "text": "zyzzyva"}\n')
    config = make_config("in", "out", letters, units__rows=100)
    first = {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "FAULTS_POISON": '{"zyzzyva": "exit"}'}
    killed_run = _subprocess(config.model_dump_json(), tmp_path, 0o022, first)
    assert killed_run.returncode == EXIT
    # in the store, not in what it printed: it may have died between a commit and the word of it
    committed = len(list(Path(tmp_path, "out", "_embedpipe", "unit").rglob("*.json")))
    (tmp_path / "elsewhere").mkdir()
    moved = make_config("../in", "../out", letters, units__rows=100)
    then = {"PYTHONHASHSEED": "2", "TZ": "America/Los_Angeles", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = _subprocess(moved.model_dump_json(), tmp_path / "elsewhere", 0o077, then)
    assert done.returncode == 0, done.stderr
    assert committed + done.stdout.count("unit ") == 5
    expected = {f"id-{row}": text_of(row) for row in range(440)} | {"id-440": "zyzzyva"}
    assert oracle.check(str(tmp_path / "out"), expected, letters).right


def _subprocess(config: str, folder: Path, umask: int, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(RUN), config],
        env=environment("faults.encoder", **settings), cwd=folder, umask=umask, capture_output=True, text=True,
    )  # fmt: skip


def test_an_output_that_was_moved_is_whole_and_goes_on(ground: Ground) -> None:
    """Keys are relative: the folder may be renamed between any two runs."""
    world, committed = killed(ground)
    moved = ground.folder / "moved"
    Path(ground.output).rename(moved)
    outcome: Outcome = run(config_of(world, str(moved), ground.model))
    assert outcome.summary is not None
    assert outcome.summary.units_encoded == outcome.summary.units - committed
    moved.rename(ground.output)
    again = run(config_of(world, ground.output, ground.model))
    assert again.summary is not None
    assert not again.summary.published
    assert oracle.check(ground.output, texts(), ground.model).right
