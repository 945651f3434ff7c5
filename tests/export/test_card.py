"""A snapshot's card: true, and its snippet runs as printed."""

import math
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

PROMPT = "pass|age: "
STSB = {
    "name": "stsb", "size": 12, "of": "pairs", "scores": {"spearman": 0.8672, "pearson": None}, "prompt": PROMPT, "task": None,
}  # fmt: skip
SCORES = {"sets": [STSB], "similarity": "cosine"}
ASKED = {"name": "this config", "config": "model.truncate_dim=20", "recall": 0.95, "dimensions": 20, "max_tokens": 128}
SETTINGS = {
    "settings": [{"name": "16 dimensions", "config": "model.truncate_dim=16", "recall": 0.91234}],
    "texts": 2000,
    "chance": 0.005,
    "prompt": PROMPT,
    "task": None,
}


def measured(output: str) -> dict[str, Any]:
    """Of which vectors a quality is."""
    facts = describe_facts(output)
    return {"weights": facts["weights"], "dimensions": 20, "max_tokens": 128, "dtype": dtype_of(output)}


def dtype_of(output: str) -> str:
    head = read_head(open_store(output))
    assert head is not None
    return head.units[0].dtype


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
        model__truncate_dim=20, model__prompt=PROMPT,
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
    assert f"Measured on labelled sets, computed in {dtype_of(output)}, compared by cosine similarity:" in card
    assert "| 16 dimensions | `model.truncate_dim=16` | 91.23% |" in card
    assert (
        "over 2,000 texts, each setting finds what is said below; texts taken blindly would be 0.50% of them:" in card
    )
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
        (SCORES | {"weights": "of another"}, "its weights is 'of another', the snapshot's is "),
        (SCORES | {"dimensions": 32}, "its dimensions is 32, the snapshot's is 20"),
        (SCORES | {"max_tokens": 64}, "its max_tokens is 64, the snapshot's is 128"),
        (SCORES | {"dtype": "float8"}, "its dtype is float8, the snapshot's is "),
        (
            {"sets": [STSB, STSB | {"prompt": "xx: "}]},
            "its prompt is 'xx: ', the snapshot's is 'pass|age: '; evaluate with",
        ),
        ({"sets": [STSB | {"task": "query"}]}, "its task is 'query', the snapshot's is None"),
        (SETTINGS | {"prompt": ""}, "its prompt is '', the snapshot's is 'pass|age: '"),
        (SETTINGS | {"task": "query"}, "its task is 'query', the snapshot's is None"),
        ({"rows": 3}, "expected its one JSON document"),
        ({"sets": [{}]}, "expected its one JSON document"),
        ({"sets": 3}, "expected its one JSON document"),
        ({**SCORES, "sets": [STSB | {"scores": {"spearman": math.nan}}]}, "expected its one JSON document"),
        (SETTINGS | {"settings": [ASKED | {"recall": math.nan}]}, "expected its one JSON document"),
    ],
)
def test_the_quality_of_something_else_is_refused(output: str, quality: dict[str, Any], said: str) -> None:
    """A card that gives a snapshot another's scores is believed."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        make_card(output, quality=[measured(output) | quality])


@pytest.mark.parametrize(
    ("change", "name"),
    [({}, "this snapshot"), ({"dimensions": 12}, "another config"), ({"dtype": "float8"}, "another config")],
)
def test_the_config_that_was_compared_is_the_snapshots_only_where_it_is(
    output: str, change: dict[str, Any], name: str
) -> None:
    """A comparison is made before a job is settled, so that its own config may be another's."""
    here = measured(output)
    card = make_card(output, quality=[here | SETTINGS | {"settings": [here | ASKED | change]}])
    assert f"| {name} | `model.truncate_dim=20` | 95.00% |" in card
    assert "this config" not in card


def test_what_would_break_a_table_stands_on_one_line(output: str) -> None:
    quality = measured(output) | {"sets": [STSB | {"name": "sts\nb"}], "similarity": "cos\n\n# ine"}
    card = make_card(output, quality=[quality])
    assert "| sts b | spearman | 0.8672 | 12 pairs |" in card
    assert "compared by cos  # ine similarity" in card


def test_where_nothing_is_published_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing has been published"):
        make_card(str(tmp_path))
