"""Cheaper settings against a model's own vectors."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


@pytest.fixture(scope="module", autouse=True)
def timed_once() -> Iterator[None]:
    """What is measured in seconds is nothing that these tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "LEAST_S", 0.0)
        yield


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
    asked = by_name["this config"]
    assert (asked.dimensions, asked.max_tokens, asked.dtype) == (12, 128, "float32")
    assert by_name["64 tokens"].max_tokens == 64
    assert (comparison.prompt, comparison.task) == ("", None)
    assert 10 / 239 <= comparison.chance < 0.1


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


def test_a_model_that_tells_no_texts_apart_is_measured_by_nothing(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equally near texts one is as good as another: it would have a recall of 1 in any setting, and meet any demand."""
    encode = comparing._encode

    def collapsed(*arguments: Any, **options: Any) -> Any:
        found = encode(*arguments, **options)
        return replace(found, vectors=np.ones_like(found.vectors))

    monkeypatch.setattr(comparing, "_encode", collapsed)
    wanted = EncoderSettings(replica.staged.lock.max_tokens, truncate_dim=2)
    for measure in (compare_settings, measure_recall):
        with pytest.raises(EncodeError, match=r"tells the 120 texts too little apart .* taken blindly are 100%"):
            measure(replica, wanted, "exact", TEXTS[:120])


def test_a_small_sample_is_timed_more_than_once_and_the_median_counts(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass over 250 texts takes a few hundredths of a second, and five times that when the machine looks away."""
    clock = iter([0.0, 5.0, 5.0, 5.1, 5.1, 5.3])
    monkeypatch.setattr(comparing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(comparing, "_vectors", lambda *_: np.zeros((1, 1), np.float32))
    monkeypatch.setattr(comparing, "LEAST_S", 5.25)
    found = comparing._encode(replica, EncoderSettings(128), "exact", TEXTS[:1], timed=True)
    assert found.seconds == pytest.approx(0.2)
    assert next(clock, None) is None


def test_what_no_index_can_keep_is_a_note(recwarn: pytest.WarningsRecorder) -> None:
    """float16 makes infinities of what is beyond its numbers; a share of neighbours by those would be a share of nothing."""
    vectors = np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32) * 30_000
    vectors[:, 3] = 7.0  # as after ReLU, where nothing reaches it
    vectors[0, 0] = np.nan
    sound = np.isfinite(vectors).all(axis=1)
    notes: list[str] = []
    found = {name: kept for name, kept, _ in comparing._stored(vectors, sound, notes)}
    (note,) = notes
    assert re.fullmatch(r"float16 in the index: \d+ texts have values beyond 65,504, its largest number", note)
    assert list(found) == ["int8 in the index", "binary in the index"]
    assert (found["int8 in the index"][:, 3][sound] == 7.0).all()
    assert Neighbours(vectors[sound], "euclidean").recall(found["int8 in the index"][sound]) > 0.9
    assert not recwarn.list
    notes.clear()
    assert len(list(comparing._stored(vectors / 100, sound, notes))) == 3
    assert not notes
