"""The Ray engine: the same rows as the serial one, and what a killed process costs."""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.jobs import ids, make_config, read_rows, write_jsonl, write_parquet
from support.models import edit_json
from support.times import check_times

import pipeline
from jobs.figures.processes import descendants, kill
from pipeline.errors import IncompleteError, ModelError
from pipeline.flow import ray_assembly, ray_engine, ray_watch
from pipeline.flow.engine import AssemblyTask
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, Note, UnitDone


@pytest.fixture(scope="module", autouse=True)
def ray_once() -> Iterator[None]:
    """One embedded Ray for the module: starting one takes seconds."""
    import ray

    from pipeline.flow.cluster import connect

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    connect(None)
    yield
    ray.shutdown()
    patch.undo()


@pytest.mark.parametrize("root", ["s3"], indirect=True)  # on a local disk all the others here are
def test_both_engines_publish_the_same_rows(root: str, tmp_path: Path, tiny_model: str) -> None:
    for shard in range(4):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(50 * shard, 50 * shard + 50))
    summary = pipeline.run(make_config(tmp_path / "in", root, tiny_model, execution__engine="ray", units__rows=16))
    assert (summary.exit_code, summary.rows_encoded) == (0, 200)
    check_times(summary, root)
    serial = str(tmp_path / "serial")
    pipeline.run(make_config(tmp_path / "in", serial, tiny_model, units__rows=16))
    ours, reference = read_rows(root), read_rows(serial)
    assert sorted(ours) == sorted(reference)
    assert np.abs(np.array([ours[key] for key in reference]) - np.array(list(reference.values()))).max() < 1e-6


class Killer:
    """Kills one worker process of a kind after a few units."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.killed = 0
        self.units = 0

    def emit(self, event: Event) -> None:
        self.units += isinstance(event, UnitDone)
        if self.units and not self.killed:
            self.killed += kill(os.getpid(), self.role)


def test_a_killed_stage_worker_costs_what_it_had_in_flight(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's out-of-memory killer takes whichever process is largest. Should Ray forget the task, it takes a minute."""
    monkeypatch.setattr(ray_watch, "IDLE_S", 30.0)
    for shard in range(6):
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", range(250 * shard, 250 * shard + 250), words=300)
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", units__rows=25, units__text_mib=1,
        execution__unit_timeout_s=30,
    )  # fmt: skip
    killer = Killer("stage worker")
    summary = run_job(config, reporter=killer)
    assert killer.killed
    assert summary.exit_code == 0
    assert sorted(read_rows(str(tmp_path / "out"))) == ids(range(1500))


def test_a_task_that_ray_has_lost_sight_of_is_planned_again(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray may do so when a worker is killed, and its graph waits for ever with nobody at work."""
    lost, stage = tmp_path / "lost", ray_engine._stage

    def forgetful(block: Any, shared: bytes, board: Any) -> Any:
        if not lost.exists():
            lost.touch()
            threading.Event().wait()  # without a word to the board, as a task that nobody has
        return stage(block, shared, board)

    monkeypatch.setattr(ray_engine, "_stage", forgetful)
    monkeypatch.setattr(ray_watch, "IDLE_S", 8.0)
    write_jsonl(tmp_path / "in" / "a.jsonl", range(40))
    notes = Notes()
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", units__rows=10)
    assert run_job(config, reporter=notes).exit_code == 0
    assert lost.exists()
    assert sorted(read_rows(str(tmp_path / "out"))) == ids(range(40))
    assert any("planning again: Ray has lost sight" in text for text in notes.texts)


def test_a_stop_is_obeyed_while_the_work_waits_for_a_machine(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spot machines have gone, the scheduler wants the driver to end, and nobody is there who could tell it that nothing is
    under way."""
    read, under_way = ray_engine._read, tmp_path / "read"

    def noted(block: Any, shared: bytes, board: Any) -> Iterator[Any]:
        yield from read(block, shared, board)
        under_way.touch()

    monkeypatch.setattr(ray_engine, "_read", noted)
    monkeypatch.setattr(ray_watch, "STOP_S", 1.0)
    write_jsonl(tmp_path / "in" / "a.jsonl", range(40))
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", execution__device="cuda",
        execution__replicas=1, units__rows=10,
    )  # fmt: skip

    def stop() -> None:
        while not under_way.exists():
            threading.Event().wait(0.05)  # between two looks
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(IncompleteError, match="stopped on request"):
        run_job(config)


