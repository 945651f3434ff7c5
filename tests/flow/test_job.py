"""Whole jobs through the serial engine: what is published after a first run, a re-run and every kind of change."""

import datetime
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.jobs import glob_rows, ids, make_config, read_rows, text_of, write_jsonl, write_parquet

import pipeline
from pipeline.check.verify import verify
from pipeline.config.schema import Execution
from pipeline.errors import (
    ConfigError,
    EncodeError,
    IncompleteError,
    InputError,
    QuarantineError,
    RefusedError,
    SourceChanged,
    StorageError,
    TransientStorageError,
    VerificationError,
)
from pipeline.flow import encoding, planning, reading, refusals, staging, supervisor
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.context import JobContext
from pipeline.flow.maintenance import list_quarantine, retry_quarantine
from pipeline.flow.serial import SerialEngine
from pipeline.flow.status import read_status
from pipeline.flow.supervisor import plan_job, run_job
from pipeline.plan.records import SegmentWork
from pipeline.progress.events import Event, PlanReady
from pipeline.source.records import Segment, SourceUnit
from pipeline.storage.local import LocalStore

SMALL_UNITS = {"units__rows": 16}
LONG = 100  # words: 40 such rows are a shard too big to be grouped with others, where a unit holds 1 MiB of text


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three Parquet shards of 40 rows."""
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40))
    return tmp_path / "in"


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

    def count(run: Any, ack: Ack, segment: SegmentWork | None) -> None:
        take(run, ack, segment)
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
            run_job(make_config(shards, root, tiny_model, units__rows=2))
    again = run_job(make_config(shards, root, tiny_model, units__rows=2))
    assert again.units_encoded == 1


def test_the_snapshot_is_the_input_row_by_row_with_the_models_own_vectors(
    root: str, shards: Path, tiny_model: str
) -> None:
    from sentence_transformers import SentenceTransformer

    summary = pipeline.run(make_config(shards, root, tiny_model, model__precision="exact", **SMALL_UNITS))
    assert summary.exit_code == 0
    rows = read_rows(root)
    assert sorted(rows) == ids(range(120))
    expected = SentenceTransformer(tiny_model, device="cpu").encode([text_of(row) for row in range(120)])
    found = np.array([rows[f"id-{row}"] for row in range(120)])
    assert np.abs(found - expected).max() < 1e-5


def test_a_second_run_reads_nothing_and_publishes_nothing(
    shards: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orchestrators retry jobs that succeeded; that must cost seconds and double nothing."""
    config = make_config(shards, str(tmp_path / "out"), tiny_model)
    first = pipeline.run(config)
    monkeypatch.setattr("pipeline.flow.reading.read_segment", lambda *_: pytest.fail("input rows were read"))
    second = pipeline.run(config)
    assert (second.version, second.exit_code) == (first.version, 0)
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_an_added_a_changed_and_a_removed_shard_cost_that_shards_work_only(
    tmp_path: Path, tiny_model: str, write
) -> None:  # type: ignore[no-untyped-def]
    source, out = tmp_path / "in", str(tmp_path / "out")
    suffix = "parquet" if write is write_parquet else "jsonl"
    for shard in range(12):
        write(source / f"{shard:02}.{suffix}", range(40 * shard, 40 * shard + 40), LONG)
    config = make_config(source, out, tiny_model, units__text_mib=1)
    pipeline.run(config)
    write(source / f"99.{suffix}", range(1000, 1040), LONG)
    assert pipeline.run(config).rows_encoded == 40
    assert glob_rows(out) == sorted(ids(range(480)) + ids(range(1000, 1040)))
    write(source / f"05.{suffix}", range(2000, 2050), LONG)
    assert pipeline.run(config).rows_encoded == 50
    others = ids(range(200)) + ids(range(240, 480)) + ids(range(1000, 1040))
    assert glob_rows(out) == sorted(others + ids(range(2000, 2050)))
    (source / f"05.{suffix}").unlink()
    assert pipeline.run(config).rows_encoded == 0
    assert glob_rows(out) == sorted(others)


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_among_small_files_a_change_costs_the_group_it_is_in(tmp_path: Path, tiny_model: str, write) -> None:  # type: ignore[no-untyped-def]
    source, out = tmp_path / "in", str(tmp_path / "out")
    suffix = "parquet" if write is write_parquet else "jsonl"
    for shard in range(60):  # too much for one group, where groups end at 64 KiB
        write(source / f"{shard:02}.{suffix}", range(3 * shard, 3 * shard + 3), LONG)
    config = make_config(source, out, tiny_model, units__text_mib=1)
    pipeline.run(config)
    write(source / f"42.{suffix}", range(2000, 2003), LONG)
    assert pipeline.run(config).rows_encoded < 180
    assert glob_rows(out) == sorted(ids(range(126)) + ids(range(129, 180)) + ids(range(2000, 2003)))


