"""Killing a job in mid-run, then running it again: the same rows, once each, and only what was in flight redone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.jobs import committed, ids, make_config, read_rows, start, write_jsonl

import pipeline
from jobs.figures.processes import kill
from pipeline.config.load import dump_config
from pipeline.config.schema import Config
from pipeline.flow.status import read_status

ROWS = 700


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One file that gives many units."""
    write_jsonl(tmp_path / "in" / "rows.jsonl", range(ROWS), words=100)
    return tmp_path / "in"


def test_a_killed_driver_loses_at_most_what_was_in_flight(root: str, source: Path, tiny_model: str) -> None:
    """Drivers of a Ray are killed by test_submit, and by the fault tests in every phase."""
    config = make_config(source, root, tiny_model, units__rows=20)
    process = start(config)
    for _ in zip(range(7), committed(process), strict=False):
        pass
    process.kill()
    process.communicate()
    before = read_status(root).rows_committed
    assert 140 <= before < ROWS
    summary = pipeline.run(make_config(source, root, tiny_model, units__rows=20))
    assert sorted(read_rows(root)) == ids(range(ROWS))
    assert summary.rows_encoded <= ROWS - before


@pytest.mark.parametrize(
    ("engine", "number"), [("serial", signal.SIGTERM), ("ray", signal.SIGTERM), ("ray", signal.SIGINT)]
)
def test_a_signal_finishes_what_is_in_flight_and_the_next_run_goes_on(
    tmp_path: Path, source: Path, tiny_model: str, engine: str, number: signal.Signals
) -> None:
    """Preemption is an orderly end, not a crash. Ctrl-C reaches the whole process group, Ray's processes too."""
    out = str(tmp_path / "out")
    config = make_config(source, out, tiny_model, units__rows=20, execution__engine=engine)
    process = start(config)
    next(committed(process))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, messages = process.communicate()
    assert process.returncode == 4, messages
    assert "Run the same command again" in messages
    assert "Traceback" not in messages
    assert read_status(out).attempts_open == 0, "all that had begun was finished"
    assert 0 < pipeline.run(make_config(source, out, tiny_model, units__rows=20)).rows_encoded < ROWS
    assert sorted(read_rows(out)) == ids(range(ROWS))


def test_a_killed_encode_worker_costs_what_it_had_in_flight_and_stdout_has_nothing_but_json(
    tmp_path: Path, source: Path, tiny_model: str
) -> None:
    """The kernel's out-of-memory killer takes whichever process is largest, and Ray itself tells of it on stdout."""
    config = make_config(source, str(tmp_path / "out"), tiny_model, units__rows=20, execution__engine="ray")
    (tmp_path / "job.yaml").write_text(dump_config(config), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--config", str(tmp_path / "job.yaml"), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    while not read_status(str(tmp_path / "out")).units_committed and process.poll() is None:
        time.sleep(0.05)  # between two looks
    assert kill(process.pid, "encode worker")
    told, messages = process.communicate()
    assert process.returncode == 0, messages
    assert json.loads(told)["rows"] == ROWS
    assert sorted(read_rows(str(tmp_path / "out"))) == ids(range(ROWS))


def test_two_drivers_at_once_share_the_work_and_publish_each_row_once(
    tmp_path: Path, source: Path, tiny_model: str
) -> None:
    """Orchestrators start a second attempt while the first still runs."""
    out = str(tmp_path / "out")
    for name in range(1, 6):
        write_jsonl(source / f"{name}.jsonl", range(ROWS * name, ROWS * name + 60))
    config = make_config(source, out, tiny_model, units__rows=100, units__text_mib=1)
    processes = [start(config), start(config)]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    expected = [*range(ROWS), *(row for name in range(1, 6) for row in range(ROWS * name, ROWS * name + 60))]
    assert sorted(read_rows(out)) == sorted(f"id-{row}" for row in set(expected))


def test_a_config_survives_the_trip_to_another_process(tiny_model: str) -> None:
    config = make_config("/in", "/out", tiny_model)
    assert Config.model_validate(json.loads(config.model_dump_json())) == config
