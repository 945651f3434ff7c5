"""What a run does when the store, a device or what it has staged fails it."""

import os
import shutil
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import glob_rows, ids, make_config, write_jsonl
from support.models import edit_json

import pipeline
from pipeline.config.schema import Execution
from pipeline.errors import (
    EncodeError,
    IncompleteError,
    ModelError,
    StorageError,
    TransientStorageError,
    VerificationError,
)
from pipeline.flow import encoding, engine, refusals, staging, supervisor
from pipeline.flow.acks import Ack
from pipeline.flow.maintenance import list_quarantine
from pipeline.flow.planning import Planned
from pipeline.flow.status import read_status
from pipeline.flow.supervisor import run_job
from pipeline.plan.records import SegmentWork
from pipeline.progress.events import Event


def test_a_store_that_refuses_everything_ends_the_run_before_all_units_are_encoded_for_nothing(
    root: str, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at midnight would cost the night."""
    encoded = []
    encode = encoding.encode_finite

    def count(*arguments: Any) -> Any:
        encoded.append(1)
        return encode(*arguments)

    def refuse(*_: object) -> None:
        raise StorageError("no space left on the disk")

    monkeypatch.setattr(encoding, "encode_finite", count)
    monkeypatch.setattr(staging, "create_file", refuse)
    monkeypatch.setattr(refusals, "PATIENCE_S", 0.0)
    with pytest.raises(StorageError, match="no space left"):
        run_job(make_config(shards, root, tiny_model, units__rows=2, units__text_mib=1))
    assert refusals.MOST <= len(encoded) <= refusals.MOST + 4  # some are on their way


def test_units_that_end_in_an_error_do_not_stay_in_memory(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error holds the frames that it came through, and those their vectors: a night with a store that is away would take
    all memory there is."""
    made: list[weakref.ref[Any]] = []
    build = staging.build_part

    def watched(rows: Any, vectors: Any, layout: Any) -> Any:
        made.append(weakref.ref(vectors))
        return build(rows, vectors, layout)

    def away(*_: object) -> None:
        raise TransientStorageError("the store was away")

    alive: list[int] = []

    def count(run: Any, ack: Ack, segment: SegmentWork | None, planned: Planned) -> None:
        take(run, ack, segment, planned)
        del ack
        alive.append(sum(one() is not None for one in made))

    take = supervisor._Run._take
    monkeypatch.setattr(staging, "build_part", watched)
    monkeypatch.setattr(staging, "create_file", away)
    monkeypatch.setattr(supervisor._Run, "_take", count)
    with pytest.raises(IncompleteError, match="the store was away"):
        run_job(make_config(shards, str(tmp_path / "out"), tiny_model, units__rows=4))
    assert len(made) > 30
    assert max(alive) <= 4  # those that are on their way


def test_a_process_whose_device_is_of_no_use_reads_no_further_without_ray(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read and noted what was left three times over, for nothing."""
    asked = []

    def worn(step: encoding.Encoding, unit: Any, _: str) -> Any:
        asked.append(unit)
        step.worn_out = True
        raise EncodeError("the model can't be loaded a second time; run again")

    monkeypatch.setattr(encoding.Encoding, "_try", worn)
    with pytest.raises(EncodeError, match="a second time"):
        run_job(make_config(shards, str(tmp_path / "out"), tiny_model, units__rows=2))
    assert len(asked) <= 3


def test_a_device_that_is_of_no_use_is_not_called_a_bug_without_ray(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is to be tried again, on another machine; exit code 1 says that nobody need try."""

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nsecond line")

    monkeypatch.setattr(encoding, "load_replica", broken)
    with pytest.raises(
        EncodeError, match=r"no replica can be loaded here: RuntimeError: CUDA error: .*; mend that"
    ) as raised:
        run_job(make_config(shards, str(tmp_path / "out"), tiny_model))
    assert raised.value.exit_code == 4
    assert "second line" not in raised.value.message


def test_a_mistake_of_our_own_while_a_replica_is_made_is_still_a_bug(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr(encoding, "load_replica", mistaken)
    with pytest.raises(KeyError, match="of ours"):
        run_job(make_config(shards, str(tmp_path / "out"), tiny_model))


@pytest.mark.parametrize("command", [run_job, supervisor.plan_job])
def test_a_model_that_can_not_be_loaded_is_told_by_a_plan_too(
    tmp_path: Path, shards: Path, tiny_model: str, command: Callable[..., object]
) -> None:
    """An architecture that the installed libraries don't know: a plan said that all was well, and the run that it was a bug."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    edit_json(model / "config.json", model_type="zzz")
    with pytest.raises(ModelError, match=r"can't be loaded \(ValueError: .*`zzz`"):
        command(make_config(shards, str(tmp_path / "out"), str(model)))


def test_a_cluster_that_is_not_up_yet_says_nothing_against_the_gates_texts(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def make(execution: Execution) -> Any:
        calls.append(execution)
        if len(calls) < 3:
            raise IncompleteError("no Ray cluster answers")
        return make_engine(execution)

    make_engine = supervisor.make_engine
    monkeypatch.setattr(supervisor, "make_engine", make)
    notes: list[Event] = []
    reporter: Any = SimpleNamespace(emit=notes.append)
    assert run_job(make_config(shards, str(tmp_path / "out"), tiny_model), reporter=reporter).exit_code == 0
    assert not [note for note in notes if "constructed texts alone" in str(note)]


@pytest.mark.parametrize("change", [lambda data: data[:-9], lambda data: data.replace(b"id", b"di")])
def test_a_staged_file_that_was_damaged_is_named_and_nothing_is_published(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    """Its ids are read first, by Arrow, whose errors looked like a bug."""
    out = tmp_path / "out"
    publish = supervisor.count_duplicate_ids

    def damage(*arguments: Any) -> Any:
        part = next((out / "_embedpipe/part").rglob("*.parquet"))
        part.write_bytes(change(part.read_bytes()))
        return publish(*arguments)

    monkeypatch.setattr(supervisor, "count_duplicate_ids", damage)
    with pytest.raises(VerificationError, match=r"_embedpipe/part/.*was changed or damaged.*gc --abandon"):
        run_job(make_config(shards, str(out), tiny_model))
    assert not list(out.glob("_embedpipe/log/*"))


def test_a_quarantine_file_that_was_damaged_is_named(tmp_path: Path, tiny_model: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": null}\n{"id": "2", "text": "b"}\n')
    out = tmp_path / "out"
    run_job(make_config(tmp_path / "a.jsonl", str(out), tiny_model, output__max_rejected_share=0.9))
    (file,) = (out / "_embedpipe/quarantine").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(VerificationError, match=rf"{file.name}.*was changed or damaged"):
        list_quarantine(str(out))


def test_one_name_that_the_store_does_not_take_leaves_the_other_units_in_peace(
    root: str, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    create = staging.create_file

    def refuse_one(store: Any, key: str, value: bytes) -> None:
        unit = key.rpartition("/")[2].partition("-")[0]
        refused[:] = refused or [unit]
        if unit == refused[0]:
            raise StorageError("no such name")
        create(store, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(staging, "create_file", refuse_one)
        with pytest.raises(IncompleteError, match="rounds in a row committed nothing; the last problem: no such name"):
            run_job(make_config(shards, root, tiny_model, units__rows=10))
    again = run_job(make_config(shards, root, tiny_model, units__rows=10))
    assert again.units_encoded == 1


class Died(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("content", ['{"id": "none", "text": null}\n', ""], ids=["only rejects", "no row"])
def test_a_unit_without_a_text_over_which_a_process_died_is_worked_as_any_other(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """There is nothing in it to suspect. Tried apart, it would end this run and every later one."""
    out = str(tmp_path / "out")
    write_jsonl(tmp_path / "in" / "a.jsonl", range(5))
    (tmp_path / "in" / "b.jsonl").write_text(content, encoding="utf-8")
    config = make_config(tmp_path / "in", out, tiny_model, output__mode="append", output__max_rejected_share=0.9)
    begin = encoding.begin_attempt

    def begin_and_die(*arguments: Any) -> None:
        begin(*arguments)
        if arguments[1].pieces[0].uri.endswith("b.jsonl"):
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "begin_attempt", begin_and_die)
        with pytest.raises(Died):
            pipeline.run(config)
    assert read_status(out).attempts_open == 1
    summary = pipeline.run(config)
    assert summary.exit_code == 0
    assert summary.quarantined == ({"null": 1} if content else {})
    assert glob_rows(out) == ids(range(5))


def test_a_stop_while_data_files_are_made_finishes_the_one_that_was_begun(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the files of a large output takes longer than a scheduler waits before it kills."""
    made: list[str] = []
    write = engine.write_data_file

    def stopped_meanwhile(*arguments: Any) -> Any:
        made.append("a file")
        os.kill(os.getpid(), signal.SIGTERM)
        return write(*arguments)

    config = make_config(
        shards, str(tmp_path / "out"), tiny_model, input__keep=["lang"], output__partition_by=["lang"]
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(engine, "write_data_file", stopped_meanwhile)
        with pytest.raises(IncompleteError, match="stopped on request; 1 of 2 data files are made and stay so"):
            run_job(config)
    monkeypatch.setattr(engine, "write_data_file", lambda *arguments: made.append("a file") or write(*arguments))
    again = run_job(config)
    assert (again.rows, again.rows_encoded, len(made)) == (120, 0, 2)
