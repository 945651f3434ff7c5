"""`embedpipe evaluate`, and the configs it is shown with."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs import write_parquet

from pipeline.config.evaluation import Evaluation
from pipeline.config.load import load_evaluation
from pipeline.config.pairs import Pairs

from .conftest import Cli, Job

EXAMPLE = Path(__file__).parents[2] / "configs" / "evaluate" / "sets.yaml"


@pytest.fixture
def file(tmp_path: Path, tiny_model: str) -> Path:
    """An evaluation on one set of pairs."""
    words = ["sea", "wood", "town", "tide", "moss", "tram"]
    rows = [{"sentence1": words[n % 6], "sentence2": words[(n + n % 2) % 6], "label": 1 - n % 2} for n in range(24)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model": {"name": tiny_model},
        "pairs": {"words": {"paths": [str(tmp_path / "pairs.jsonl")]}},
        "execution": {"engine": "serial"},
    }
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "sets.yaml"


def test_scores_are_told_and_a_minimum_ends_the_command(cli: Cli, file: Path) -> None:
    """Identical words have identical vectors, so this set has a perfect score."""
    ended = cli("evaluate", "-c", file, "--set", "minimum={words.accuracy: 0.9}")
    assert ended.code == 0, ended.err
    head, precision, accuracy = ended.out.splitlines()
    assert "32 dimensions, cosine similarity, " in head
    assert precision.split() == ["words.average_precision", "1.0000", "24", "pairs,", "12", "positive"]
    assert accuracy.split() == ["words.accuracy", "1.0000"]
    pairs = file.parent / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace('"label": 1', '"label": 0', 1))
    short = cli("evaluate", "-c", file, "--set", "minimum={words.accuracy: 1.0}", "--json")
    assert short.code == 3
    assert short.json["short_of"] == {"words.accuracy": 23 / 24}
    assert short.json["sets"][0]["size"] == 24


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("pairs.words.label=stars", 3, "stars"),
        ("pairs.words.lable=label", 2, "pairs.words.lable: unknown key"),
        ("minimum={words.f1: 0.5}", 2, "the scores will be words.average_precision, words.accuracy"),
        ("minimum={words.accuracy: 86.7}", 2, "minimum.words.accuracy: "),
        ("minimum={words.accuracy: .nan}", 2, "minimum.words.accuracy: "),
        ("pairs=null", 2, "there is nothing to measure"),
        ("pairs.words.paths=['s3://key:secret@bucket/x.jsonl']", 2, "pairs.words.paths[0]: holds credentials"),
    ],
)
def test_what_is_wrong_is_told(cli: Cli, file: Path, override: str, code: int, said: str) -> None:
    ended = cli("evaluate", "-c", file, "--set", override)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert ended.out == ""


def test_the_help_is_about_an_evaluation(cli: Cli) -> None:
    """It has no output.path, and its file is a job's only with --compare."""
    said = " ".join(cli("evaluate", "--help").out.replace("│", " ").split())
    assert "with --compare a job." in said
    assert "output.path" not in said


def test_what_retrieval_needs_besides_is_told(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pytrec_eval" else find(name, *more)
    )
    retrieval = "retrieval={faq: {corpus: [a.jsonl], queries: [b.jsonl], qrels: [c.tsv]}}"
    ended = cli("evaluate", "-c", file, "--set", retrieval)
    assert ended.code == 2
    assert "this needs pytrec_eval: pip install 'embedpipe[evaluate]'" in ended.err


