"""How each command ends, by real situations: what an orchestrator goes by."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.jobs import glob_rows, ids, write_parquet

from .conftest import Cli, Job

SECRET = "wJalrXUtnFEMI/K7MDENG"


def flip(path: Path) -> None:
    """Damage a file in its middle; its size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_0_done_and_0_again_with_nothing_to_do(cli: Cli, job: Job) -> None:
    first = cli("run", "-c", job.file)
    assert first.code == 0
    assert "version 1 published" in first.out
    assert glob_rows(str(job.out)) == ids(range(24))
    second = cli("run", "-c", job.file)
    assert second.code == 0
    assert "version 1 stands unchanged, nothing new to publish" in second.out
    assert "this run  0 rows, 0 units" in second.out


def test_1_a_bug_says_so_without_a_traceback_unless_asked(cli: Cli, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of frames tells a user nothing, and may hold a secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"by zero, with {SECRET} and s3://me:{SECRET}x@bucket")

    monkeypatch.setattr("pipeline.flow.supervisor.run_job", fail)
    quiet = cli("run", "-c", job.file)
    assert quiet.code == 1
    assert "this is a bug in embedpipe: ZeroDivisionError: by zero" in quiet.err
    assert "Traceback" not in quiet.err
    loud = cli("--debug", "run", "-c", job.file, "--json")
    assert "Traceback" in loud.err
    assert loud.json["exit_code"] == 1
    assert SECRET not in quiet.out + quiet.err + loud.out + loud.err