def test_losing_a_third_of_the_input_is_refused_until_allowed(shards: Path, tmp_path: Path, tiny_model: str) -> None:
    """A half-synced bucket must not empty the table overnight."""
    out = str(tmp_path / "out")
    config = make_config(shards, out, tiny_model)
    pipeline.run(config)
    (shards / "0.parquet").unlink()
    with pytest.raises(RefusedError, match="40 of the 120 rows"):
        pipeline.run(config)
    assert glob_rows(out) == ids(range(120))
    run_job(config, allow_drop=True)
    assert glob_rows(out) == ids(range(40, 120))


def test_append_keeps_what_is_not_listed_today(shards: Path, tmp_path: Path, tiny_model: str) -> None:
    out = str(tmp_path / "out")
    pipeline.run(make_config(shards / "0.parquet", out, tiny_model, output__mode="append"))
    pipeline.run(make_config(shards / "1.parquet", out, tiny_model, output__mode="append"))
    assert glob_rows(out) == ids(range(80))


def test_execution_settings_redo_nothing_and_another_model_is_refused_unless_replacing(
    shards: Path, tmp_path: Path, tiny_model: str, minilm: str
) -> None:
    out = str(tmp_path / "out")
    first = pipeline.run(make_config(shards, out, tiny_model))
    again = pipeline.run(make_config(shards, out, tiny_model, execution__token_budget=512, execution__threads=1))
    assert again.version == first.version
    for change in ({"model__prompt": "query: "}, {"model__truncate_dim": 8}):
        with pytest.raises(RefusedError, match="holds another spec"):
            pipeline.run(make_config(shards, out, tiny_model, **change))
    run_job(make_config(shards, out, tiny_model, model__truncate_dim=8), replace=True)
    assert {len(vector) for vector in read_rows(out).values()} == {8}
    assert glob_rows(out) == ids(range(120))


def test_a_limited_run_is_a_preview_that_the_full_run_replaces(shards: Path, tmp_path: Path, tiny_model: str) -> None:
    out = str(tmp_path / "out")
    config = make_config(shards, out, tiny_model)
    run_job(config, limit=50)
    assert len(glob_rows(out)) == 50
    pipeline.run(config)
    assert glob_rows(out) == ids(range(120))
    with pytest.raises(RefusedError, match="--limit"):
        run_job(config, limit=50)


def test_partitions_and_file_size_are_honoured_together(shards: Path, tmp_path: Path, tiny_model: str) -> None:
    out = tmp_path / "out"
    pipeline.run(
        make_config(shards, str(out), tiny_model, output__partition_by=["lang"], input__keep=["lang"], **SMALL_UNITS)
    )
    assert {path.parent.name for path in (out / "data").rglob("*.parquet")} == {"lang=de", "lang=en"}
    assert glob_rows(str(out)) == ids(range(120))


