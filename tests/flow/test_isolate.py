"""Texts tried apart in throw-away processes: what is taken for poison, and what isn't."""

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import throwaways
from support.jobs import make_config, read_rows
from support.records import EXTRACTION, input_file, spec, whole
from support.throwaways import Script

import pipeline
from pipeline.errors import EncodeError, InputError
from pipeline.flow import encoding, isolate, read_apart, reading, throwaway
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.isolate import Isolated
from pipeline.flow.maintenance import list_quarantine
from pipeline.flow.throwaway import Ended, Throwaway
from pipeline.plan.plan import make_plan, segments_by_id
from pipeline.plan.records import HeadMatch, SegmentWork

TESTS = Path(__file__).parents[1]


TryApart = Callable[[Script, int], Isolated]


@pytest.fixture
def try_apart(monkeypatch: pytest.MonkeyPatch) -> TryApart:
    """Tries texts of one token apart, their number, in processes that do as the script says."""
    monkeypatch.setattr(isolate, "serve_texts", throwaways.serve_scripted)

    def call(script: Script, texts: int) -> Isolated:
        context: Any = script
        tokens, offsets = np.arange(texts, dtype=np.int32), np.arange(texts + 1, dtype=np.int64)
        found = isolate.isolate(context, None, tokens, offsets, lambda: None)
        for text in range(texts):
            assert found.vectors[text].tolist() == ([0, 0] if text in found.poison else [text, text])
        return found

    return call


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_told_to_end_says_nothing_of_its_text(
    try_apart: TryApart, tmp_path: Path, number: signal.Signals
) -> None:
    """A Ctrl-C or a service manager's stop would set a healthy row aside, for good."""
    with pytest.raises(EncodeError, match=f"ended by {number.name}: somebody has asked it to end; run again"):
        try_apart(Script(str(tmp_path), {1: (number, 1)}), 3)


@pytest.mark.parametrize("texts", [3, isolate.GROUP_TEXTS + 1])
def test_one_kill_of_a_healthy_text_alone_in_flight_costs_no_row(
    try_apart: TryApart, tmp_path: Path, texts: int
) -> None:
    """When memory runs out, the system takes whom it likes. A group is killed once, and then its text alone once more."""
    deaths = 1 if texts <= isolate.GROUP_TEXTS else 2
    assert try_apart(Script(str(tmp_path), {1: (signal.SIGKILL, deaths)}), texts).poison == {}
    assert len((tmp_path / "1.deaths").read_bytes()) == deaths


@pytest.mark.parametrize("texts", [1, 3])
def test_a_text_that_is_killed_twice_alone_in_flight_is_poison(try_apart: TryApart, tmp_path: Path, texts: int) -> None:
    """Also where it is alone in its unit, which has died before: that may have been a machine that was taken away."""
    found = try_apart(Script(str(tmp_path), {0: (signal.SIGKILL, 9)}), texts)
    assert found.poison == {0: "its process was killed, as the system does when memory runs out"}
    assert len((tmp_path / "0.deaths").read_bytes()) == 2


@pytest.mark.parametrize("texts", [3, isolate.GROUP_TEXTS + 1])
def test_a_process_that_was_stopped_over_a_healthy_text_costs_no_row(
    try_apart: TryApart, tmp_path: Path, texts: int
) -> None:
    """So does a machine that is short of memory and swaps: the text that is alone in flight then has done nothing."""
    stops = 1 if texts <= isolate.GROUP_TEXTS else 2
    script = Script(str(tmp_path), {1: (signal.SIGSTOP, stops)}, unit_timeout_s=2)
    assert try_apart(script, texts).poison == {}
    assert len((tmp_path / "1.deaths").read_bytes()) == stops


def test_a_text_that_hangs_twice_alone_in_flight_is_poison(try_apart: TryApart, tmp_path: Path) -> None:
    found = try_apart(Script(str(tmp_path), {1: (signal.SIGSTOP, 9)}, unit_timeout_s=2), 3)
    assert found.poison == {1: "no answer within 2 s"}
    assert len((tmp_path / "1.deaths").read_bytes()) == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are given only when a process that goes without any is gone."""
    encode = isolate._Replica.encode

    def encode_late(self: isolate._Replica, *arguments: Any) -> Any:
        if self.device == "gone":
            self._process._process.wait(60)
        return encode(self, *arguments)

    monkeypatch.setattr(isolate._Replica, "encode", encode_late)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("texts", [1, isolate.GROUP_TEXTS + 1])
def test_a_process_that_is_gone_before_it_has_a_text_says_nothing_about_it(
    try_apart: TryApart, tmp_path: Path, texts: int
) -> None:
    """It ends of itself, so that it'd be believed at once: a healthy row would be set aside."""
    assert try_apart(Script(str(tmp_path), leaves=isolate.MAX_IDLE_ENDS), texts).poison == {}
    assert len((tmp_path / "idle.deaths").read_bytes()) == isolate.MAX_IDLE_ENDS