def test_4_memory_that_runs_out_is_no_bug(cli: Cli, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reports it here waits for somebody else to buy memory."""

    def fail(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 49283072 failed")

    monkeypatch.setattr("pipeline.flow.supervisor.run_job", fail)
    ended = cli("run", "-c", job.file)
    assert ended.code == 4
    assert "ran out of memory (ArrowMemoryError: malloc of size 49283072 failed)" in ended.err
    assert "Run the same command again" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run"], "Missing option '--config'"),
        (["run", "-c", "JOB", "--limt", "3"], "No such option"),
        (["run", "-c", "JOB", "--limit", "0"], "--limit"),
        (["run", "-c", "none.yaml"], "none.yaml: the config can't be read: No such file or directory"),
        (["run", "-c", "JOB", "--set", "output.pth=x"], "did you mean output.path?"),
        (["plan", "-c", "JOB", "--set", "model.name=./none"], "there is no such model directory"),
        (["run", "-c", "JOB", "--set", "model.name=package:none_such"], "no package of this name"),
        (["status"], "name the output, or give the job with --config"),
        (["status", "out", "-c", "JOB"], "one of the two"),
        (["submit", "-c", "none.yaml", "--address", "http://127.0.0.1:1"], "can't be read"),
        (["submit", "-c", "JOB"], "Missing option '--address'"),
        (["submit", "-c", "JOB", "--address", "head:8265"], "did you mean http://head:8265?"),
        (["sample", "JOB"], "is a file"),
        (["sample", "JOB/below"], "job.yaml/below can't be made: Not a directory; name another directory"),
        (["convert-model", "IN", "OUT/model"], "is not a sentence-transformers model"),
        (["config", "check", "-c", "JOB", "--set", "input=7"], "input: expected a section"),
        (["files", "OUT", "--load", "oracle"], "'oracle' is not one of"),
        (["run", "-c", "JOB", "--set", "output.path=JOB/"], "is a file, where an output is a folder"),
        (["run", "-c", "JOB", "--set", "output.path=/proc/embedpipe"], "that file system takes no folders"),
        (["run", "-c", "JOB", "--set", f"output.path={'n' * 256}"], "is a name too long"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_2_the_command_or_the_config_is_wrong(cli: Cli, job: Job, arguments: list[str], said: str) -> None:
    """Told at once, with what to do, and nothing begun."""
    places = {"JOB": job.file, "IN": job.source}
    given = [
        str(places.get(argument, argument)).replace("OUT", str(job.out)).replace("JOB/", f"{job.file}/")
        for argument in arguments
    ]
    ended = cli(*given)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not job.out.exists()


@pytest.mark.parametrize("link", ["in/l.jsonl", ""])
def test_2_a_run_whose_own_events_would_be_its_input(cli: Cli, job: Job, link: str) -> None:
    """It read them, found them changed meanwhile, and was incomplete with every run."""
    events = job.file.parent / ("events.jsonl" if link else "in/events.jsonl")
    if link:
        (job.file.parent / link).symlink_to(events)
    job.change(execution__events=str(events))
    ended = cli("run", "-c", job.file)
    assert ended.code == 2
    assert "execution.events: " in ended.err
    assert not (job.out / "data").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input__text": "body"}, "body"),
        ({"input__paths": ["/nowhere/*.parquet"]}, "matches no file"),
    ],
)
def test_3_the_input_is_refused(cli: Cli, job: Job, command: str, changes: dict[str, Any], said: str) -> None:
    job.change(**changes)
    ended = cli(command, "-c", job.file)
    assert ended.code == 3
    assert said in ended.err
    assert not (job.out / "data").exists()


def test_3_a_changed_model_is_refused_until_replacing_is_asked_for(cli: Cli, own: Job) -> None:
    own.change(model__truncate_dim=8)
    refused = cli("run", "-c", own.file)
    assert refused.code == 3
    assert "--replace" in refused.err
    planned = cli("plan", "-c", own.file)
    assert "note: a run is refused" in planned.out
    assert cli("run", "-c", own.file, "--replace").code == 0
    assert glob_rows(str(own.out)) == ids(range(24))


@pytest.mark.parametrize("command", ["files", "verify", "quarantine list", "quarantine retry"])
def test_3_where_nothing_was_written_there_is_nothing_to_look_at(cli: Cli, tmp_path: Path, command: str) -> None:
    """A typo in the path must not pass for an empty result."""
    ended = cli(*command.split(), tmp_path / "typo")
    assert (ended.code, ended.out) == (3, "")
    assert "error: " in ended.err
    assert not (tmp_path / "typo").exists()


def test_4_one_file_can_not_be_read_and_0_once_it_is_mended(cli: Cli, job: Job) -> None:
    """Within the allowed share the rest is published, and the caller hears that it isn't all."""
    broken = job.source / "1.parquet"
    data = bytearray(broken.read_bytes())
    data[4:200] = os.urandom(196)
    broken.write_bytes(data)
    job.change(output__max_rejected_share=0.5)
    ended = cli("run", "-c", job.file)
    assert ended.code == 4
    assert "1 file could not be read to the end" in ended.out
    assert ended.out.count(str(broken)) == 1
    assert "mend the files named above" in ended.out
    assert "1.parquet: could not be finished" in ended.err
    assert len(glob_rows(str(job.out))) == 16
    assert str(broken) in cli("run", "-c", job.file, "--json").json["failed"]
    write_parquet(broken, range(8, 16))
    assert cli("run", "-c", job.file).code == 0
    assert glob_rows(str(job.out)) == ids(range(24))


def test_4_a_run_that_is_interrupted_says_that_running_again_goes_on(
    cli: Cli, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.flow.supervisor.run_job", interrupt)
    ended = cli("run", "-c", job.file, "--json")
    assert ended.code == 4
    assert "run again to go on" in ended.json["error"]


def test_5_more_rows_rejected_than_allowed(cli: Cli, job: Job) -> None:
    (job.source / "3.parquet").unlink(missing_ok=True)
    source = job.file.parent / "rows.jsonl"
    source.write_text('{"id": "a", "text": "fine"}\n{"id": "b", "text": null}\n', encoding="utf-8")
    job.change(input__paths=[str(source)], input__keep=[])
    ended = cli("run", "-c", job.file)
    assert ended.code == 5
    assert "1 of 2 rows (50.0%) can't be embedded" in ended.err
    assert f"embedpipe quarantine list {job.out}" in ended.err
    assert not (job.out / "data").exists()
    listed = cli("quarantine", "list", job.out)
    assert listed.code == 0, "what the message says to do works before anything is published"
    assert "null" in listed.out


def test_6_a_damaged_data_file_fails_verification(cli: Cli, own: Job) -> None:
    assert cli("verify", own.out).code == 0
    flip(next((own.out / "data").rglob("*.parquet")))
    ended = cli("verify", own.out)
    assert ended.code == 6
    assert "checks failed" in ended.out
    assert "FAILED" in ended.out
    report = cli("verify", own.out, "--json")
    assert (report.code, report.json["passed"]) == (6, False)


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ("log", "status OUT"),
        ("log", "run -c JOB"),
        ("log", "plan -c JOB"),
        ("log", "files OUT"),
        ("log", "gc OUT"),
        ("spec", "run -c JOB"),
        ("spec", "files OUT --load duckdb"),
        ("log", "verify OUT"),
        ("spec", "verify OUT"),
    ],
)
@pytest.mark.parametrize("damage", [b"{}", b"x"])
def test_6_a_record_that_was_damaged_from_outside_is_named(
    cli: Cli, own: Job, record: str, command: str, damage: bytes
) -> None:
    """`This is a bug: KeyError` would have it reported here, when there is something to be restored there."""
    (damaged,) = (own.out / "_embedpipe" / record).iterdir()
    damaged.write_bytes(damage)
    places = {"JOB": own.file, "OUT": own.out}
    ended = cli(*(places.get(word, word) for word in command.split()))
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.startswith((f"error: {damaged} ", f"error: {damaged}: "))
    assert "outside" in ended.err


COMMANDS: list[Callable[[str], list[str]]] = [
    lambda url: ["status", url],
    lambda url: ["files", url],
    lambda url: ["verify", url],
    lambda url: ["gc", url],
    lambda url: ["quarantine", "list", url],
    lambda url: ["quarantine", "retry", url],
    lambda url: ["files", url, "too", "many"],
    lambda url: ["status", "x", url],
    lambda url: ["run", "-c", "JOB", "--set", f"output.path={url}"],
    lambda url: ["plan", "-c", "JOB", "--set", f"input.paths=[{url}]", "--json"],
    lambda url: ["config", "show", "-c", "JOB", "--set", f"input.text=[{url}]"],
    lambda url: ["config", "check", "-c", "JOB", "--set", url],
    lambda url: ["run", "-c", "JOB", "--address", url],
    lambda url: ["run", "-c", url],
    lambda url: ["--debug", "status", url],
]


@pytest.mark.parametrize("make", COMMANDS, ids=lambda make: " ".join(make("URL")))
def test_no_command_repeats_a_secret(
    cli: Cli, job: Job, make: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminals are recorded, and logs are kept."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    ended = cli(*(str(job.file) if word == "JOB" else word for word in make(f"s3://me:{SECRET}@bucket/x")))
    assert ended.code in (2, 3)
    assert SECRET not in ended.out + ended.err
    assert "MDENG" not in ended.out + ended.err
