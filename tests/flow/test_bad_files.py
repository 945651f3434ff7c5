"""Source files that can't be read, or change: named, left out within the allowed share, and no other file's rows suffer."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import LONG, glob_rows, ids, make_config, write_jsonl, write_parquet

import pipeline
from pipeline.check.verify import verify
from pipeline.config.schema import Execution
from pipeline.errors import (
    IncompleteError,
    InputError,
    SourceChanged,
)
from pipeline.flow import supervisor
from pipeline.flow.acks import Ack, failed_ack
from pipeline.flow.context import JobContext
from pipeline.flow.maintenance import list_quarantine
from pipeline.flow.serial import SerialEngine
from pipeline.flow.status import read_status
from pipeline.flow.supervisor import run_job
from pipeline.plan.records import SegmentWork
from pipeline.progress.events import Event, PlanReady


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
