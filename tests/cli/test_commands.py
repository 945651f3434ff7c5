"""What each command does and prints: one JSON document where asked, results on stdout, logs on stderr."""

import json
import shutil
from pathlib import Path

import duckdb
import jsonschema
import numpy as np
import pytest
import yaml
from support.jobs import glob_rows, ids, read_rows, text_of

import pipeline
from pipeline.encode.encoder import Encoder
from pipeline.errors import IncompleteError

from .conftest import Cli, Job

COMMANDS = (
    "run",
    "plan",
    "status",
    "verify",
    "files",
    "gc",
    "quarantine",
    "submit",
    "sample",
    "convert-model",
    "train",
    "evaluate",
    "card",
    "config",
)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def test_help_names_every_command_and_exit_code(cli: Cli) -> None:
    ended = cli("--help")
    assert ended.code == 0
    listed = [line.split()[0] for line in ended.out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert sorted(listed) == sorted(COMMANDS)
    assert "..." not in ended.out.partition("Commands:")[2], "a description is cut off"
    for code in range(7):
        assert f"{code} " in ended.out.partition("Exit codes:")[2]


@pytest.mark.parametrize("command", [*COMMANDS, "quarantine list", "quarantine retry", "config show", "config check"])
def test_every_command_has_help(cli: Cli, command: str) -> None:
    ended = cli(*command.split(), "-h")
    assert ended.code == 0
    assert f"Usage: embedpipe {command}" in ended.out
    assert ended.err == ""


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version").out == f"embedpipe {pipeline.__version__}\n"


def test_a_plan_tells_what_there_is_to_do_and_writes_nothing(cli: Cli, job: Job) -> None:
    before = tree(job.file.parent)
    ended = cli("plan", "-c", job.file)
    assert ended.code == 0
    assert tree(job.file.parent) == before
    assert not job.out.exists()
    words = " ".join(ended.out.split())
    assert "input 3 files" in words
    assert "24 rows" in words
    assert "time about" in words
    planned = cli("plan", "-c", job.file, "--json").json
    assert (planned["rows"], planned["pending_rows"], planned["version"]) == (24, 24, 0)
    assert planned["units_pending"] >= 1
    assert 24 * 5 < planned["pending_tokens"] < 24 * 20
    assert 0 < planned["pending_seconds"] < 60
    assert tree(job.file.parent) == before


def test_a_plan_over_a_finished_output_says_that_nothing_is_left(cli: Cli, own: Job) -> None:
    before = tree(own.out)
    ended = cli("plan", "-c", own.file)
    assert "next: nothing is left to do" in ended.out
    planned = cli("plan", "-c", own.file, "--json").json
    assert (planned["units_pending"], planned["files_covered"], planned["pending_seconds"]) == (0, 3, None)
    assert tree(own.out) == before


def test_a_plan_says_what_a_run_would_refuse(cli: Cli, own: Job) -> None:
    """Told before the cluster is paid for."""
    own.change(input__paths=[str(own.source / "0.parquet")])
    ended = cli("plan", "-c", own.file)
    assert ended.code == 0
    assert "note: a run is refused" in ended.out
    assert "would lack 16 of the 24 rows" in ended.out
    assert "--allow-drop" in ended.out


def test_a_limited_run_is_a_preview(cli: Cli, job: Job) -> None:
    planned = cli("plan", "-c", job.file, "--limit", 10, "--json").json
    assert (planned["rows"], planned["pending_rows"]) == (10, 10)
    assert planned["pending_bytes"] < planned["input_bytes"]
    limited = cli("run", "-c", job.file, "--limit", 10)
    assert limited.code == 0
    assert len(glob_rows(str(job.out))) == 10
    assert "limited to 10" in cli("status", job.out).out
    assert "a run is refused" not in cli("plan", "-c", job.file).out
    assert cli("run", "-c", job.file).code == 0
    assert glob_rows(str(job.out)) == ids(range(24))
    again = cli("run", "-c", job.file, "--limit", 3)
    assert again.code == 3
    assert "--limit never publishes over one" in again.err
    assert glob_rows(str(job.out)) == ids(range(24))


@pytest.mark.parametrize(
    "command",
    [
        "run -c JOB",
        "plan -c JOB",
        "status OUT",
        "verify OUT --sample 3",
        "files OUT",
        "gc OUT",
        "gc OUT --dry-run",
        "quarantine list OUT",
        "quarantine retry OUT",
        "config show -c JOB",
        "status -c JOB",
        "files -c JOB --version 9",
        "run -c JOB --set a=b",
        "run --none",
        "sample IN",
    ],
)
def test_json_is_one_document_on_stdout_and_nothing_else(cli: Cli, own: Job, command: str) -> None:
    """The caller pipes it into jq; a log line between would break the night's report."""
    places = {"JOB": own.file, "OUT": own.out, "IN": own.source}
    ended = cli(*(places.get(word, word) for word in command.split()), "--json")
    assert isinstance(ended.json, dict | list)
    if ended.code:
        assert ended.json["exit_code"] == ended.code
        assert ended.json["error"].splitlines()[0] in ended.err


def test_logs_and_results_are_on_streams_of_their_own(cli: Cli, job: Job) -> None:
    ended = cli("run", "-c", job.file, "--json")
    assert ended.json["rows"] == 24
    assert "published version 1: 24 rows in 1 file" in ended.err


def test_status_tells_an_output_apart_from_none(cli: Cli, published: Job, tmp_path: Path) -> None:
    ended = cli("status", published.out)
    assert ended.out.startswith(f"published  {published.out}\n")
    assert "version 1: 24 rows in 1 file" in ended.out
    assert "_SUCCESS      stands" in ended.out
    none = cli("status", tmp_path / "none")
    assert (none.code, none.out.split()[0]) == (0, "empty")


@pytest.mark.parametrize(
    ("mark", "stands"), [(None, True), (b"x", False), (b"{}", False), (b'{"version": 2}', False), (b"7", False)]
)
def test_status_believes_a_mark_only_where_it_names_the_newest_version(
    cli: Cli, own: Job, mark: bytes | None, stands: bool
) -> None:
    """Somebody globs by it."""
    if mark is not None:
        (own.out / "_SUCCESS").write_bytes(mark)
    assert ("_SUCCESS      stands" in cli("status", own.out).out) is stands
    assert cli("status", own.out, "--json").json["success"] is stands


def test_a_line_break_in_a_files_name_forges_no_message(cli: Cli, job: Job) -> None:
    """Logs are read line by line, and a name is whatever its writer chose."""
    forged = job.source / "a\nerror: all is lost.parquet"
    forged.write_bytes(b"PAR1 and nothing else")
    job.change(output__max_rejected_share=0.9)
    partly = cli("run", "-c", job.file)
    assert partly.code == 4
    assert "\n  error: all is lost.parquet" in partly.err
    assert "\nerror: all is lost" not in partly.err
    job.change(output__max_rejected_share=0.0)
    refused = cli("run", "-c", job.file)
    assert refused.code == 3
    assert "\n  error: all is lost.parquet" in refused.err
    assert "\nerror: all is lost" not in refused.err


def test_files_are_exactly_the_snapshots(cli: Cli, published: Job) -> None:
    listed = cli("files", published.out).out.split()
    assert listed == [str(path) for path in (published.out / "data").rglob("*.parquet")]
    entries = cli("files", published.out, "--json").json
    assert [(entry["uri"], entry["rows"]) for entry in entries] == [(listed[0], 24)]


def test_the_load_statement_loads(cli: Cli, published: Job) -> None:
    statement = cli("files", published.out, "--load", "duckdb").out
    with duckdb.connect() as database:
        database.execute(statement)
        rows = database.execute("SELECT id, embedding, typeof(embedding) FROM embeddings ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ids(range(24))
    assert {row[2] for row in rows} == {"FLOAT[32]"}
    expected = read_rows(str(published.out))
    assert all(np.array_equal(vector, expected[id_]) for id_, vector, _ in rows)


def test_gc_deletes_leftovers_and_a_dry_run_nothing(cli: Cli, own: Job) -> None:
    data = next((own.out / "data").rglob("*.parquet"))
    leftover = data.with_name(f"0-{'a' * 32}-0-{'b' * 32}.parquet")
    shutil.copy(data, leftover)
    before = tree(own.out)
    dry = cli("gc", own.out, "--dry-run")
    assert dry.out == f"data/{leftover.name}\n1 object would be deleted\n"
    assert tree(own.out) == before
    assert "1 object was deleted" in cli("gc", own.out).out
    assert not leftover.exists()
    assert "0 objects were deleted" in cli("gc", own.out).out
    assert glob_rows(str(own.out)) == ids(range(24))
    assert cli("verify", own.out).code == 0


def test_gc_gives_up_what_is_made_for_the_next_version_only_when_asked(cli: Cli, own: Job) -> None:
    """It may be a live run's: deletable it becomes by a version of its own, which overtakes that run."""
    made = next((own.out / "data").rglob("*.parquet")).with_name(f"1-{'a' * 32}-0-{'b' * 32}.parquet")
    made.write_bytes(b"half a file")
    (own.out / "_SUCCESS").unlink()
    assert cli("gc", own.out).out == "0 objects were deleted\n"
    ended = cli("run", "-c", own.file)
    assert ended.code == 0
    assert "version 1 stands unchanged" in ended.out
    assert "_SUCCESS is not written: data/ holds files made for a version that isn't published" in ended.out
    assert made.exists()
    assert not (own.out / "_SUCCESS").exists()
    assert cli("verify", own.out).code == 0
    assert f"data/{made.name}\n" in cli("gc", own.out, "--abandon").out
    assert not made.exists()
    assert (own.out / "_SUCCESS").exists()
    assert cli("status", own.out, "--json").json["published"]["version"] == 2
    assert glob_rows(str(own.out)) == ids(range(24))


def test_a_retry_embeds_again_what_was_set_aside_once_its_cause_is_mended(
    cli: Cli, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver bug gave NaN for a text; with a new driver the row must come in without the file being touched."""
    poison = " ".join(["poison"] * 61)
    source = job.file.parent / "rows.jsonl"
    rows = [{"id": f"id-{row}", "text": text_of(row)} for row in range(99)] + [{"id": "id-99", "text": poison}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # In half precision the text would be tried in float32 too, by a process that isn't broken.
    job.change(input__paths=[str(source)], input__keep=[], output__max_rejected_share=0.5, model__precision="exact")
    encode = Encoder.encode
    length: list[int] = []

    def broken(self: Encoder, token_ids, offsets):  # type: ignore[no-untyped-def]
        vectors = encode(self, token_ids, offsets)
        longest = np.diff(offsets) > 60
        if len(vectors) > 90 or length:  # not the parity gate's texts
            length.append(1)
            vectors[longest] = np.nan
        return vectors

    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode", broken)
        assert cli("run", "-c", job.file).code == 0
    assert len(glob_rows(str(job.out))) == 99
    listed = cli("quarantine", "list", "-c", job.file)
    assert "1 row: not_finite 1" in listed.out
    assert f"{source} at " in listed.out
    assert "id id-99: the model gives NaN or infinity" in listed.out
    assert cli("run", "-c", job.file, "--json").json["rows_encoded"] == 0, "nothing changed, nothing is tried again"
    assert "the next run tries 1 row again" in cli("quarantine", "retry", job.out).out

    def stop(*_: object, **__: object) -> None:
        raise IncompleteError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.flow.supervisor.publish_plan", stop)
        assert cli("run", "-c", job.file).code == 4
    assert len(glob_rows(str(job.out))) == 99
    assert cli("gc", job.out).code == 0, "which must leave what is committed and not yet published"
    again = cli("run", "-c", job.file, "--json").json
    assert (again["version"], again["rows"], again["rows_quarantined"], again["rows_encoded"]) == (2, 100, 0, 0)
    assert glob_rows(str(job.out)) == ids(range(100))
    assert cli("quarantine", "list", job.out).out == "no rows are quarantined\n"
    assert cli("quarantine", "retry", job.out).out == "no rows are quarantined\n"
    assert cli("verify", job.out, "--sample", 5).code == 0


def test_quarantined_bytes_are_shown_as_they_can_be(cli: Cli, job: Job) -> None:
    source = job.file.parent / "rows.jsonl"
    source.write_bytes(
        b'{"id": "a", "text": "x\xff"}\n' * 3
        + b'{"id": "b", "text": "'
        + b"y" * 200
        + b'\\ud800"}\n'
        + b'{"id": "c", "text": "z"}\n'
    )
    job.change(input__paths=[str(source)], input__keep=[], output__max_rejected_share=1)
    assert cli("run", "-c", job.file).code == 0
    listed = cli("quarantine", "list", job.out, "--limit", 2)
    assert listed.out.startswith("4 rows: invalid_utf8 3, lone_surrogate 1\n")
    assert listed.out.count("\\xff") == 2
    assert "and 2 more; see --limit" in listed.out
    shown = cli("quarantine", "list", job.out, "--json").json
    assert shown["rows"] == 4
    assert max(len(row["raw"]) for row in shown["shown"]) <= 60


def test_a_model_with_old_weights_is_converted_and_embeds(cli: Cli, job: Job, tiny_model: str) -> None:
    import torch
    from safetensors.torch import load_file

    old, new = job.file.parent / "old", job.file.parent / "new"
    shutil.copytree(tiny_model, old)
    weights = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    torch.save(weights, old / "pytorch_model.bin")
    refused = cli("plan", "-c", job.file, "--set", f"model.name={old}")
    assert refused.code == 2
    assert "convert-model" in refused.err
    assert "1 file converted to safetensors" in cli("convert-model", old, new).out
    assert cli("plan", "-c", job.file, "--set", f"model.name={new}").code == 0


def test_a_config_is_shown_as_a_run_sees_it_and_loads_again(cli: Cli, job: Job, tmp_path: Path) -> None:
    shown = cli("config", "show", "-c", job.file, "--set", "output.retain=3")
    again = tmp_path / "again.yaml"
    again.write_text(shown.out, encoding="utf-8")
    assert yaml.safe_load(shown.out)["output"]["retain"] == 3
    assert cli("config", "show", "-c", again).out == shown.out
    assert cli("config", "show", "-c", again, "--json").json == yaml.safe_load(shown.out)
    assert cli("config", "check", "-c", again).out == f"{again}: well-formed\n"


def test_the_schema_is_printed_for_editors(cli: Cli) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(cli("config", "schema").out))


def test_a_sample_is_written_and_told(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "lib"
    source.mkdir()
    (source / "a.py").write_text('"""A."""\n', encoding="utf-8")
    monkeypatch.setattr("pipeline.sample.installed", lambda: [source])
    ended = cli("sample", "--rows", 5, "--shards", 1, tmp_path / "out")
    assert ended.out == (
        f"1 text from 1 package in 1 file: {tmp_path / 'out'}\n"
        "5 were asked for, but this Python and its packages hold no more distinct ones\n"
    )
    assert cli("sample", "--rows", 5, tmp_path / "out", "--format", "jsonl", "--json").json["shards"] == 4
    assert cli("sample", source).code == 2
