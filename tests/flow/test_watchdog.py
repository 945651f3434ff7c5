"""Who is taken for hung, and what counts as getting on."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.memory import MemoryStore

from pipeline.errors import TransientStorageError
from pipeline.flow import encoding, ray_watch, reading
from pipeline.flow.encoding import Encoding
from pipeline.flow.engine import Assembling, AssemblyTask
from pipeline.flow.ray_watch import RayWatch, Wave
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.throwaway import LOADING_S
from pipeline.flow.watchdog import Board, Worker
from pipeline.sink import assemble
from pipeline.sink.part import build_part
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.sink.schema import Layout
from pipeline.storage.environment import worker_environment
from pipeline.storage.local import LocalStore
from pipeline.storage.retry import retry

ONE, OTHER = Worker("node", 1, "start"), Worker("node", 2, "start")
TIMEOUT_S = 8.0


class Watched:
    """A board, asked as often as the engines ask it, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.board = Board(lambda: self.now)

    def until(self, end: float) -> list[tuple[float, int]]:
        """(when, process) of all that were told of up to `end`."""
        told: list[tuple[float, int]] = []
        while self.now < end:
            self.now += TIMEOUT_S / 4
            told.extend((self.now, late.worker.process) for late in self.board.overdue(TIMEOUT_S))
        return told


def test_a_worker_without_progress_is_told_of_again_until_it_is_gone() -> None:
    """Killing it may fail, or the answer be lost: its node is what is in trouble. Told of once, it'd be waited for for ever."""
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    assert watched.until(30) == [(10, 1), (20, 1), (30, 1)]
    watched.board.forget(ONE)
    watched.board.forget(OTHER)
    assert watched.until(60) == []
    assert watched.board.begin(OTHER, "encode 1") == 1, "it died over its task"


def test_who_is_told_of_and_gets_on_after_all_is_left_alone() -> None:
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    watched.board.begin(OTHER, "encode 2")
    assert watched.until(10) == [(10, 1), (10, 2)]
    watched.board.end(ONE, "encode 1")
    watched.now = 12
    watched.board.show(OTHER, "encode 2", 7)
    assert watched.until(20) == []
    assert watched.until(22) == [(22, 2)]


def test_nobody_is_accused_when_all_have_stood_still() -> None:
    """After Ctrl-Z, or on a machine that was frozen, the first look would find every healthy worker silent for an hour."""
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    assert watched.until(4) == []
    watched.now = 3600
    assert watched.until(3608) == []
    assert watched.until(3614) == [(3612, 1)]


def test_nobody_at_anything_is_noticed_once_encoding_was_begun() -> None:
    """Ray may forget a task when its worker dies, and wait for it for ever: the night was over."""
    watched = Watched()
    watched.now = 5000
    assert watched.board.idle_s() == 0, "machines may still be on their way"
    watched.board.begin(OTHER, "read 1")
    watched.board.end(OTHER, "read 1")
    watched.now += 700
    assert watched.board.idle_s() == 0, "readers need none of those that encoders wait for"
    watched.board.begin(ONE, "encode 1")
    watched.now += 700
    assert watched.board.idle_s() == 0, "a long unit is no idleness"
    watched.board.begin(OTHER, "stage 1")
    watched.board.end(ONE, "encode 1")
    watched.now += 700
    watched.board.forget(OTHER)
    assert watched.board.idle_s() == 0, "what it died over is given to somebody else now"
    watched.now += 30
    assert watched.board.idle_s() == 30
    watched.board.clear()
    assert watched.board.idle_s() == 0


def test_a_cluster_that_stood_still_was_not_idle() -> None:
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    watched.until(4)
    watched.board.end(ONE, "encode 1")
    watched.now = 3600
    watched.board.overdue(TIMEOUT_S)
    assert watched.board.idle_s() == 0


def test_a_board_that_died_and_came_back_learns_who_is_at_work() -> None:
    """A worker in the middle of a long unit would be taken for idle, and all work in flight be given up for it."""
    watched = Watched()
    watched.board.begin(OTHER, "stage 1")
    watched.board.end(OTHER, "stage 1")
    watched.board.show(ONE, "encode 1", 5)
    watched.now = 700
    assert watched.board.idle_s() == 0
    assert [late.task for late in watched.board.overdue(TIMEOUT_S)] == ["encode 1"], "and it may hang"
    watched.board.end(ONE, "encode 1")
    watched.now = 800
    assert watched.board.idle_s() == 100


