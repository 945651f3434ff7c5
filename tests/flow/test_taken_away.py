"""What something outside took away from the output, or put there: made again where that can be, told of where it can't be."""

import shutil
from pathlib import Path

import pytest
from support.jobs import glob_rows, ids, make_config, write_parquet

import pipeline
from pipeline.check.verify import verify
from pipeline.config.schema import Config
from pipeline.errors import IncompleteError, RefusedError, VerificationError
from pipeline.flow import publishing
from pipeline.flow.maintenance import collect_garbage
from pipeline.flow.supervisor import plan_job, run_job


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def config(tmp_path: Path, output: Path, tiny_model: str) -> Config:
    """A job over 20 rows."""
    write_parquet(tmp_path / "in" / "a.parquet", range(20))
    return make_config(tmp_path / "in", str(output), tiny_model)


@pytest.fixture
def assembled(config: Config, output: Path) -> Path:
    """The output of a run that died when all its data files were made and none was published."""

    def die(*_: object, **__: object) -> None:
        raise IncompleteError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "publish", die)
        with pytest.raises(IncompleteError):
            pipeline.run(config)
    assert list(output.glob("data/*.parquet"))
    return output


def test_data_files_of_a_dead_run_that_were_cleared_away_are_made_again(assembled: Path, config: Config) -> None:
    """Their records stand, and were believed: the snapshot had no file, ended with 0, and what was staged was deleted."""
    shutil.rmtree(assembled / "data")
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows_encoded) == (0, 0)
    assert sorted(glob_rows(assembled)) == ids(range(20))
    assert verify(str(assembled)).failed == ()


def test_a_data_file_of_a_dead_run_that_was_written_over_is_not_published(assembled: Path, config: Config) -> None:
    (file,) = assembled.glob("data/*.parquet")
    file.write_bytes(b"something else")
    with pytest.raises(VerificationError, match="gc --abandon"):
        pipeline.run(config)
    collect_garbage(str(assembled), abandon=True)
    assert pipeline.run(config).exit_code == 0
    assert sorted(glob_rows(assembled)) == ids(range(20))


@pytest.mark.parametrize("more", [False, True], ids=["nothing new", "new input"])
@pytest.mark.parametrize("retain", [1, 2])
def test_a_published_file_that_is_gone_is_told_of_by_every_run(
    config: Config, output: Path, tmp_path: Path, more: bool, retain: int
) -> None:
    """They ended with 0, and took the mark away without a word."""
    config = config.model_copy(update={"output": config.output.model_copy(update={"retain": retain})})
    pipeline.run(config)
    (file,) = output.glob("data/*.parquet")
    file.rename(kept := tmp_path / "kept")
    if more:
        write_parquet(tmp_path / "in" / "b.parquet", range(20, 30))
    for _ in range(2):
        with pytest.raises(VerificationError, match=rf"{file.name} is gone, though the newest snapshot holds it"):
            pipeline.run(config)
    kept.rename(file)
    assert pipeline.run(config).exit_code == 0
    assert (output / "_SUCCESS").exists() == (retain == 1)


def test_a_foreign_file_beside_the_data_is_named_where_it_keeps_the_mark_away(config: Config, output: Path) -> None:
    """Whoever waits for the mark would wait for ever."""
    pipeline.run(config)
    (output / "data" / "notes.txt").touch()
    summary = pipeline.run(config)
    assert summary.exit_code == 0
    assert [said for said in summary.messages if "data/notes.txt" in said and "_SUCCESS is not written" in said]
    (output / "data" / "notes.txt").unlink()
    assert pipeline.run(config).messages == ()
    assert (output / "_SUCCESS").exists()


def test_an_output_of_another_program_is_refused(config: Config, output: Path) -> None:
    """Spark's mark says that its own files are whole; it was taken away, and ours put in its place."""
    output.mkdir()
    (output / "_SUCCESS").touch()
    (output / "part-00000.parquet").touch()
    with pytest.raises(RefusedError, match="the output of another program"):
        pipeline.run(config)
    assert (output / "_SUCCESS").read_bytes() == b""
    (output / "_SUCCESS").unlink()
    assert pipeline.run(config).exit_code == 0


def test_a_replacement_that_would_lose_rows_is_refused_until_allowed(
    config: Config, output: Path, tmp_path: Path
) -> None:
    """In append mode what is listed today is a day of many; a new prompt with --replace published that day alone."""
    write_parquet(tmp_path / "in" / "b.parquet", range(20, 24))
    append = config.model_copy(update={"output": config.output.model_copy(update={"mode": "append"})})
    pipeline.run(append)
    (tmp_path / "in" / "a.parquet").unlink()
    other = append.model_copy(update={"model": append.model.model_copy(update={"prompt": "query: "})})
    told = " ".join(plan_job(other).messages)
    assert "holds another spec" in told
    assert "20 of the 24 rows" in told
    with pytest.raises(RefusedError, match="20 of the 24 rows"):
        run_job(other, replace=True)
    assert run_job(other, replace=True, allow_drop=True).rows_encoded == 4
