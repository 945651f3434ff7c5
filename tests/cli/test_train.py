"""`embedpipe train`, and the recipe in configs/train/."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.figures.training import RECIPE, describe
from pipeline.config.load import load_training
from pipeline.config.training import Training

from .conftest import Cli

CARD = Path(__file__).parents[2] / "configs" / "train" / "card.yaml"
TINY = {"hidden_size": 32, "layers": 1, "heads": 4, "intermediate_size": 64, "max_tokens": 30, "vocabulary": 300}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recipe of one epoch."""
    words = ["sea", "wood", "town", "tide", "moss", "tram"]
    rows = [{"sentence1": words[n % 6], "sentence2": words[(n + n % 2) % 6], "label": 1 - n % 2} for n in range(32)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": TINY,
        "pairs": {"paths": [str(pairs)]},
        "evaluation": {"paths": [str(pairs)]},
        "schedule": {"epochs": 1, "batch_size": 8},
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "train.yaml"


def test_a_model_is_trained_and_its_place_and_quality_are_told(cli: Cli, file: Path) -> None:
    ended = cli("train", "-c", file, "--set", "model.dimensions=16")
    assert ended.code == 0, ended.err
    where, quality = ended.out.splitlines()
    assert where.startswith(f"{file.parent}/out/model: 16 dimensions, ")
    assert re.fullmatch(
        r"euclidean average precision on 32 pairs, 32 of which were trained on too: [01]\.\d+ before, [01]\.\d+ after",
        quality,
    )
    assert "step 4 of 4, euclidean average precision" in ended.err
    again = cli("train", "-c", file, "--set", "model.dimensions=16", "--json")
    assert again.json["model"] == f"{file.parent}/out/model"
    assert "step" not in again.err


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("pairs.label=stars", 3, "stars"),
        ("schedule.epoch=3", 2, "schedule.epoch: unknown key; did you mean schedule.epochs?"),
        ("model.heads=5", 2, "multiple of `heads`"),
        ("loss.margin=0", 2, "loss.margin: expected greater than 0, given 0"),
        ("model.base=/nowhere", 2, "/nowhere: no such directory"),
        ("model.base=''", 2, "model.base: an empty name is no directory's"),
        ("schedule.learning_rate=3e38", 2, "schedule.learning_rate: expected less than or equal to 1"),
        ("schedule.learning_rate=.inf", 2, "schedule.learning_rate: "),
        ("schedule.weight_decay=.inf", 2, "schedule.weight_decay: "),
        ("schedule.max_grad_norm=.inf", 2, "schedule.max_grad_norm: "),
        ("loss.margin=.inf", 2, "loss.margin: "),
        ("device=cuda", 2, "torch sees no GPU here"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_computed(
    cli: Cli, file: Path, override: str, code: int, said: str
) -> None:
    ended = cli("train", "-c", file, "--set", override)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert ended.out == ""
    assert not (file.parent / "out" / "curve.json").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.dimensions=null", "model.activation=tanh"], "`activation` is the Dense layer's"),
        (["evaluation=null", "schedule.evaluation_steps=5"], "without `evaluation` there are no pairs to evaluate on"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(cli: Cli, file: Path, overrides: list[str], said: str) -> None:
    """Whoever set it believes that it does something."""
    ended = cli("train", "-c", file, *(word for one in overrides for word in ("--set", one)))
    assert ended.code == 2, ended.err
    assert said in ended.err


def test_what_training_needs_besides_is_told(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def missing(name: str, *more: Any) -> Any:
        return None if name == "datasets" else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    ended = cli("train", "-c", file)
    assert ended.code == 2
    assert "training needs datasets: pip install 'embedpipe[train]'" in ended.err


def test_the_recipe_says_what_the_defaults_are_and_those_are_the_cards() -> None:
    text = CARD.read_text()
    plain = load_training(CARD)
    body = text[text.index("\npairs:") :]
    uncommented = re.sub(r"^# ( *[a-z_]+:)", r"\1", body, flags=re.MULTILINE)
    uncommented = re.sub(r"^( *)# (positive_from|negative_to|only): .*\n", "", uncommented, flags=re.MULTILINE)
    spelt_out = Training.model_validate(yaml.safe_load(uncommented))
    assert spelt_out == plain
    assert yaml.safe_load(uncommented)["model"].keys() == Training.model_fields["model"].annotation.model_fields.keys()
    assert yaml.safe_load(uncommented)["schedule"].keys() == type(plain.schedule).model_fields.keys()

    schedule = plain.schedule
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate) == (10, 32, 1e-4)
    assert (schedule.weight_decay, schedule.warmup_steps, schedule.max_grad_norm) == (1e-4, 10_000, 1.0)
    assert (plain.loss.distance, plain.loss.margin) == ("euclidean", 0.2)
    assert (plain.model.hidden_size, plain.model.dimensions, plain.model.dropout) == (768, 153, 0.5)
    assert (plain.model.max_tokens, plain.model.pooling, plain.model.activation) == (1280, "max", "relu")


def test_the_small_recipe_is_the_cards_but_for_sizes_dropout_margin_and_schedule() -> None:
    """The shape is what it is a trial of."""
    small, card = load_training(CARD.with_name("small.yaml")), load_training(CARD)
    other = [
        f"{section}.{name}"
        for section in ("model", "loss", "schedule")
        for name, value in getattr(small, section)
        if value != getattr(getattr(card, section), name)
    ]
    assert other == [
        "model.hidden_size", "model.layers", "model.heads", "model.intermediate_size", "model.max_tokens", "model.vocabulary",
        "model.dropout", "loss.margin", "schedule.epochs", "schedule.learning_rate", "schedule.warmup_steps",
    ]  # fmt: skip
    assert small.schedule.warmup_steps < small.schedule.epochs * 50  # or its rate would never get up
    assert small.evaluation is not None
    assert (small.pairs.only, small.evaluation.only) == ({"split": "train"}, {"split": "dev"})


def test_the_figures_tell_what_the_small_recipe_is_and_where_it_ran() -> None:
    """It has no Dropout and another margin, and `device: auto` isn't always a CPU."""
    metrics = {
        f"evaluation_{name}": 0.5 for name in ("euclidean_ap", "cosine_ap", "euclidean_accuracy", "euclidean_f1")
    }
    counts = {"pairs": 2400, "steps": 225, "seconds": 30.0, "evaluation_pairs": 640, "evaluated_trained": 5}
    text = describe({"before": metrics, "after": metrics, "device": "cuda", **counts}, load_training(RECIPE))
    assert "Dense to 153 with relu, without its Dropout; contrastive loss with margin 6 instead of 0.2" in text
    assert (
        "225 steps in 30 s on cuda, evaluated on 640 pairs of the dev split, 5 of which are in the train split" in text
    )
