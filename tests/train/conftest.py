"""Pairs that something small can learn from, and a recipe that takes seconds."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.training import Training

TOPICS = {
    "sea": ["wave", "boat", "harbour", "salt", "tide", "gull"],
    "wood": ["oak", "moss", "trail", "axe", "owl", "fern"],
    "town": ["tram", "market", "bridge", "clock", "baker", "square"],
}


def make_pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """Two texts are about one topic, or about two, and share no word."""
    draw = random.Random(seed)
    rows = []
    for row in range(count):
        label = row % 2
        one, other = draw.sample(sorted(TOPICS), 2)
        words = draw.sample(TOPICS[one], 6)
        second = words[3:] if label else draw.sample(TOPICS[other], 3)
        rows.append({"sentence1": " ".join(words[:3]), "sentence2": " ".join(second), "label": label})
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """As a config file would say it."""
    train = write_lines(tmp_path / "pairs" / "train.jsonl", make_pairs(192, 1))
    held_out = write_lines(tmp_path / "pairs" / "dev.jsonl", make_pairs(96, 2))
    return {
        "model": {
            "hidden_size": 32, "layers": 1, "heads": 4, "intermediate_size": 64, "max_tokens": 30, "vocabulary": 400,
            "dropout": 0.1,
        },
        "pairs": {"paths": [str(train)]},
        "evaluation": {"paths": [str(held_out)]},
        "loss": {"margin": 1.0},
        "schedule": {"epochs": 6, "batch_size": 16, "learning_rate": 2e-3, "warmup_steps": 10, "checkpoint_steps": 10},
        "output": str(tmp_path / "out"),
        "device": "cpu",
    }  # fmt: skip


@pytest.fixture
def training(recipe: dict[str, Any]) -> Training:
    return Training.model_validate(recipe)