def test_a_stop_while_data_files_are_made_finishes_those_that_were_begun(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the files of a large output takes longer than a scheduler waits before it kills."""
    driver, assemble = os.getpid(), ray_assembly._assemble

    def stopped_meanwhile(*arguments: Any) -> Any:
        with contextlib.suppress(FileExistsError):  # a second signal would not wait
            (tmp_path / "stopped").touch(exist_ok=False)
            os.kill(driver, signal.SIGTERM)
        return assemble(*arguments)

    rows = ({"id": f"id-{n}", "text": f"text {n}", "lang": f"l{n % 6}"} for n in range(60))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_config(
        tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model, execution__engine="ray", input__keep=["lang"],
        output__partition_by=["lang"],
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(ray_assembly, "_assemble", stopped_meanwhile)
        with pytest.raises(IncompleteError, match=r"stopped on request; [1-5] of 6 data files are made and stay so"):
            run_job(config)
    again = run_job(config)
    assert (again.rows, again.rows_encoded, again.files) == (60, 0, 6)


def test_a_data_file_that_no_machine_has_the_memory_for_is_made_all_the_same(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it may take is a generous estimate. Ray would wait for such a machine for an hour, and at each run again, with all
    encoded and nothing published."""
    monkeypatch.setattr(AssemblyTask, "peak_bytes", property(lambda task: 1 << 45))
    write_jsonl(tmp_path / "in.jsonl", range(20))
    summary = run_job(make_config(tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model, execution__engine="ray"))
    assert (summary.exit_code, summary.rows) == (0, 20)
    assert "may take 32768.0 GiB of memory, and the largest machine has" in caplog.text
    assert "output.file_mib" in caplog.text


def test_a_stop_is_obeyed_while_a_data_file_waits_for_a_machine(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All machines were taken away when everything was encoded: the driver was deaf for an hour."""

    def on_no_machine(tasks: Any) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 1 << 45

    write_jsonl(tmp_path / "in.jsonl", range(20))
    config = make_config(tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model, execution__engine="ray")
    with monkeypatch.context() as patched:
        patched.setattr(ray_watch, "STOP_S", 1.0)
        patched.setattr(AssemblyTask, "peak_bytes", property(lambda task: 1 << 45))
        patched.setattr(ray_assembly, "_most_bytes", on_no_machine)
        with pytest.raises(IncompleteError, match="stopped on request; 0 of 1 data files"):
            run_job(config)
    again = run_job(config)
    assert (again.rows, again.rows_encoded) == (20, 0)


class StopsBoard:
    """After the first unit it stops the board's process, as a debugger may, and asks the run to stop."""

    def __init__(self) -> None:
        self.stopped: list[int] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, UnitDone) and not self.stopped:
            self.stopped = [
                process.id for process in descendants(os.getpid()) if process.title.startswith("ray::Board")
            ]
            for process in self.stopped:
                os.kill(process, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_board_that_was_stopped_is_replaced_and_so_a_stop_is_obeyed(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody tells it what they begin and waits for its answer, and the driver too when it is to stop: such a run stood still
    for ever, and no signal but SIGKILL ended it."""
    monkeypatch.setattr(ray_watch, "KILL_S", 1.5)
    for shard in range(2):
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", range(250 * shard, 250 * shard + 250), words=300)
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", units__rows=25, units__text_mib=1
    )
    stops = StopsBoard()
    with pytest.raises(IncompleteError, match="stopped on request"):
        run_job(config, reporter=stops)
    assert len(stops.stopped) == 1
    assert "the board gives no answer; its process is killed" in caplog.text


class Notes:
    """What a run tells in words."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Note):
            self.texts.append(event.text)


def test_a_model_that_can_not_be_loaded_ends_the_run_and_no_machine_is_blamed(tmp_path: Path, tiny_model: str) -> None:
    """Each worker gave its units back for the others to do, and the run was to be tried again, for ever."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    edit_json(model / "config.json", vocab_size=100)
    write_jsonl(tmp_path / "in" / "a.jsonl", range(20))
    with pytest.raises(ModelError, match="the model can't be loaded"):
        run_job(make_config(tmp_path / "in", str(tmp_path / "out"), str(model), execution__engine="ray"))


def test_embedded_ray_listens_on_loopback_only() -> None:
    """Anybody who reaches a Ray port can run code."""
    ours = listening_sockets()
    assert ours
    assert {address for address in ours if not address.startswith(("0100007F", "0000000000000000FFFF00000100007F"))} - {
        "00000000000000000000000001000000"
    } == set()


def listening_sockets() -> list[str]:
    """Addresses, as the kernel writes them, on which this process and those below it listen."""
    owned = set()
    for process in descendants(os.getpid()):
        for path in Path(f"/proc/{process.id}/fd").glob("*"):
            with contextlib.suppress(OSError):
                target = str(path.readlink())
                owned |= {target[8:-1]} if target.startswith("socket:") else set()
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in owned:  # 0A: listening
                    found.append(fields[1].partition(":")[0])
    return found