def test_rows_that_cant_be_embedded_are_kept_aside_within_the_allowed_share(tmp_path: Path, tiny_model: str) -> None:
    source, out = tmp_path / "in.jsonl", str(tmp_path / "out")
    source.write_text(
        '{"id":"a","text":"fine"}\n{"id":"b","text":null}\n{"id":"c","text":"\\ud800"}\n', encoding="utf-8"
    )
    config = make_config(source, out, tiny_model)
    with pytest.raises(QuarantineError, match="2 of 3"):
        pipeline.run(config)
    summary = pipeline.run(make_config(source, out, tiny_model, output__max_rejected_share=0.9))
    assert list(read_rows(out)) == ["a"]
    assert summary.quarantined == {"null": 1, "lone_surrogate": 1}


def test_a_file_that_cant_be_read_is_named_and_other_files_work_is_committed(tmp_path: Path, tiny_model: str) -> None:
    out = str(tmp_path / "out")
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40), LONG)
    broken = tmp_path / "in" / "1.parquet"
    data = bytearray(broken.read_bytes())
    data[40:200] = os.urandom(160)
    broken.write_bytes(data)
    config = make_config(tmp_path / "in", out, tiny_model, units__text_mib=1)
    with pytest.raises(InputError, match=r"1\.parquet"):
        pipeline.run(config)
    assert not (tmp_path / "out" / "data").exists()
    write_parquet(broken, range(40, 80), LONG)
    summary = pipeline.run(config)
    assert glob_rows(out) == ids(range(120))
    assert summary.rows_encoded == 40, "the other shards' work was kept"


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_cut_off_is_named_and_the_others_are_published_within_the_allowed_share(
    tmp_path: Path, tiny_model: str, number: int, size: int
) -> None:
    """An upload that broke off: without its footer a Parquet file can't even be planned, and the first one is where
    columns are looked up."""
    out = str(tmp_path / "out")
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40), LONG)
    broken = tmp_path / "in" / f"{number}.parquet"
    broken.write_bytes(broken.read_bytes()[:size])
    config = make_config(tmp_path / "in", out, tiny_model, units__text_mib=1)
    if size:
        with pytest.raises(InputError, match=rf"{number}\.parquet"):
            pipeline.run(
                make_config(tmp_path / "in", out, tiny_model, units__text_mib=1, output__max_rejected_share=0.0)
            )
    summary = run_job(make_config(tmp_path / "in", out, tiny_model, units__text_mib=1, output__max_rejected_share=0.5))
    assert (summary.state, summary.exit_code, list(summary.failed)) == ("incomplete", 4, [str(broken)])
    assert len(glob_rows(out)) == 80
    write_parquet(broken, range(40 * number, 40 * number + 40), LONG)
    assert pipeline.run(config).rows_encoded == 40
    assert glob_rows(out) == ids(range(120))


def test_in_a_group_of_small_files_only_those_at_fault_are_named(tmp_path: Path, tiny_model: str) -> None:
    """Two rounds, not one for every file of the group."""
    source, out = tmp_path / "in", str(tmp_path / "out")
    for shard in range(30):
        write_jsonl(source / f"{shard:02}.jsonl", range(3 * shard, 3 * shard + 3))
    for bad in ("00", "17"):
        (source / f"{bad}.jsonl").write_text('{"id": "x", "text": " "}\n', encoding="utf-8")
    config = make_config(source, out, tiny_model, rows__empty="refuse", output__max_rejected_share=0.5)
    plans: list[PlanReady] = []

    class Plans:
        def emit(self, event: Event) -> None:
            plans.extend([event] if isinstance(event, PlanReady) else [])

    summary = run_job(config, reporter=Plans())
    assert sorted(Path(uri).name for uri in summary.failed) == ["00.jsonl", "17.jsonl"]
    assert all("position 0: the text is empty" in reason for reason in summary.failed.values())
    assert summary.rows == 84
    assert len(plans) <= 3
    for bad in (0, 17):
        write_jsonl(source / f"{bad:02}.jsonl", range(3 * bad, 3 * bad + 3))
    pipeline.run(config)
    assert glob_rows(out) == ids(range(90))
    told = read_status(out)
    assert (told.state, told.failed, told.units_committed) == ("published", {}, 0)


