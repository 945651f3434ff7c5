"""Collecting, beside live runs and after dead ones, and asking for another try of quarantined rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import glob_rows, ids, make_config, read_rows, write_jsonl, write_parquet

import pipeline
from pipeline.commit.keys import data_key
from pipeline.commit.records import UnitRecord
from pipeline.commit.snapshot import list_versions
from pipeline.config.schema import Config
from pipeline.errors import IncompleteError
from pipeline.flow import engine, maintenance, publishing
from pipeline.flow.maintenance import collect_garbage, list_quarantine, retry_quarantine
from pipeline.storage.open import open_store
from pipeline.storage.store import Store

NEXT = data_key("", 1, "a" * 32, 0, "b" * 32)
"""What a run that has planned on version 1 makes for version 2."""


@pytest.fixture
def config(tmp_path: Path, tiny_model: str) -> Config:
    """A job over 20 rows."""
    write_parquet(tmp_path / "in" / "a.parquet", range(20))
    return make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)


@pytest.fixture
def begun(config: Config, tmp_path: Path) -> Path:
    """A file of the next version beside the published first one; as a run does, without the mark."""
    pipeline.run(config)
    (tmp_path / "out" / "_SUCCESS").unlink()
    (tmp_path / "out" / NEXT).write_bytes(b"made")
    return tmp_path / "out"


def interrupted(config: Config, before: str) -> None:
    """The run, ended before it does what the supervisor calls by that name."""

    def stop(*_: object, **__: object) -> None:
        raise IncompleteError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"pipeline.flow.supervisor.{before}", stop)
        with pytest.raises(IncompleteError):
            pipeline.run(config)


def test_a_collection_leaves_what_is_made_for_the_next_version(begun: Path) -> None:
    """Publishing to make it deletable overtakes whoever is making it: a collection by cron would starve every run."""
    assert collect_garbage(str(begun)) == []
    assert (begun / NEXT).exists()
    assert list_versions(open_store(str(begun))) == [1]
    assert not (begun / "_SUCCESS").exists(), "a glob would read what isn't published"


def test_a_run_with_nothing_to_do_leaves_it_too_and_says_why_there_is_no_mark(begun: Path, config: Config) -> None:
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.published, summary.version) == (0, False, 1)
    (said,) = summary.messages
    assert "_SUCCESS is not written: data/ holds files made for a version that isn't published" in said
    assert "gc --abandon" in said
    assert (begun / NEXT).exists()
    assert list_versions(open_store(str(begun))) == [1]
    assert not (begun / "_SUCCESS").exists()


def test_what_a_dead_run_made_for_the_next_version_goes_when_that_is_asked_for(begun: Path, config: Config) -> None:
    assert collect_garbage(str(begun), abandon=True, dry_run=True) == [NEXT]
    assert list_versions(open_store(str(begun))) == [1], "a dry run publishes nothing"
    assert NEXT in collect_garbage(str(begun), abandon=True)
    assert not (begun / NEXT).exists()
    assert (begun / "_SUCCESS").exists()
    assert glob_rows(str(begun)) == ids(range(20))
    assert pipeline.run(config).messages == ()


def test_files_that_a_run_publishes_just_then_are_not_told_to_be_deleted(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives them up may be overtaken by the run that made them."""
    pipeline.run(config)
    write_parquet(tmp_path / "in" / "b.parquet", range(20, 40))
    publish, republish = publishing.publish, maintenance.republish
    told: list[str] = []

    def give_up_then_publish(*arguments: Any, **options: Any) -> Any:
        published: list[Any] = []

        def overtaken(*others: Any) -> Any:
            published.append(publish(*arguments, **options))
            return republish(*others)

        monkeypatch.setattr(maintenance, "republish", overtaken)
        told.extend(collect_garbage(str(tmp_path / "out"), abandon=True))
        return published[0]

    monkeypatch.setattr(publishing, "publish", give_up_then_publish)
    assert pipeline.run(config).version == 2
    assert told
    assert not [key for key in told if (tmp_path / "out" / key).exists()]
    assert glob_rows(str(tmp_path / "out")) == ids(range(40))


