"""The program as a process: in a pipe, in a pipe nobody reads, and on a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Job

PROGRAM = [sys.executable, "-m", "pipeline"]
SCRIPT = str(Path(sys.executable).with_name("embedpipe"))


def test_the_module_and_the_script_are_the_same_program(published: Job) -> None:
    outputs = [
        subprocess.run([*program, "files", str(published.out)], capture_output=True, text=True, check=True).stdout
        for program in (PROGRAM, [SCRIPT])
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith(".parquet\n")


def test_the_process_ends_with_the_commands_code() -> None:
    ended = subprocess.run([*PROGRAM, "run"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: Missing option '--config' / '-c'.\n  see `python -m pipeline run --help`\n".replace(
        "python -m pipeline", "embedpipe"
    )


@pytest.mark.parametrize("command", ["files", "status", "files --json", "files --load=duckdb"])
def test_a_reader_that_has_gone_is_no_error(published: Job, command: str) -> None:
    """`embedpipe files OUT | head -1` under `set -o pipefail` must not fail a script."""
    name, *options = command.split()
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*PROGRAM, name, str(published.out), *options], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_run_goes_on_when_nobody_reads_its_log(job: Job) -> None:
    """The terminal that started it is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*PROGRAM, "run", "-c", str(job.file), "--json"], stdout=subprocess.PIPE, stderr=writing, check=False
        )
    finally:
        os.close(writing)
    assert ended.returncode == 0
    assert b'"rows": 24' in ended.stdout


def on_terminal(arguments: list[str], columns: int = 80) -> tuple[int, str]:
    """Exit code and all that a terminal was sent."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen([*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    received = b""
    try:
        while block := os.read(ours, 65_536):
            received += block
    except OSError:  # Linux says so when the other side has closed
        pass
    os.close(ours)
    return process.wait(), received.decode().replace("\r\n", "\n")


def test_a_terminal_sees_a_live_view_that_is_gone_at_the_end(job: Job) -> None:
    code, seen = on_terminal(["run", "-c", str(job.file)])
    assert code == 0
    assert "encoding" in seen
    assert "\x1b[?25h" in seen, "the cursor is back"
    end = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.rpartition("\x1b[?25h")[2])
    assert "done in" in end
    assert f"data         {job.out}/data\n" in end, "a path is on one line, to be copied"
    assert "Traceback" not in seen
    assert "Loading weights" not in seen


def test_json_logs_are_json_and_events_go_to_a_file(job: Job) -> None:
    """A collector that meets one other line drops the stream."""
    job.change(execution__log_format="json", execution__events=str(job.file.parent / "events.jsonl"))
    ended = subprocess.run([*PROGRAM, "run", "-c", str(job.file)], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert any("published version 1" in line["message"] for line in lines)
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    events = [json.loads(line)["event"] for line in (job.file.parent / "events.jsonl").read_text().splitlines()]
    assert events[0] == "PlanReady"
    assert events[-2:] == ["Published", "RunEnded"]


def test_a_pipe_gets_no_colours_and_whole_lines(published: Job) -> None:
    ended = subprocess.run([*PROGRAM, "status", str(published.out)], capture_output=True, text=True, check=True)
    assert "\x1b" not in ended.stdout
    assert all(line == line.rstrip() for line in ended.stdout.splitlines())
    assert f"next: embedpipe verify {published.out}\n" in ended.stdout