def test_a_new_file_that_can_not_be_read_is_published_as_missing_and_forgotten_when_it_goes(
    tmp_path: Path, tiny_model: str
) -> None:
    """Nothing else has changed. Were nothing published, `status` and `verify` would say that nothing is missing."""
    source, out = tmp_path / "in", str(tmp_path / "out")
    write_parquet(source / "a.parquet", range(40), LONG)
    config = make_config(source, out, tiny_model, units__text_mib=1, output__max_rejected_share=0.5)
    pipeline.run(config)
    broken = source / "b.parquet"
    broken.write_bytes((source / "a.parquet").read_bytes()[:-9])
    first, again = run_job(config), run_job(config)
    assert (first.version, first.published, first.exit_code) == (2, True, 4)
    assert (again.version, again.published, again.exit_code) == (2, False, 4)  # known by now
    assert list(read_status(out).failed) == [str(broken)]
    assert verify(out).passed
    broken.unlink()
    mended = run_job(config)
    assert (mended.version, mended.published, mended.exit_code) == (3, True, 0)
    assert read_status(out).failed == {}


def test_what_was_staged_of_a_group_that_failed_is_collected_once_its_other_files_are_published(
    tmp_path: Path, tiny_model: str
) -> None:
    """Nobody would ever need it again, and each later run that groups the file with new neighbours would add to it."""
    source, out = tmp_path / "in", tmp_path / "out"
    for shard in range(3):
        write_jsonl(source / f"{shard}.jsonl", range(60 * shard, 60 * shard + 60))
    with (source / "2.jsonl").open("a") as file:
        file.write('{"id": "x", "text": " "}\n')
    config = make_config(
        source, str(out), tiny_model, rows__empty="refuse", output__max_rejected_share=0.9, units__rows=50
    )
    assert (run_job(config).exit_code, run_job(config).published) == (4, False)
    staged = [path for path in (out / "_embedpipe" / "part").rglob("*") if path.is_file()]
    assert staged == []
    assert read_status(str(out)).units_committed == 0