def test_who_still_works_on_what_was_planned_anew_is_no_death_of_the_one_who_has_it_now() -> None:
    """Ray leaves actors of a failed graph at what they were at. Two such deaths, and a sound unit was suspected of killing."""
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    watched.board.clear()
    watched.board.show(ONE, "encode 1", 3)
    assert watched.board.begin(OTHER, "encode 1") == 0
    assert watched.until(10) == [(10, 1), (10, 2)], "it is looked after all the same: it holds a GPU"
    watched.board.begin(ONE, "encode 2")
    watched.board.clear()
    assert watched.board.begin(ONE, "encode 1") == 0
    assert watched.board.begin(OTHER, "encode 1") == 1


def test_deaths_while_loading_count_only_one_after_the_other() -> None:
    """Two preemptions in a night would fail the graph under all healthy replicas."""
    watched = Watched()
    assert [watched.board.begin(worker, "load a") for worker in (ONE, OTHER)] == [0, 1]
    watched.board.end(OTHER, "load a")
    assert [watched.board.begin(worker, "load a") for worker in (ONE, OTHER)] == [0, 1]


@pytest.mark.parametrize(
    ("there", "ends", "asked"),
    [
        ([{"GPU": 2.0}, {"GPU": 2.0}], True, 1),
        ([{"GPU": 2.0}, {"CPU": 8.0, "GPU": 4.0}], True, 1),
        ([{"GPU": 2.0, "CPU": 8.0}, {"GPU": 2.0}], True, 1),
        ([{"GPU": 2.0}, {"GPU": 1.0}], True, 0),
        ([{"CPU": 4.0}, {"GPU": 2.0}, {"CPU": 4.0}], True, 0),
        ([{"GPU": 2.0}, {"GPU": 2.0}], False, 2),
    ],
)
def test_work_is_planned_again_unless_a_machine_is_missing(
    monkeypatch: pytest.MonkeyPatch, there: list[dict[str, float]], ends: bool, asked: int
) -> None:
    """Without its GPUs the work would be planned on what is left, or refused: a node that was taken away may come back, also
    one that has come during the wave. Who encodes on GPUs misses no node without."""
    calls: list[None] = []
    wave = Wave(lambda: calls.append(None) or ends, threading.Event(), "GPU")
    watch = object.__new__(RayWatch)
    for resources, idle_s in zip([*there, there[-1]], [*[0] * (len(there) - 1), 700, 700], strict=True):
        monkeypatch.setattr(ray_watch.ray, "cluster_resources", lambda found=resources: found)
        if watch._attend(wave, idle_s, idle_s):
            break
    assert len(calls) == asked, "what could not be ended yet is tried again"


@pytest.mark.parametrize("unattended_s", [5, 25])
def test_a_stop_is_obeyed_where_nobody_is_left_to_obey_it(monkeypatch: pytest.MonkeyPatch, unattended_s: float) -> None:
    """With all machines taken away the driver waited on, until it was killed."""
    left: list[str] = []
    monkeypatch.setattr(ray_watch, "leave", left.append)
    watch = object.__new__(RayWatch)
    for begun in (True, False):
        wave = Wave(lambda begun=begun: begun, threading.Event(), "GPU")
        monkeypatch.setattr(ray_watch.ray, "cluster_resources", dict)
        assert not watch._attend(wave, unattended_s, 0)
        wave.stop.set()
        assert watch._attend(wave, unattended_s, 0) == (unattended_s > ray_watch.STOP_S)
    assert len(left) == (unattended_s > ray_watch.STOP_S), "Ray has nothing yet that could be ended"


