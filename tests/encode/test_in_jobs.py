"""The same through whole jobs: what the config says reaches the model, and what the model can't do is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Router
from support.jobs import make_config
from support.models import HIDDEN, SENTENCES, edit_json, make_transformer, save_model

import pipeline
from pipeline.encode.encoder import load_model
from pipeline.flow.supervisor import plan_job

TEXTS = ["", "a", *SENTENCES, SENTENCES[0], "word " * 700]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lines = (json.dumps({"id": f"{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS))
    (tmp_path / "in.jsonl").write_text("".join(lines))
    return tmp_path / "in.jsonl"


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pipeline.open_snapshot(str(output)).to_table().to_pylist()
    return sorted(rows, key=lambda row: int(row["id"]))


def assert_plain(rows: list[dict[str, Any]], model: str, max_tokens: int, **arguments: Any) -> None:
    plain = load_model(model, "cpu")
    plain.max_seq_length = max_tokens
    expected = plain.encode(TEXTS, show_progress_bar=False, **arguments)
    assert np.allclose([row["embedding"] for row in rows], expected, atol=1e-6)


def test_a_limit_beyond_the_table_of_positions_is_clamped_said_and_counted(tmp_path: Path, source: Path) -> None:
    """The model of 2020 that says 1280 and has 514 rows."""
    backbone = make_transformer(tmp_path / "b", "roberta", positions=514)
    model = save_model(tmp_path / "m", [backbone, Pooling(HIDDEN, "max")])
    edit_json(Path(model, "sentence_bert_config.json"), max_seq_length=1280)
    config = make_config(source, str(tmp_path / "out"), model, model__precision="exact")
    preflight = plan_job(config)
    assert preflight.max_tokens == 512
    assert "the model says it takes 1280 tokens, but its position table ends at 512" in preflight.messages[0]
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.truncated) == (0, 1)
    rows = rows_of(tmp_path / "out")
    assert [row["truncated"] for row in rows] == [False] * 7 + [True]
    assert rows[-1]["token_count"] > 700
    assert_plain(rows, model, 512)


@pytest.mark.parametrize("task", ["query", None])
def test_a_job_takes_a_route_a_prompt_and_a_dimension(tmp_path: Path, source: Path, task: str | None) -> None:
    routes = {
        name: [make_transformer(tmp_path / name, "bert", seed=seed), Pooling(HIDDEN, "mean", include_prompt=False)]
        for seed, name in enumerate(("query", "document"))
    }
    model = save_model(tmp_path / "m", [Router(routes, default_route="document"), Normalize()], prompts={"p": "find: "})  # type: ignore[arg-type]
    options = {"model__task": task, "model__prompt_name": "p", "model__truncate_dim": 8}
    config = make_config(source, str(tmp_path / "out"), model, model__precision="exact", **options)
    assert pipeline.run(config).exit_code == 0
    arguments = {
        "prompt": "find: ",
        "truncate_dim": 8,
        "normalize_embeddings": True,
        **({"task": task} if task else {}),
    }
    assert_plain(rows_of(tmp_path / "out"), model, 66, **arguments)


def test_each_unit_says_where_it_was_made_and_why(tmp_path: Path, source: Path, tiny_model: str) -> None:
    pipeline.run(make_config(source, str(tmp_path / "out"), tiny_model, model__precision="exact"))
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "_embedpipe").glob("unit/*/*-0.json")]
    [record] = [record for record in records if record["state"] == "done"]
    assert (record["device"], record["dtype"]) == ("cpu", "float32")
    assert record["gate"]["reason"] == "model.precision is exact"
    assert (record["folded"], record["truncated"]) == (1, 1)
