"""Whole jobs through the serial engine: what is published after a first run, a re-run and every kind of change."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import LONG, glob_rows, ids, make_config, read_rows, text_of, write_jsonl, write_parquet

import pipeline
from pipeline.errors import (
    ConfigError,
    InputError,
    QuarantineError,
    RefusedError,
)
from pipeline.flow import planning, reading
from pipeline.flow.maintenance import retry_quarantine
from pipeline.flow.supervisor import plan_job, run_job
from pipeline.source import read
from pipeline.source.records import Segment, SourceUnit

SMALL_UNITS = {"units__rows": 16}


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


@pytest.mark.parametrize("mode", ["mirror", "append"])
@pytest.mark.parametrize(
    "beside", [[], ["new"], ["a-new"]], ids=["the group", "a new file behind it", "a new one before"]
)
def test_a_group_that_was_to_be_tried_again_in_vain_stays_as_it_was_published(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, beside: list[str], mode: str
) -> None:
    """File by file its rows would be other units: those of the file that can't be read just now would go out of the snapshot."""
    for name in ("f", "g"):
        rows = [{"id": f"{name}{row}", "text": None if (name, row) == ("f", 3) else f"text {row}"} for row in range(20)]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_jsonl(tmp_path / "in" / "h.jsonl", range(1000))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.05)
    first = run_job(config)
    assert retry_quarantine(str(tmp_path / "out")) == 1
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.05, output__mode=mode
    )
    for name in beside:
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", range(2000, 2005))
    real = read.open_input

    def refuse(uri: str, version: str) -> Any:
        if uri.endswith("/f.jsonl"):
            raise InputError(f"{uri}: access denied", uri)
        return real(uri, version)

    with monkeypatch.context() as patch:
        patch.setattr(read, "open_input", refuse)
        vain = run_job(config)
    more = 5 * len(beside)
    assert (vain.exit_code, vain.rows, vain.published) == (4, first.rows + more, bool(beside))
    ((uri, reason),) = vain.failed.items()
    assert uri.endswith("/f.jsonl")
    assert reason == "access denied; its rows stay as they were published"
    again = run_job(config)
    assert (again.exit_code, again.rows, again.rows_quarantined) == (0, first.rows + more, 1)
    assert run_job(config).units_encoded == 0


def test_of_files_read_with_a_group_that_is_tried_again_only_the_one_at_fault_is_told(
    tmp_path: Path, tiny_model: str
) -> None:
    """A new file that can't be read is no reason to leave the others' rows untried."""
    rows = [{"id": f"f{row}", "text": None if row == 3 else f"text {row}"} for row in range(20)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_jsonl(tmp_path / "in" / "g.jsonl", range(1000))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.05)
    first = run_job(config)
    assert retry_quarantine(str(tmp_path / "out")) == 1
    (tmp_path / "in" / "new.jsonl").write_text("no JSON\n")
    again = run_job(config)
    assert (again.exit_code, again.rows) == (4, first.rows)
    ((uri, reason),) = again.failed.items()
    assert uri.endswith("/new.jsonl")
    assert "stay" not in reason
    assert again.rows_encoded >= 19, "what was asked for was tried again"


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


def test_a_link_in_the_input_never_leads_a_run_into_its_own_result(
    tmp_path: Path, shards: Path, tiny_model: str
) -> None:
    """With a link to the output in the input, every run would publish more rows than the one before, with exit code 0."""
    out = tmp_path / "out"
    out.mkdir()
    (shards / "results").symlink_to(out)
    config = make_config(shards, str(out), tiny_model)
    pipeline.run(config)
    with pytest.raises(ConfigError, match=r"results/data/\S+\.parquet lies in output\.path"):
        pipeline.run(config)
    (shards / "results").unlink()
    assert not pipeline.run(config).published
    assert glob_rows(str(out)) == ids(range(120))


def test_a_run_says_in_one_line_that_links_lead_out_of_its_input(
    tmp_path: Path, shards: Path, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What they lead to is embedded; the config alone doesn't show it."""
    for number in range(2):
        write_parquet(tmp_path / "elsewhere" / f"{number}.parquet", range(200 + number, 201 + number))
    (shards / "l").symlink_to(tmp_path / "elsewhere")
    assert pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model)).rows == 122
    [line] = [record.getMessage() for record in caplog.records if "links lead out" in record.getMessage()]
    assert f"as {shards}/l/0.parquet to {tmp_path}/elsewhere/0.parquet (2 in all)" in line


def test_kept_columns_that_differ_in_case_alone_are_refused(tmp_path: Path, tiny_model: str) -> None:
    """Warehouses load one of them in place of the other; the partition's as well."""
    pq.write_table(pa.table({"id": ["a"], "text": ["t"], "Lang": ["x"], "lang": ["y"]}), tmp_path / "in.parquet")
    for options in ({"input__keep": ["Lang", "lang"]}, {"input__keep": ["Lang"], "output__partition_by": ["lang"]}):
        with pytest.raises(ConfigError, match=r"names 'lang', but the result has another column 'Lang'"):
            pipeline.run(make_config(tmp_path / "in.parquet", str(tmp_path / "out"), tiny_model, **options))


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
    with pytest.raises(ConfigError, match="a-file"):
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