def test_a_graph_that_can_not_be_ended_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would look after workers that hang."""
    monkeypatch.setattr(ray_watch.ray, "cluster_resources", dict)
    watch = object.__new__(RayWatch)
    assert not watch._attend(Wave(lambda: 1 / 0 > 0, threading.Event(), "CPU"), 700, 700)


def ask_in_vain() -> None:
    """A store that is away, twice."""
    answers = iter([TransientStorageError("503"), TransientStorageError("503"), None])

    def once() -> None:
        error = next(answers)
        if error is not None:
            raise error

    retry(once, sleep=lambda _: None)


def encode_step() -> Encoding:
    context: Any = SimpleNamespace(open_store=MemoryStore, model=SimpleNamespace(watch=lambda: None))
    return Encoding(context)


def read_step() -> Reading:
    watch, staged = SimpleNamespace(check=lambda: None), SimpleNamespace(directory="")
    model = SimpleNamespace(watch=lambda: watch, stage=lambda: staged, lock=None)
    context: Any = SimpleNamespace(open_store=MemoryStore, model=model, text=None)
    return Reading(context)


def stage_step() -> Staging:
    context: Any = SimpleNamespace(open_store=MemoryStore)
    return Staging(context)


def assemble_step() -> Assembling:
    task: Any = SimpleNamespace(base=0, assembly="a", file=SimpleNamespace(k=0))
    return Assembling(task)


@pytest.mark.parametrize("make", [encode_step, read_step, stage_step, assemble_step])
def test_a_step_that_waits_for_its_store_gets_on_as_long_as_it_asks(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is away for longer than the timeout would count as deaths over healthy units."""
    replica = SimpleNamespace(stats=SimpleNamespace(batches=0))
    monkeypatch.setattr(encoding, "load_replica", lambda *_: (replica, None))
    monkeypatch.setattr(reading, "Preparer", lambda *_: SimpleNamespace(progress=0))
    step = make()
    before = step.progress
    assert step.progress == before
    ask_in_vain()
    assert step.progress >= before + 2


def test_loading_a_model_counts_as_getting_on_for_an_hour_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's library that hangs while a model is loaded would hold the run for ever."""
    now = [0.0]
    seen: list[int] = []
    replica = SimpleNamespace(stats=SimpleNamespace(batches=0))

    def load(*_: object) -> tuple[Any, None]:
        for now[0] in (1.0, 60.0, LOADING_S - 1, LOADING_S, LOADING_S + 600):
            seen.extend(step.progress for step in steps)
        return replica, None

    steps: list[Encoding] = []
    monkeypatch.setattr(encoding, "load_replica", load)
    monkeypatch.setattr(encoding, "free_memory", lambda: None)
    monkeypatch.setattr(encoding, "time", SimpleNamespace(monotonic=lambda: now[0]))
    step = encode_step()
    now[0] = 0.0
    steps.append(step)
    step._replica = None
    step._load()
    assert len(set(seen)) == 4
    assert seen[-1] == seen[-2]
    assert step.progress not in seen, "loaded, it gets on as before"


LAYOUT = Layout("string", (), (), 2, "list", ())


def part_of(row: int) -> Any:
    rows = pa.table(
        {
            "id": [f"r{row}"],
            "token_count": pa.array([1], pa.int32()),
            "truncated": [False],
            "text_hash": [f"{row:032x}"],
            "vector": pa.array([0], pa.int32()),
        }
    )
    return build_part(rows, np.full((1, 2), row, np.float32), LAYOUT)


def test_a_file_that_is_assembled_gets_on_with_each_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four gigabytes from a slow store take longer than any timeout: each run would kill itself at the same place."""
    store = LocalStore(str(tmp_path / "out"))
    parts = [part_of(row) for row in range(6)]
    slices = []
    for row, part in enumerate(parts):
        store.put_new(f"part-{row}", part.data)
        slices.append(SourceSlice(f"u{row}", f"part-{row}", 0, len(part.data), part.sha256, 0, 1, len(part.data)))
    task = AssemblyTask(store.root, worker_environment(), 0, "0" * 32, DataFilePlan(0, "", tuple(slices)), LAYOUT)
    step, seen, table_of = Assembling(task), [], assemble._table

    def look(*arguments: Any) -> pa.Table:
        seen.append(step.progress)
        return table_of(*arguments)

    monkeypatch.setattr(assemble, "_table", look)
    record = step.make()
    assert record.file.rows == 6
    assert len(seen) == len(set(seen)) == 6
    assert step.progress > seen[-1]