def test_cheaper_settings_are_compared_on_a_jobs_input_as_a_table_and_a_picture(
    cli: Cli, job: Job, tmp_path: Path
) -> None:
    write_parquet(job.source / "more.parquet", range(100, 250), 30)
    ended = cli("evaluate", "--compare", "-c", job.file, "--rows", "150", "--plot", tmp_path / "plot.svg")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "150 texts of the input, on cpu, cosine similarity; 32 dimensions, 128 tokens at most" in lines[0]
    assert re.search(r"texts taken blindly would have a recall of \d\.\d\d%$", lines[0])
    assert lines[1].split() == ["setting", "recall@10", "vectors", "of", "1M", "rows", "encoding", "1M", "rows"]
    assert lines[2].split()[:5] == ["float32,", "the", "model's", "own", "100.00%"]
    assert any("model.truncate_dim=16" in line for line in lines)
    picture = (tmp_path / "plot.svg").read_text()
    assert "16 dimensions" in picture
    assert not job.out.exists()
    assert cli("evaluate", "--compare", "-c", job.file, "--rows", "150", "--json").json["texts"] == 150


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compare", "--plot", "plot.gif2"), "name it .svg, .png or .pdf"),
        (("--compare", "--plot", "nosuch/plot.svg"), "there is no folder"),
        (("--compare", "--rows", "99"), "greater than or equal to 100"),
        (("--rows", "200"), "--rows and --plot are for --compare"),
    ],
)
def test_options_that_mean_nothing_are_refused(cli: Cli, job: Job, arguments: tuple[str, ...], said: str) -> None:
    write_parquet(job.source / "more.parquet", range(100, 250))
    ended = cli("evaluate", "-c", job.file, *arguments)
    assert ended.code == 2
    assert said in ended.err


def test_the_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    plain = load_evaluation(EXAMPLE)
    text = EXAMPLE.read_text()
    spelt_out: dict[str, Any] = yaml.safe_load(
        "\n".join(line.replace("# ", "", 1) if line.startswith("    # ") else line for line in text.splitlines())
    )
    pairs = spelt_out["pairs"]["duplicates"]
    assert pairs.keys() >= {"first", "second", "label", "positive_from", "negative_to"}
    assert (pairs.pop("positive_from"), pairs.pop("negative_to")) == (4, 1)
    assert pairs.keys() < Pairs.model_fields.keys()
    assert Evaluation.model_validate(spelt_out) == plain
    assert yaml.safe_load(text.replace("\n# minimum", "\nminimum").replace("\n#   stsb", "\n  stsb"))["minimum"] == {
        "stsb.spearman": 0.85
    }


def test_what_was_measured_goes_into_a_snapshots_card(cli: Cli, file: Path, published: Job, tmp_path: Path) -> None:
    (tmp_path / "quality.json").write_text(cli("evaluate", "-c", file, "--json").out)
    ended = cli("card", published.out, "--quality", tmp_path / "quality.json")
    assert ended.code == 0, ended.err
    assert "| words | average precision | 1.0000 | 24 pairs, 12 positive |" in ended.out
    (tmp_path / "quality.json").write_text("[]")
    refused = cli("card", published.out, "--quality", tmp_path / "quality.json")
    assert (refused.code, refused.out) == (2, "")
    assert "expected one JSON object" in refused.err
    other = cli("evaluate", "-c", file, "--set", "model.prompt='xx: '", "--json")
    (tmp_path / "quality.json").write_text(other.out)
    refused = cli("card", published.out, "--quality", tmp_path / "quality.json")
    assert (refused.code, refused.out) == (2, "")
    assert "its prompt is 'xx: ', the snapshot's is ''" in refused.err


def test_a_comparison_goes_into_a_snapshots_card(cli: Cli, job: Job, published: Job, tmp_path: Path) -> None:
    write_parquet(job.source / "more.parquet", range(100, 250), 30)
    compared = cli("evaluate", "--compare", "-c", job.file, "--rows", "150", "--set", "model.truncate_dim=16", "--json")
    (tmp_path / "quality.json").write_text(compared.out)
    ended = cli("card", published.out, "--quality", tmp_path / "quality.json")
    assert ended.code == 0, ended.err
    assert re.search(r"\| another config \| `.*model.truncate_dim=16` \|", ended.out)