def test_a_limited_run_is_the_same_taste_each_time(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the first of very many files, and would go on behind them each time it is run."""
    monkeypatch.setattr(planning, "MAX_LIMITED_PIECES", 5)
    for shard in range(12):
        write_jsonl(tmp_path / "in" / f"{shard:02}.jsonl", range(3 * shard, 3 * shard + 3))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)
    first, again = run_job(config, limit=4), run_job(config, limit=4)
    assert (first.rows, first.version) == (4, 1)
    assert (again.rows, again.rows_encoded, again.version, again.exit_code) == (4, 0, 1, 0)
    write_jsonl(tmp_path / "in" / "00a.jsonl", range(100, 103))
    anew = run_job(config, limit=4)
    assert (anew.rows, anew.version) == (4, 2)
    assert glob_rows(str(tmp_path / "out")) == ["id-0", "id-1", "id-100", "id-2"]


def test_rows_of_a_file_that_was_mended_are_quarantined_no_more(tmp_path: Path, tiny_model: str) -> None:
    """Nothing of its unit was ever embedded, so nothing was staged of it that could be collected."""
    source, out = tmp_path / "in", str(tmp_path / "out")
    write_parquet(source / "a.parquet", range(40), LONG)
    pq.write_table(pa.table({"id": ["x"], "text": pa.array([None], pa.string())}), source / "b.parquet")
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), source / "c.parquet")
    config = make_config(
        source, out, tiny_model, units__text_mib=1, output__max_rejected_share=0.5, output__mode="append"
    )
    assert run_job(config).quarantined == {"null": 1}
    for name in "bc":
        write_parquet(source / f"{name}.parquet", range(40, 42))
        (source / f"{name}.parquet").rename(source / f"{name}2.parquet")
    (source / "b2.parquet").replace(source / "b.parquet")
    (source / "c2.parquet").unlink()
    assert run_job(config).exit_code == 0
    assert list_quarantine(out).num_rows == 0
    told = read_status(out)
    assert (told.state, told.units_committed) == ("published", 0)


def test_work_on_a_file_that_was_mended_shows_before_it_is_published(tmp_path: Path, tiny_model: str) -> None:
    """The snapshot says that it is without the file; what is committed of it since is no leftover."""
    source, out = tmp_path / "in", str(tmp_path / "out")
    write_parquet(source / "a.parquet", range(40), LONG)
    whole = (source / "a.parquet").read_bytes()
    (source / "b.parquet").write_bytes(whole[:-9])
    config = make_config(source, out, tiny_model, units__text_mib=1, output__max_rejected_share=0.6)
    assert run_job(config).exit_code == 4
    write_parquet(source / "b.parquet", range(40, 80), LONG)
    (source / "c.parquet").write_bytes(whole[:-9] * 9)
    with pytest.raises(InputError, match=r"c\.parquet"):
        run_job(make_config(source, out, tiny_model, units__text_mib=1, output__max_rejected_share=0.1))
    assert read_status(out).rows_committed == 40


def test_rows_that_were_to_be_tried_again_in_vain_stay_and_are_tried_by_the_next_run(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that ends in an error may neither cost the rows that are published nor be forgotten with exit code 0."""
    out = str(tmp_path / "out")
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["fine", None]}), tmp_path / "in.parquet")
    config = make_config(tmp_path / "in.parquet", out, tiny_model, output__max_rejected_share=0.5)
    run_job(config)
    assert retry_quarantine(out) == 1

    def fail(segment: Segment, *_: object) -> Iterator[SourceUnit]:
        raise InputError(f"{segment.pieces[0].file.uri}: the disk is tired", segment.pieces[0].file.uri)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_segment", fail)
        vain = run_job(config)
    assert (vain.exit_code, vain.published, vain.rows) == (4, False, 1)
    ((_, reason),) = vain.failed.items()
    assert reason == "the disk is tired; its rows stay as they were published"
    again = run_job(config)
    assert (again.exit_code, again.units_encoded, again.rows) == (0, 1, 1)
    assert run_job(config).units_encoded == 0


def test_a_published_file_that_is_overwritten_and_cut_off_weighs_what_it_did(tmp_path: Path, tiny_model: str) -> None:
    """A producer that crashes leaves an empty file: by its bytes it is nothing, and a tenth of the rows may go."""
    source, out = tmp_path / "in", str(tmp_path / "out")
    write_parquet(source / "a.parquet", range(95), LONG)
    write_parquet(source / "b.parquet", range(95, 100), LONG)
    config = make_config(source, out, tiny_model, units__text_mib=1, output__max_rejected_share=0.01)
    run_job(config)
    (source / "b.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"5\.0% of the input's bytes or of the published rows"):
        run_job(config)
    assert glob_rows(out) == ids(range(100))


def test_appended_days_with_the_same_file_names_are_not_given_the_same_ids(tmp_path: Path, tiny_model: str) -> None:
    """Without an id column a row is named by its file's path below the input's root, and each day has a root of its own."""
    for day in "12":
        (tmp_path / day).mkdir()
        (tmp_path / day / "part.jsonl").write_text(json.dumps({"text": f"of day {day}"}) + "\n")
    options: dict[str, Any] = {"output__mode": "append", "input__id": None}
    run_job(make_config(tmp_path / "1", str(tmp_path / "out"), tiny_model, **options))
    second = make_config(tmp_path / "2", str(tmp_path / "out"), tiny_model, **options)
    with pytest.raises(InputError, match=r"set input\.root to a folder above"):
        run_job(second)
    rooted = make_config(tmp_path / "2", str(tmp_path / "out"), tiny_model, input__root=str(tmp_path), **options)
    assert run_job(rooted).rows == 2


def test_a_limited_run_names_the_file_that_ends_it(tmp_path: Path, tiny_model: str) -> None:
    """It is one segment of many files, and the first of them is fine."""
    for shard in range(20):
        write_jsonl(tmp_path / "in" / f"{shard:02}.jsonl", range(3 * shard, 3 * shard + 3))
    (tmp_path / "in" / "07.jsonl").write_text('{"id": "x", "text": " "}\n')
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, rows__empty="refuse")
    with pytest.raises(
        InputError, match=r"^\S*07\.jsonl: position 0: .*A run with --limit reads the files one after the"
    ):
        run_job(config, limit=40)
    assert run_job(config, limit=20).rows == 20


