"""A recall that is demanded: measured before anything is encoded, on the job's own input."""

import json
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from support.jobs import make_config, write_parquet

import pipeline
from pipeline.errors import EncodeError, RefusedError
from pipeline.flow import demand
from pipeline.flow.demand import compare, sample
from pipeline.flow.job import Job, resolve
from pipeline.flow.throwaway import Throwaway
from pipeline.source.footers import read_footers
from pipeline.source.records import Piece, Segment
from pipeline.source.segments import cut_segments


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for shard in range(3):
        write_parquet(tmp_path / "in" / f"{shard}.parquet", range(60 * shard, 60 * shard + 60), 30)
    return tmp_path / "in"


def test_settings_that_find_too_little_are_refused_before_anything_is_encoded(
    source: Path, tmp_path: Path, tiny_model: str
) -> None:
    """After a night of encoding it would be known too late."""
    out = tmp_path / "out"
    config = make_config(source, str(out), tiny_model, model__truncate_dim=2, quality__min_recall=0.9)
    with pytest.raises(
        RefusedError, match=r"these settings find \d+\.\d+% of the ten .* over 180 texts.*demands 90\.00%"
    ) as refused:
        pipeline.run(config)
    assert refused.value.exit_code == 3
    assert not (out / "data").exists()
    assert not list(out.glob("_embedpipe/unit/**/*"))


def test_settings_that_are_good_enough_run_and_it_is_told(
    source: Path, tmp_path: Path, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="pipeline.flow.demand")
    config = make_config(source, str(tmp_path / "out"), tiny_model, model__truncate_dim=16, quality__min_recall=0.3)
    assert pipeline.run(config).rows == 180
    assert "quality.min_recall demands 30.00%" in caplog.text


def test_a_driver_without_the_workers_device_measures_on_its_own(source: Path, tmp_path: Path, tiny_model: str) -> None:
    """The driver of a cluster with GPUs has none."""
    config = make_config(
        source,
        str(tmp_path / "out"),
        tiny_model,
        model__truncate_dim=2,
        quality__min_recall=0.9,
        execution__device="cuda",
    )
    job = resolve(config)
    with pytest.raises(RefusedError, match="these settings find"):
        demand.check_demand(job, cut_segments(job.discover(), {}, job.policy))