@pytest.mark.usefixtures("patient")
def test_processes_that_are_gone_before_they_have_a_text_are_not_started_for_ever(
    try_apart: TryApart, tmp_path: Path
) -> None:
    with pytest.raises(EncodeError, match="ended with exit code 0, before it was given one, 4 times over"):
        try_apart(Script(str(tmp_path), leaves=99), 3)


ON_CPU = "EncodeError: one text of 9 tokens doesn't fit into the memory of the cpu; set a lower model.max_tokens"
ON_GPU = "EncodeError: one text of 9 tokens doesn't fit into the memory of the cuda; set a lower model.max_tokens"
SMALL = isolate.ENOUGH_BYTES - 1


@pytest.mark.parametrize(
    "how",
    [
        ON_CPU,
        "MemoryError",
        "_ArrayMemoryError: Unable to allocate 1.00 GiB for an array with shape (1073741824,) and data type uint8",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    ],
)
def test_a_text_that_fails_for_memory_where_there_is_little_is_not_called_poison(
    try_apart: TryApart, tmp_path: Path, how: str
) -> None:
    """A replica that has the machine to itself encodes it well."""
    with pytest.raises(EncodeError, match=r"no room on this machine .* 1023 MiB are left .*; run again") as caught:
        try_apart(Script(str(tmp_path), raised={1: how}, room=SMALL), 3)
    assert how in caught.value.message


def test_a_text_that_is_killed_for_memory_where_there_is_little_is_not_called_poison(
    try_apart: TryApart, tmp_path: Path
) -> None:
    """The limit promises some room even where nothing is free; then the system kills, before the limit is reached."""
    script = Script(str(tmp_path), {1: (signal.SIGKILL, 9)}, room=SMALL)
    with pytest.raises(EncodeError, match=r"no room on this machine .*killed, as the system does when memory runs out"):
        try_apart(script, 3)


def test_a_text_that_hangs_is_poison_however_little_memory_there_is(try_apart: TryApart, tmp_path: Path) -> None:
    script = Script(str(tmp_path), {1: (signal.SIGSTOP, 9)}, room=SMALL, unit_timeout_s=2)
    assert try_apart(script, 3).poison == {1: "no answer within 2 s"}


@pytest.mark.parametrize(
    ("how", "room"),
    [
        (ON_CPU, isolate.ENOUGH_BYTES),
        ("MemoryError", None),
        (ON_GPU, SMALL),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", SMALL),
        ("RuntimeError: the kernel failed", SMALL),
    ],
)
def test_a_text_that_fails_where_there_is_enough_or_for_another_reason_is_poison(
    try_apart: TryApart, tmp_path: Path, how: str, room: int | None
) -> None:
    assert try_apart(Script(str(tmp_path), raised={1: how}, room=room), 3).poison == {1: how}


def test_a_group_that_fails_for_memory_where_there_is_little_is_tried_text_by_text(
    try_apart: TryApart, tmp_path: Path
) -> None:
    """A long text may fail beside others that alone succeeds."""
    script = Script(str(tmp_path), raised={1: "MemoryError"}, room=SMALL)
    with pytest.raises(EncodeError, match=r"one text alone fails in those \(MemoryError\)"):
        try_apart(script, isolate.GROUP_TEXTS + 1)


def test_a_throw_away_process_tells_its_room_and_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SimpleNamespace(
        placement=SimpleNamespace(device="cuda", dtype="float16"),
        compile_within=contextlib.nullcontext,
        encode=lambda *_: np.full((1, 2), encoder.compile_within is None, np.float32),
    )
    monkeypatch.setattr(isolate, "load_replica", lambda *_: (encoder, SimpleNamespace(to_json=dict)))
    monkeypatch.setattr(isolate, "limit_memory", lambda: 7)
    given, told = (
        iter([(SimpleNamespace(open_store=lambda: None), None), (np.zeros(1, np.int32), np.array([0, 1]))]),
        [],
    )

    def receive() -> Any:
        for message in given:
            return message
        raise EOFError

    pipe: Any = SimpleNamespace(recv=receive, send=told.append)
    isolate.serve_texts(pipe)
    ready, vectors = told
    assert ready == ("cuda", "float16", {}, 7)
    assert vectors.tolist() == [[1, 1]], "it was told not to"