def test_a_file_of_a_group_that_keeps_changing_is_the_one_that_is_named(tmp_path: Path, tiny_model: str) -> None:
    for shard in range(5):
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", range(3 * shard, 3 * shard + 3))
    busy = tmp_path / "in" / "3.jsonl"
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__max_attempts=20)

    class Writer:
        """Writes to the file whenever a plan is ready."""

        def emit(self, event: Event) -> None:
            if isinstance(event, PlanReady):
                write_jsonl(busy, range(1000 + len(busy.read_bytes()), 1003 + len(busy.read_bytes())))
                busy.write_bytes(busy.read_bytes() + b"\n")

    with pytest.raises(IncompleteError, match=r"in/3\.jsonl changed under its reader"):
        run_job(config, reporter=Writer())


def test_no_share_at_all_may_be_missing_not_even_an_empty_file(tmp_path: Path, tiny_model: str) -> None:
    """By bytes it weighs nothing."""
    write_parquet(tmp_path / "in" / "a.parquet", range(40), LONG)
    (tmp_path / "in" / "b.parquet").touch()
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, units__text_mib=1, output__max_rejected_share=0.0
    )
    with pytest.raises(InputError, match=r"b\.parquet"):
        run_job(config)


def test_a_first_file_without_the_column_fails_alone(tmp_path: Path, tiny_model: str) -> None:
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40), LONG)
    pq.write_table(pa.table({"id": ["a"], "other": ["b"]}), tmp_path / "in" / "0.parquet")
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, units__text_mib=1, output__max_rejected_share=0.5
    )
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows) == (4, 80)
    ((uri, reason),) = summary.failed.items()
    assert uri.endswith("0.parquet")
    assert "no column 'text'" in reason


def test_a_new_first_file_of_another_type_is_named_and_nothing_else_is_touched(tmp_path: Path, tiny_model: str) -> None:
    """Taken for the measure of all, it would make the published files the odd ones."""
    out = str(tmp_path / "out")
    for shard in range(1, 4):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(40 * shard, 40 * shard + 40), LONG)
    config = make_config(tmp_path / "in", out, tiny_model, units__text_mib=1, output__max_rejected_share=0.5)
    pipeline.run(config)
    pq.write_table(pa.table({"id": [1], "text": ["b"]}), tmp_path / "in" / "0.parquet")
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows, summary.rows_encoded) == (4, 120, 0)
    ((uri, reason),) = summary.failed.items()
    assert uri.endswith("0.parquet")
    assert "'id' is int64" in reason


def test_keeping_fewer_snapshots_takes_effect_at_once(tmp_path: Path, shards: Path, tiny_model: str) -> None:
    """A glob would read rows of two versions, and go on doing so until something changes."""
    out = str(tmp_path / "out")
    pipeline.run(make_config(shards, out, tiny_model, output__retain=2))
    write_parquet(shards / "2.parquet", range(80, 125))
    pipeline.run(make_config(shards, out, tiny_model, output__retain=2))
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    pipeline.run(make_config(shards, out, tiny_model))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert glob_rows(out) == ids(range(125))
    assert not pipeline.run(make_config(shards, out, tiny_model)).published