def test_a_demand_redoes_nothing_and_is_not_measured_where_nothing_is_left_to_do(
    source: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(source, str(tmp_path / "out"), tiny_model, model__truncate_dim=2)
    pipeline.run(config)
    monkeypatch.setattr(demand, "_measure_apart", None)  # which can't be called
    summary = pipeline.run(
        make_config(source, str(tmp_path / "out"), tiny_model, model__truncate_dim=2, quality__min_recall=1.0)
    )
    assert (summary.rows, summary.rows_encoded) == (180, 0)


def test_a_few_new_rows_are_let_through_with_a_warning(
    tmp_path: Path, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A nightly run with nearly nothing to do must not end for want of texts to compare."""
    write_parquet(tmp_path / "in" / "0.parquet", range(20))
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, model__truncate_dim=2, quality__min_recall=1.0
    )
    assert pipeline.run(config).rows == 20
    assert "quality.min_recall is not measured: 20 distinct texts are too few" in caplog.text


def die(connection: Connection) -> None:
    """As a text that ends the process that encodes it."""
    connection.recv()
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_text_that_ends_the_process_that_measures_ends_no_driver(
    source: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "serve_recall", die)
    config = make_config(source, str(tmp_path / "out"), tiny_model, quality__min_recall=0.5, model__truncate_dim=4)
    with pytest.raises(EncodeError, match="can't be measured: its process was ended by SIGSEGV"):
        pipeline.run(config)


class Stopped(Throwaway):
    """A process that is stopped before it reads what it is to measure."""

    def __init__(self, target: Callable[[Connection], None]) -> None:
        super().__init__(target)
        os.kill(self._process.pid, signal.SIGSTOP)


def test_a_process_that_takes_no_sample_does_not_hold_up_the_driver_for_ever(
    source: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of a large input's segments doesn't fit the pipe, and nobody watches a driver."""
    monkeypatch.setattr(demand, "Throwaway", Stopped)
    monkeypatch.setattr(demand, "LOADING_S", 0.2)
    job = resolve(make_config(source, str(tmp_path / "out"), tiny_model))
    (file, *_) = job.discover()
    many = [
        Segment((Piece(replace(file, uri=f"{file.uri}.{'x' * 200}.{n}"), "bytes", 0, file.size),)) for n in range(3000)
    ]
    with pytest.raises(EncodeError, match=r"can't be measured: its process took no message within 0\.2 s"):
        demand._measure_apart(job, many, len(many))


def test_the_sample_is_spread_over_the_input_and_has_each_text_once(
    source: Path, tmp_path: Path, tiny_model: str
) -> None:
    write_parquet(source / "3.parquet", range(60), 30)  # the first one's texts again
    write_parquet(source / "4.parquet", range(300, 400), 30)
    job = resolve(make_config(source, str(tmp_path / "out"), tiny_model))
    files = job.discover()
    segments = cut_segments(files, read_footers(files), job.policy)
    (source / "4.parquet").write_bytes(b"no parquet")  # its reader will tell
    texts = sample(segments, job.extraction, job.policy, 90)
    assert len(set(texts)) == len(texts) == 90
    assert len(sample(segments, job.extraction, job.policy, 10_000)) == 180


def test_a_file_that_begins_with_one_text_again_and_again_is_read_on(tmp_path: Path, tiny_model: str) -> None:
    """Logs and templates do. The sample would be too small to compare, and the demand passed over."""
    rows = [{"id": f"{n}", "text": "the same" if n < 500 else f"text {n}"} for n in range(1000)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = resolve(make_config(tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model))
    segments = cut_segments(job.discover(), {}, job.policy)
    assert len(sample(segments, job.extraction, job.policy, 200)) == 200


def test_what_small_files_lack_comes_from_the_others(tmp_path: Path, tiny_model: str) -> None:
    """Which files stand together in a segment goes by their names: on some paths the sample was too small to compare."""
    for name, rows in (("a", range(300)), ("b", range(300, 310))):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"id": f"{n}", "text": f"text {n}"}) + "\n" for n in rows)
        )
    job = resolve(make_config(str(tmp_path / "*.jsonl"), str(tmp_path / "out"), tiny_model))
    segments = [Segment((Piece(file, "bytes", 0, file.size),)) for file in job.discover()]
    for order in (segments, segments[::-1]):
        texts = sample(order, job.extraction, job.policy, 200)
        assert len(set(texts)) == len(texts) == 200


def test_each_run_measures_the_same_sample(
    source: Path, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the bound another sample would let one run go and refuse the next, which is to go on with the first one's work."""
    config = make_config(source, str(tmp_path / "out"), tiny_model, model__truncate_dim=2, quality__min_recall=0.9)
    samples = []

    def measured(job: Job, segments: Sequence[Segment], rows: int) -> tuple[int, float]:
        samples.append(sample(segments, job.extraction, job.policy, rows))
        return len(samples[-1]), 0.5

    monkeypatch.setattr(demand, "_measure_apart", measured)
    for _ in range(2):
        with pytest.raises(RefusedError):
            pipeline.run(config)
    assert len(samples[0]) == 180
    assert samples[0] == samples[1]


def test_cheaper_settings_are_compared_on_the_jobs_own_input_and_nothing_is_written(
    source: Path, tmp_path: Path, tiny_model: str
) -> None:
    found = compare(make_config(source, str(tmp_path / "out"), tiny_model, model__truncate_dim=4), 100)
    assert (found.texts, found.dimensions) == (100, 32)
    assert [one.name for one in found.settings if one.name == "this config"]
    assert not (tmp_path / "out").exists()