@pytest.mark.parametrize(("module", "step"), [(isolate, "load_replica"), (reading, "Reading")])
def test_a_throw_away_process_that_can_be_given_nothing_to_work_with_says_why(
    monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    """What it writes goes nowhere: "exit code 1" was all that anybody saw."""

    def fail(*_: object) -> None:
        raise RuntimeError("no CUDA-capable device is detected\nsecond line")

    monkeypatch.setattr(module, step, fail)
    told: list[Any] = []
    context = SimpleNamespace(open_store=lambda: None)
    pipe: Any = SimpleNamespace(recv=lambda: (context, None), send=told.append)
    (isolate.serve_texts if module is isolate else read_apart.serve_segment)(pipe)
    (error,) = told
    assert isinstance(error, EncodeError)
    assert error.message.endswith("RuntimeError: no CUDA-capable device is detected")


@pytest.mark.parametrize("number", [signal.SIGSEGV, 0])
def test_a_process_that_ends_of_itself_is_believed_at_once(try_apart: TryApart, tmp_path: Path, number: int) -> None:
    assert list(try_apart(Script(str(tmp_path), {0: (number, 9)}), 2).poison) == [0]
    assert len((tmp_path / "0.deaths").read_bytes()) == 1


def test_too_many_poisonous_texts_are_not_believed(
    try_apart: TryApart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "MAX_POISON", 1)
    with pytest.raises(InputError, match="more than 1 texts of one unit end the process"):
        try_apart(Script(str(tmp_path), {0: (0, 9), 1: (0, 9), 2: (0, 9)}), 3)


def test_a_unit_with_too_many_poisonous_texts_fails_and_the_others_are_published(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error that may pass, it would be tried in every round of every run, and nothing ever published."""
    from faults.encoder import Gate, ScriptedEncoder

    monkeypatch.setenv("FAULTS_POISON", json.dumps({"aardvark": "raise"}))
    monkeypatch.setenv("FAULTS_HOOKS", "faults.encoder")
    monkeypatch.syspath_prepend(str(TESTS / "faults" / "site"))
    monkeypatch.setattr(encoding, "load_replica", lambda *_: (ScriptedEncoder(tiny_model), Gate()))
    monkeypatch.setattr(isolate, "MAX_POISON", 1)
    for name, text in (("bad", "aardvark"), ("good", "fine")):
        rows = [{"id": f"{name}-{row}", "text": f"{text} {row}"} for row in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = str(tmp_path / "out")
    config = make_config(tmp_path / "*.jsonl", out, tiny_model, output__mode="append", output__max_rejected_share=0.9)
    summary = pipeline.run(config)
    assert summary.exit_code == 4
    ((uri, reason),) = summary.failed.items()
    assert uri == str(tmp_path / "bad.jsonl")
    assert "more than 1 texts of one unit end the process that encodes them" in reason
    assert sorted(read_rows(out)) == ["good-0", "good-1"]
    assert list_quarantine(out).num_rows == 0


@pytest.mark.parametrize(
    ("number", "state"),
    [(signal.SIGTERM, "error"), (signal.SIGINT, "error"), (signal.SIGKILL, "failed"), (0, "failed")],
)
def test_a_file_that_is_read_apart_fails_unless_its_reader_was_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, state: str
) -> None:
    """Published without a healthy file, because somebody stopped the run: it would be the next run's to find out."""
    segments = segments_by_id(spec().spec_id, [whole(input_file("a.jsonl"))], EXTRACTION)
    (work,) = make_plan(HeadMatch((), (), 0, frozenset()), segments, {}, {}, 0).pending
    monkeypatch.setattr(read_apart, "serve_segment", throwaways.serve_dying)
    context: Any = Script(str(tmp_path), {0: (number, 2)})

    def give_up(work: SegmentWork, k: int, error: InputError) -> Ack:
        return failed_ack("failed", work, k, error)

    (ack,) = read_apart.read_apart(context, work, give_up, lambda: None)
    assert isinstance(ack, Ack)
    assert (ack.state, ack.uri) == (state, "/in/a.jsonl")
    assert ("run again" if state == "error" else "reading it ends the process that does") in ack.message


@pytest.mark.parametrize("deaths", [{0: 1}, {1: 1}, {0: 1, 1: 1, 2: 1}, {1: 2}, {0: 1, 2: 2}])
def test_a_file_whose_reader_is_killed_is_believed_to_be_bad_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: dict[int, int]
) -> None:
    """A machine that is short of memory kills healthy readers, and a lost node takes them along: their file would be published
    without. Each unit is read once all the same, and none twice."""
    segments = segments_by_id(spec().spec_id, [whole(input_file("a.jsonl"))], EXTRACTION)
    (work,) = make_plan(HeadMatch((), (), 0, frozenset()), segments, {}, {}, 0).pending
    monkeypatch.setattr(read_apart, "serve_segment", throwaways.serve_dying)
    context: Any = Script(str(tmp_path), {k: (signal.SIGKILL, times) for k, times in deaths.items()})
    given_up: list[int] = []

    def give_up(work: SegmentWork, k: int, error: InputError) -> Ack:
        given_up.append(k)
        return failed_ack("failed", work, k, error)

    found = list(read_apart.read_apart(context, work, give_up, lambda: None))
    bad = [k for k, times in deaths.items() if times > 1]
    assert given_up == bad
    read = [unit.task.k for unit in found if not isinstance(unit, Ack)]
    assert read == [*range(bad[0] if bad else throwaways.UNITS)]


def test_a_file_that_was_not_asked_for_when_its_reader_ended_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which nothing can be loaded would call each file bad, and publish without them."""
    segments = segments_by_id(spec().spec_id, [whole(input_file("a.jsonl"))], EXTRACTION)
    (work,) = make_plan(HeadMatch((), (), 0, frozenset()), segments, {}, {}, 0).pending
    monkeypatch.setattr(read_apart, "serve_segment", throwaways.serve_dying)
    context: Any = Script(str(tmp_path), leaves=1)

    def give_up(work: SegmentWork, k: int, error: InputError) -> Ack:
        raise AssertionError(error.message)

    (ack,) = read_apart.read_apart(context, work, give_up, lambda: None)
    assert isinstance(ack, Ack)
    assert ack.state == "error"
    assert "/in/a.jsonl was to be read apart, and its process ended with exit code 0; run again" in ack.message


def test_a_throw_away_process_is_out_of_reach_of_signals_to_our_process_group() -> None:
    """On Ctrl-C this process finishes what is in flight; the terminal sends the signal to the whole group."""
    process = Throwaway(throwaways.say_who)
    who, group, session = process.receive(60)
    process.end()
    assert who == group == session != os.getsid(0)


def test_a_process_that_closes_its_pipe_and_stays_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waited for without limit, it would hold up its unit, and the run, for ever."""
    monkeypatch.setattr(throwaway, "END_S", 0.05)
    process = Throwaway(throwaways.hang_up)
    process.send("go")
    with pytest.raises(Ended, match=r"closed the pipe and did not end within 0\.05 s") as caught:
        process.receive(60)
    assert caught.value.by is None
    assert process._process.poll() == -signal.SIGKILL


def test_a_throw_away_process_runs_no_code_of_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder named `pipeline` there made every run fail; any module there would have been run."""
    (tmp_path / "pipeline").mkdir()
    for name in ("ctypes.py", "pipeline/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    process = Throwaway(throwaways.echo)
    process.send("answer")
    assert process.receive(60) == "answer"
    process.end()


def test_a_pause_of_our_own_does_not_count_against_the_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-Z, or on a machine that was frozen, both have stood still; a healthy text would pass for one that hangs."""
    process = Throwaway(throwaways.echo)
    monkeypatch.setattr(throwaway, "POLL_S", 0.01)
    ticks = itertools.chain([0.0], itertools.count(1000.0, 0.001))
    monkeypatch.setattr(throwaway, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    waits = itertools.count(1)

    def answer_late() -> None:
        if next(waits) == 2:
            process.send("answer")

    assert process.receive(30, answer_late) == "answer"
    process.end()


def test_a_process_that_gives_no_answer_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Throwaway(throwaways.echo)
    monkeypatch.setattr(throwaway, "POLL_S", 0.001)
    ticks = itertools.count(0.0, 0.001)
    monkeypatch.setattr(throwaway, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(Ended, match=r"no answer within 0\.05 s") as caught:
        process.receive(0.05)
    assert caught.value.by == signal.SIGKILL
    assert process._process.poll() == -signal.SIGKILL