def test_a_limit_above_a_thousand_files_is_reached(tmp_path: Path, tiny_model: str) -> None:
    for shard in range(1100):
        write_jsonl(tmp_path / "in" / f"{shard:04}.jsonl", range(shard, shard + 1))
    assert run_job(make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model), limit=1050).rows == 1050


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_an_output_below_a_file_is_refused(tmp_path: Path, shards: Path, tiny_model: str, place: str) -> None:
    (tmp_path / "a-file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="a-file"):
        pipeline.run(make_config(shards, str(tmp_path / place), tiny_model))


def test_generated_ids_name_file_and_row(tmp_path: Path, tiny_model: str) -> None:
    source = tmp_path / "in" / "a.txt"
    source.parent.mkdir()
    source.write_text("first\nsecond\n", encoding="utf-8")
    out = str(tmp_path / "out")
    pipeline.run(make_config(tmp_path / "in", out, tiny_model, input__id=None))
    assert sorted(read_rows(out)) == ["a.txt@0", "a.txt@6"]


def test_after_a_run_there_is_nothing_but_parquet_below_data_and_no_staged_rows(
    shards: Path, tmp_path: Path, tiny_model: str
) -> None:
    pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    rooms = {path.relative_to(tmp_path / "out").parts[:2] for path in files}
    assert {room[1] for room in rooms if room[0] == "_embedpipe"} == {"log", "manifest", "spec", "unit"}
    assert all(path.suffix == ".parquet" for path in files if path.parts[len(tmp_path.parts) + 1] == "data")


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


class Shaken(SerialEngine):
    """In the first round a file changes under the readers of its many segments."""

    shaken = False

    def encode(self, context: JobContext, work: Sequence[SegmentWork], stop: threading.Event) -> Iterator[Ack]:
        if self.shaken:
            yield from super().encode(context, work, stop)
            return
        self.shaken = True
        for _ in range(12):
            yield failed_ack("changed", work[0], 0, SourceChanged("its version is another one"))


def test_one_change_of_a_file_with_many_segments_is_one_change(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was appended to once is not "written to faster than it is read"."""

    def make_engine(execution: Execution) -> SerialEngine:
        return Shaken(execution.threads, execution.unit_timeout_s)

    monkeypatch.setattr(supervisor, "make_engine", make_engine)
    summary = pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model))
    assert (summary.exit_code, summary.rows) == (0, 120)


def test_where_upper_and_lower_case_are_the_same_partitions_are_refused(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lang=de` and `lang=DE` would be one folder, and a collection takes the files of the one for nobody's."""
    place = LocalStore._name
    monkeypatch.setattr(LocalStore, "_name", lambda self, key: place(self, key.lower()))
    by_lang = {"input__keep": ["lang"], "output__partition_by": ["lang"]}
    with pytest.raises(ConfigError, match="doesn't tell upper from lower case"):
        pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model, **by_lang))
    assert not (tmp_path / "out" / "data").exists()
    assert pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model)).exit_code == 0


def write_days(path: Path, days: pa.Array) -> None:
    """A row for each value of the column `day`, with texts long enough that the file is alone in its segment."""
    path.parent.mkdir(exist_ok=True)
    rows = range(len(days))
    table = pa.table(
        {
            "id": [f"{path.stem}-{row}" for row in rows],
            "text": [text_of(row, LONG) for row in rows],
            "day": days,
        }
    )
    pq.write_table(table, path, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    ("kind", "healthy", "odd"),
    [
        (pa.date32(), 20_000, -1_000_000),
        (pa.date32(), 20_000, 10_000_000),
        (pa.timestamp("us"), 10**15, -(10**17)),
        (pa.timestamp("s"), 10**9, 10**12),
        (pa.timestamp("us", "Foo/Bar"), None, 10**15),
    ],
    ids=str,
)
def test_a_date_that_names_no_folder_fails_its_file_alone(
    tmp_path: Path, tiny_model: str, kind: pa.DataType, healthy: int | None, odd: int
) -> None:
    """Arrow's dates reach further than Python's, and a file may name any time zone."""
    write_days(tmp_path / "in" / "good.parquet", pa.array([healthy] * 8, kind))
    write_days(tmp_path / "in" / "odd.parquet", pa.array([healthy] * 7 + [odd], kind))
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, units__text_mib=1, input__keep=["day"],
        output__partition_by=["day"], output__max_rejected_share=0.9,
    )  # fmt: skip
    summary = pipeline.run(config)
    assert summary.exit_code == 4
    ((uri, reason),) = summary.failed.items()
    assert uri.endswith("odd.parquet")
    assert "partition column 'day': a date or time can't name a folder" in reason
    (published,) = (tmp_path / "out" / "data").rglob("*.parquet")
    assert pq.ParquetFile(published).read(columns=["id"])["id"].to_pylist() == [f"good-{row}" for row in range(8)]


