"""`plan`: what it estimates, and from what."""

import json
from pathlib import Path

import pytest
from support.jobs import make_config, text_of, write_jsonl, write_parquet

import pipeline
from pipeline.encode.encoder import Encoder
from pipeline.flow.supervisor import plan_job

ROWS = 1000


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A Parquet shard."""
    write_parquet(tmp_path / "in.parquet", range(ROWS))
    return tmp_path / "in.parquet"


def test_rows_of_columnar_files_are_known_and_those_of_lines_are_estimated_by_what_a_row_takes(
    tmp_path: Path, shard: Path, tiny_model: str
) -> None:
    """Lines hold more than the text: by the text alone this job would be told four times as large."""
    exact = plan_job(make_config(shard, str(tmp_path / "out"), tiny_model))
    assert (exact.rows, exact.rows_estimated) == (ROWS, False)
    lines = tmp_path / "in.jsonl"
    rows = ({"id": f"id-{row}", "text": text_of(row), "more": "x" * 200} for row in range(ROWS))
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    about = plan_job(make_config(lines, str(tmp_path / "out"), tiny_model))
    assert about.rows_estimated
    assert about.rows == pytest.approx(ROWS, rel=0.05)
    assert about.pending_tokens == pytest.approx(exact.pending_tokens, rel=0.1)


def test_a_short_file_of_lines_is_read_to_its_end_and_so_known(tmp_path: Path, tiny_model: str) -> None:
    write_jsonl(tmp_path / "in.jsonl", range(7))
    assert plan_job(make_config(tmp_path / "in.jsonl", str(tmp_path / "out"), tiny_model)).rows == 7


def test_long_texts_are_sampled_whole(tmp_path: Path, tiny_model: str) -> None:
    """Cut like the parity gate's texts, none would be longer than what a model of 512 tokens takes."""
    (tmp_path / "in.txt").write_text("\n".join(["word " * 100, "word " * 20] * 50), encoding="utf-8")
    planned = plan_job(make_config(tmp_path / "in.txt", str(tmp_path / "out"), tiny_model, input__id=None))
    assert planned.truncated_share == 0.0
    (tmp_path / "in.txt").write_text("\n".join(["word " * 1000, "word " * 20] * 50), encoding="utf-8")
    planned = plan_job(make_config(tmp_path / "in.txt", str(tmp_path / "out"), tiny_model, input__id=None))
    assert planned.truncated_share == 0.5
    assert planned.pending_tokens == pytest.approx(50 * (128 + 22), rel=0.1)


def test_the_time_is_that_of_a_replica_timed_here_over_the_replicas_asked_for(
    tmp_path: Path, shard: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = plan_job(make_config(shard, str(tmp_path / "out"), tiny_model))
    assert timed.pending_seconds is not None
    assert 0 < timed.pending_seconds < 120
    monkeypatch.setattr("pipeline.flow.preflight.measure_tokens_per_s", lambda *_: 100.0)
    planned = plan_job(make_config(shard, str(tmp_path / "out"), tiny_model, execution__replicas=4))
    assert planned.pending_tokens is not None
    assert planned.pending_seconds == pytest.approx(planned.pending_tokens / 100 / 4)
    assert planned.replicas == 4


def test_a_model_that_cant_be_loaded_here_costs_the_estimate_only(
    tmp_path: Path, shard: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop plans the job of a cluster whose model doesn't fit into it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Encoder, "__init__", fail)
    planned = plan_job(make_config(shard, str(tmp_path / "out"), tiny_model))
    assert (planned.pending_seconds, planned.pending_rows) == (None, ROWS)


def test_with_nothing_to_do_no_model_is_loaded(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "in.parquet", range(10))
    config = make_config(tmp_path / "in.parquet", str(tmp_path / "out"), tiny_model)
    pipeline.run(config)
    monkeypatch.setattr(Encoder, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    planned = plan_job(config)
    assert (planned.pending_seconds, planned.pending_rows, planned.rows) == (None, 0, 10)


def test_a_file_that_cant_be_read_is_the_runs_business(tmp_path: Path, tiny_model: str) -> None:
    """The plan of a thousand files must not end at the one that the run would leave out."""
    write_jsonl(tmp_path / "in" / "a.jsonl", range(10))
    broken = tmp_path / "in" / "b.jsonl"
    write_jsonl(broken, range(10, 20))
    broken.write_text(broken.read_text() + "{broken\n", encoding="utf-8")
    planned = plan_job(make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model))
    assert planned.input_files == 2
    assert planned.units_pending >= 1
