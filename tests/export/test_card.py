"""A snapshot's card: true, and its snippet runs as printed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs import make_config, write_parquet

import pipeline
from pipeline.commit.snapshot import read_head
from pipeline.errors import ConfigError, InputError
from pipeline.export.card import make_card
from pipeline.storage.open import open_store

SCORES = {
    "sets": [{"name": "stsb", "size": 12, "of": "pairs", "scores": {"spearman": 0.8672, "pearson": None}}],
    "similarity": "cosine",
}
SETTINGS = {
    "settings": [{"name": "16 dimensions", "config": "model.truncate_dim=16", "recall": 0.91234}],
    "texts": 2000,
}


def measured(output: str) -> dict[str, Any]:
    """Of which vectors a quality is."""
    return {"weights": describe_facts(output)["weights"], "dimensions": 20, "max_tokens": 128}


def describe_facts(output: str) -> dict[str, Any]:
    head = read_head(open_store(output))
    assert head is not None
    return head.entry.facts


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> str:
    folder = tmp_path_factory.mktemp("card")
    write_parquet(folder / "in" / "a.parquet", range(30))
    config = make_config(
        folder / "in", str(folder / "vectors"), tiny_model, input__keep=["lang"], output__partition_by=["lang"],
        model__truncate_dim=20, model__prompt="pass|age: ",
    )  # fmt: skip
    pipeline.run(config)
    return str(folder / "vectors")


def test_the_card_says_what_is_there(output: str, tiny_model: str) -> None:
    here = measured(output)
    card = make_card(output, quality=[here | SCORES, here | SETTINGS])
    assert yaml.safe_load(card.split("---")[1])["size_categories"] == ["n<1K"]
    assert card.split("---", 2)[2].startswith("\n\n# vectors\n")
    assert f"30 rows with the 20-dimensional embeddings of {tiny_model}" in card
    assert "| dimensions | 20 of 32 |" in card
    assert '| prompt | `"pass\\|age: "` before every text |' in card
    assert re.search(r"\| cpu \| \w+ \| [01]\.\d{7} \| \d\.\de-\d\d \|", card)
    assert "| stsb | spearman | 0.8672 | 12 pairs |" in card
    assert "| stsb | pearson | not defined | 12 pairs |" in card
    assert "| 16 dimensions | `model.truncate_dim=16` | 91.23% |" in card
    columns = re.findall(r"^\| `(\w+)` \|", card, re.MULTILINE)
    assert columns == pipeline.open_snapshot(output).schema.names


def test_the_snippet_runs_as_printed(output: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", make_card(output), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.startswith("30 ['id', 'embedding'"), done.stderr


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        (SCORES | {"weights": "of another"}, "its weights are of another, the snapshot's "),
        (SCORES | {"dimensions": 32}, "its dimensions are 32, the snapshot's 20"),
        (SCORES | {"max_tokens": 64}, "its max_tokens are 64, the snapshot's 128"),
        ({"rows": 3}, "expected its one JSON document"),
        ({"sets": [{}]}, "expected its one JSON document"),
        ({"sets": 3}, "expected its one JSON document"),
    ],
)
def test_the_quality_of_something_else_is_refused(output: str, quality: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_card(output, quality=[measured(output) | quality])


def test_where_nothing_is_published_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing has been published"):
        make_card(str(tmp_path))