@pytest.mark.parametrize("zone", [None, "UTC", "+01:00", "Europe/Berlin"])
def test_timestamps_name_folders_that_are_percent_encoded_and_come_back(
    tmp_path: Path, tiny_model: str, zone: str | None
) -> None:
    """A colon in a path breaks Hadoop and Spark."""
    moments = pa.array([0, 1_700_000_000_000_005, None], pa.timestamp("us", zone))
    write_days(tmp_path / "in" / "a.parquet", moments)
    out = tmp_path / "out"
    changes = {"input__keep": ["day"], "output__partition_by": ["day"]}
    pipeline.run(make_config(tmp_path / "in", str(out), tiny_model, **changes))
    folders = {path.name for path in (out / "data").iterdir()}
    assert not any(sign in name for name in folders for sign in ": +")
    assert "day=1970-01-01%2000%3A00%3A00" in folders or zone
    expected = {f"a-{row}": moment for row, moment in enumerate(moments.to_pylist())}
    read = ds.dataset(str(out / "data"), partitioning="hive").to_table(columns=["id", "day"]).to_pylist()
    assert {row["id"]: row["day"] and datetime.datetime.fromisoformat(row["day"]) for row in read} == expected
    opened = pipeline.open_snapshot(str(out)).to_table(columns=["id", "day"])
    assert opened.schema.field("day").type == moments.type
    assert {row["id"]: row["day"] for row in opened.to_pylist()} == expected


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(12, 2)], ids=str)
def test_columns_of_broken_numbers_are_refused_for_partitions_before_anything_is_encoded(
    tmp_path: Path, tiny_model: str, kind: pa.DataType
) -> None:
    write_days(tmp_path / "in" / "a.parquet", pa.array([1, 2], pa.int32()).cast(kind))
    changes = {"input__keep": ["day"], "output__partition_by": ["day"]}
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, **changes)
    for start in (plan_job, run_job):
        with pytest.raises(ConfigError, match=r"output\.partition_by: 'day' is (float|double|decimal)"):
            start(config)
    assert not (tmp_path / "out").exists()


def test_more_dimensions_than_the_model_has_are_refused(tmp_path: Path, shards: Path, tiny_model: str) -> None:
    """Cut off at what there is, the table would be another one than was asked for, without a word."""
    out = str(tmp_path / "out")
    assert plan_job(make_config(shards, out, tiny_model, model__truncate_dim=32)).rows == 120
    with pytest.raises(ConfigError, match=r"model\.truncate_dim is 33, but .* have 32 dimensions"):
        plan_job(make_config(shards, out, tiny_model, model__truncate_dim=33))


def test_the_serial_engine_runs_where_ray_is_not_installed(tmp_path: Path, shards: Path, tiny_model: str) -> None:
    config = make_config(shards, str(tmp_path / "out"), tiny_model)
    script = f"""
import sys
sys.modules["ray"] = None  # importing it is an error from now on
import pipeline
from pipeline.config.schema import Config
summary = pipeline.run(Config.model_validate_json({config.model_dump_json()!r}))
print(summary.rows, summary.exit_code, [name for name in sys.modules if name.startswith("ray.")])
"""
    project = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False)
    assert ran.stdout == "120 0 []\n", ran.stderr
