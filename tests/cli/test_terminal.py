"""The program as a process: in a pipe, in a pipe nobody reads, on a full disk, and on a terminal."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def nobody_reading() -> Iterator[int]:
    """A pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    """A file that takes nothing."""
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


Place = Callable[[], contextlib.AbstractContextManager[int]]


@pytest.mark.parametrize(
    "command", ["files OUT", "status OUT", "files OUT --json", "files OUT --load=duckdb", "--help", "run --help"]
)
def test_a_reader_that_has_gone_is_no_error(published: Job, command: str) -> None:
    """`embedpipe files OUT | head -1` under `set -o pipefail` must not fail a script."""
    arguments = command.replace("OUT", str(published.out)).split()
    with nobody_reading() as place:
        ended = subprocess.run([*PROGRAM, *arguments], stdout=place, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("place", [nobody_reading, full_disk])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failed_verification_is_one_whoever_reads_of_it(own: Job, place: Place, options: list[str]) -> None:
    """`embedpipe verify OUT | head -1` would pass for a sound output."""
    next((own.out / "data").rglob("*.parquet")).unlink()
    arguments = [*PROGRAM, "verify", str(own.out), "--no-source", *options]
    for streams in ({"stdout"}, {"stderr"}, {"stdout", "stderr"}):
        with place() as nowhere:
            given = {name: nowhere if name in streams else subprocess.PIPE for name in ("stdout", "stderr")}
            ended = subprocess.run(arguments, **given, check=False)
        assert ended.returncode == 6, ended.stderr


def test_an_incomplete_run_is_one_whoever_reads_of_it(job: Job) -> None:
    (job.source / "1.parquet").write_bytes(b"no Parquet")
    job.change(output__max_rejected_share=0.5)
    with nobody_reading() as place:
        assert subprocess.run([*PROGRAM, "run", "-c", str(job.file)], stdout=place, check=False).returncode == 4


def test_a_run_whose_summary_meets_a_full_disk_is_done_and_says_what_is_lost(own: Job) -> None:
    """It has published: neither a bug nor a failure, but nothing silent either."""
    with full_disk() as place:
        ended = subprocess.run(
            [*PROGRAM, "run", "-c", str(own.file)], stdout=place, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert "stdout can't be written: No space left on device" in ended.stderr
    assert "this is a bug" not in ended.stderr


@pytest.mark.parametrize("stream", [1, 2])
def test_a_stream_that_was_closed_before_the_program_began_is_no_error(published: Job, stream: int) -> None:
    """Some schedulers start their jobs so."""
    command = shlex.join([*PROGRAM, "files", str(published.out)])
    assert subprocess.run(f"{command} {stream}>&-", shell=True, capture_output=True, check=False).returncode == 0


def test_a_pipe_that_does_not_block_is_waited_for(published: Job) -> None:
    """The other end may be a program that has set it so, and reads slowly."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    schema = [*PROGRAM, "config", "schema"]
    whole = subprocess.run(schema, capture_output=True, check=True).stdout
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # less than is written
    assert len(whole) > 4096
    with subprocess.Popen(schema, stdout=writing) as process:
        os.close(writing)
        time.sleep(0.5)  # it has begun to write, more often than not
        with os.fdopen(reading, "rb") as file:
            assert file.read() == whole
    assert process.returncode == 0


SUBMITTED = """
from pipeline.cli.app import main
from pipeline.flow import submit

def submit_job(*_, show, **__):
    for line in ("one\\n", "two\\n", "three\\n"):
        show(line)
    return 5

submit.submit_job = submit_job
main()
"""


def test_a_submitted_job_is_followed_to_its_end_whoever_reads_its_output(job: Job) -> None:
    """`embedpipe submit … | head -1` would be 0, whatever becomes of the job."""
    command = [sys.executable, "-c", SUBMITTED, "submit", "-c", str(job.file), "--address", "http://head:8265"]
    with nobody_reading() as place:
        ended = subprocess.run(command, stdout=place, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (5, b"")


def test_a_run_goes_on_when_nobody_reads_its_log(job: Job) -> None:
    """The terminal that started it is closed."""
    with nobody_reading() as place:
        ended = subprocess.run(
            [*PROGRAM, "run", "-c", str(job.file), "--json"], stdout=subprocess.PIPE, stderr=place, check=False
        )
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
