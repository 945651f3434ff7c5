"""Cheaper settings against a model's own vectors."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.jobs import text_of
from support.models import edit_json

from pipeline.encode.settings import EncoderSettings
from pipeline.errors import EncodeError
from pipeline.model.resolve import resolve_model
from pipeline.quality import settings as comparing
from pipeline.quality.neighbours import Neighbours
from pipeline.quality.settings import Comparison, Replica, compare_settings, measure_recall

TEXTS = [text_of(n, 3 * (n % 150)) for n in range(240)]


@pytest.fixture(scope="module")
def replica(tiny_model: str) -> Replica:
    return Replica(resolve_model(tiny_model, None, None), "cpu", None)


@pytest.fixture(scope="module")
def comparison(replica: Replica) -> Comparison:
    wanted = EncoderSettings(replica.staged.lock.max_tokens, truncate_dim=12)
    return compare_settings(replica, wanted, "exact", TEXTS)


def test_each_setting_is_held_against_the_models_own_vectors(comparison: Comparison) -> None:
    by_name = {one.name: one for one in comparison.settings}
    own = by_name["float32, the model's own"]
    assert (own.recall, own.bytes_per_million) == (1.0, 32 * 4 * 1_000_000)
    assert by_name["float16 in the index"].recall > 0.99
    assert by_name["int8 in the index"].bytes_per_million == 32_000_000
    assert by_name["binary in the index"].bytes_per_million == 4_000_000
    assert by_name["int8 in the index"].recall > 0.95
    assert 0.06 < by_name["binary in the index"].recall < 0.9
    falling = [by_name[name].recall for name in ("16 dimensions", "8 dimensions", "4 dimensions")]
    assert sorted(falling, reverse=True) == falling
    assert falling[0] < 1.0
    assert by_name["this config"].recall == pytest.approx(by_name["12 dimensions"].recall, abs=0.01)
    assert {one.config for one in comparison.settings} >= {"model.truncate_dim=16", "model.max_tokens=64"}
    assert all(one.seconds_per_million > 0 for one in comparison.settings)


def test_recall_is_that_of_sentence_transformers_own_vectors(comparison: Comparison, tiny_model: str) -> None:
    """By its own truncation and its own length."""
    model = SentenceTransformer(tiny_model, device="cpu")
    truth = Neighbours(np.asarray(model.encode(TEXTS)), "cosine")
    by_config = {one.config: one.recall for one in comparison.settings}
    fewer = np.asarray(model.encode(TEXTS, truncate_dim=8))
    assert by_config["model.truncate_dim=8"] == pytest.approx(truth.recall(fewer), abs=0.005)
    model.max_seq_length = 64
    shorter = truth.recall(np.asarray(model.encode(TEXTS)))
    assert by_config["model.max_tokens=64"] == pytest.approx(shorter, abs=0.005)
    assert shorter < 1.0


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_fewer_dimensions_are_as_long_as_a_job_makes_them(tiny_model: str, tmp_path: Path, similarity: str) -> None:
    """By cosine it would be no matter; a model whose vectors have length 1 has them again after the cut."""
    shutil.copytree(tiny_model, tmp_path / "model")
    edit_json(tmp_path / "model" / "config_sentence_transformers.json", similarity_fn_name=similarity)
    replica = Replica(resolve_model(str(tmp_path / "model"), None, None), "cpu", None)
    wanted = EncoderSettings(replica.staged.lock.max_tokens, truncate_dim=8)
    found = {one.name: one.recall for one in compare_settings(replica, wanted, "exact", TEXTS[:120]).settings}
    assert found["8 dimensions"] == pytest.approx(found["this config"], abs=0.002)
    assert found["8 dimensions"] == pytest.approx(measure_recall(replica, wanted, "exact", TEXTS[:120]), abs=0.002)


def test_lengths_that_no_text_has_are_not_tried(replica: Replica) -> None:
    texts = [f"{text_of(n)} {n}" for n in range(120)]
    found = compare_settings(replica, EncoderSettings(replica.staged.lock.max_tokens), "exact", texts)
    assert not [one for one in found.settings if "tokens" in one.name]
    assert any("no text of the sample is longer" in note for note in found.notes)


def test_a_demand_is_measured_on_what_the_config_asks_for(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = EncoderSettings(replica.staged.lock.max_tokens)
    assert measure_recall(replica, replace(wanted, truncate_dim=4), "exact", TEXTS) < 0.8
    monkeypatch.setattr(comparing, "_encode", None)  # the model's own vectors needn't be compared with themselves
    assert measure_recall(replica, wanted, "exact", TEXTS) == 1.0


def test_too_few_texts_are_refused(replica: Replica) -> None:
    with pytest.raises(EncodeError, match="there are 50 distinct texts"):
        compare_settings(replica, EncoderSettings(16), "exact", TEXTS[:50])