def test_what_is_made_for_a_version_goes_once_somebody_has_published_it(
    begun: Path, config: Config, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "in" / "b.parquet", range(20, 40))
    assert pipeline.run(config).version == 2
    assert not (begun / NEXT).exists()
    assert glob_rows(str(begun)) == ids(range(40))


def test_a_run_publishes_although_somebody_collects_after_each_file_it_makes(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run(config)
    write_parquet(tmp_path / "in" / "b.parquet", range(20, 40))
    commit: Callable[..., Any] = engine.commit_file
    made: list[object] = []

    def commit_then_collect(store: Store, record: Any) -> Any:
        made.append(commit(store, record))
        collect_garbage(store.root)
        return made[-1]

    monkeypatch.setattr(engine, "commit_file", commit_then_collect)
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.version) == (0, 2)
    assert made
    assert list_versions(open_store(str(tmp_path / "out"))) == [1, 2]
    assert glob_rows(str(tmp_path / "out")) == ids(range(40))


def test_work_over_an_input_that_is_not_mounted_now_is_kept(tmp_path: Path, tiny_model: str) -> None:
    """Taken for gone, a night's work would go with the network share."""
    for name in range(3):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", range(5 * name, 5 * name + 5))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__mode="append")
    interrupted(config, "publish_plan")
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    assert {key.split("/")[1] for key in collect_garbage(str(tmp_path / "out"))} == {"attempt"}, (
        "of units with a record"
    )
    (tmp_path / "in").mkdir()
    assert collect_garbage(str(tmp_path / "out")) == []
    (tmp_path / "in").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "in")
    (tmp_path / "in" / "2.jsonl").unlink()
    assert [key.split("/")[1] for key in collect_garbage(str(tmp_path / "out"))] == ["part"], "its neighbours are there"
    assert pipeline.run(config).rows_encoded == 0
    assert glob_rows(str(tmp_path / "out")) == ids(range(10))


def test_a_source_that_may_no_longer_be_looked_at_fails_no_run(tmp_path: Path, tiny_model: str) -> None:
    """Not even one of this job's: a killed run over it left work, and each run would end there after publishing."""
    for folder, first in (("a", 0), ("b", 10)):
        write_jsonl(tmp_path / folder / "x.jsonl", range(first, first + 5))
    configs = [
        make_config(tmp_path / folder, str(tmp_path / "out"), tiny_model, output__mode="append") for folder in "ab"
    ]
    interrupted(configs[0], "publish_plan")
    hidden = tmp_path / "a" / "x.jsonl"
    hidden.unlink()
    hidden.symlink_to("x.jsonl")  # a circle may not be looked at, as 403 on S3
    summary = pipeline.run(configs[1])
    assert (summary.exit_code, summary.messages) == (0, ())
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert glob_rows(str(tmp_path / "out")) == ids(range(10, 15))


def test_a_retry_that_meets_a_collection_is_asked_for_all_the_same(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write the next generation of the unit. The collector's record asks for nothing, and the user was told it was done."""
    source, out = tmp_path / "in.jsonl", str(tmp_path / "out")
    rows = [{"id": "1", "text": "fine"}, {"id": "2", "text": 5}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_config(source, out, tiny_model, output__max_rejected_share=0.9)
    interrupted(config, "finish")  # published and not collected
    retire: Callable[..., UnitRecord] = maintenance.retire_unit
    collected: list[str] = []

    def collect_then_retire(*arguments: Any) -> UnitRecord:
        if not collected:
            monkeypatch.setattr(maintenance, "retire_unit", retire)
            collected.extend(collect_garbage(out))
        return retire(*arguments)

    monkeypatch.setattr(maintenance, "retire_unit", collect_then_retire)
    assert retry_quarantine(out) == 1
    assert collected
    assert pipeline.run(config).rows_encoded == 1
    assert sorted(read_rows(out)) == ["1"]
    assert list_quarantine(out)["id"].to_pylist() == ["2"]
