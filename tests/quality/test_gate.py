"""The parity gate: what it lets through, what it steps down from, what it refuses."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Router
from support.models import HIDDEN, SENTENCES, edit_json, make_transformer, save_model
from torch import nn

from pipeline.encode import encoder as encoding
from pipeline.encode.arrange import arrange_fast, padded
from pipeline.encode.encoder import Encoder
from pipeline.encode.layout import Layout
from pipeline.encode.linear import PrepackedLinear, TorchLinear
from pipeline.encode.placement import Placement, Way
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import ConfigError, ModelError, ParityError
from pipeline.model.lock import StagedModel
from pipeline.model.resolve import resolve_model
from pipeline.quality import gate
from pipeline.quality.gate import GateResult, check_tokens, compare, load_gated
from pipeline.quality.sample import CONSTRUCTED, SAMPLE, stratify
from pipeline.spec import canonical_json
from pipeline.text.tokens import Tokens

EXACT = Placement("cpu", "float32", "model.precision is exact")
HALF = Placement("cpu", "bfloat16", "this CPU multiplies bfloat16 natively")


def load(directory: str | StagedModel, **options: Any) -> tuple[Encoder, GateResult]:
    staged = directory if isinstance(directory, StagedModel) else resolve_model(directory, None, None)
    gate: dict[str, Any] = {"texts": SENTENCES, "precision": "exact", "device": "cpu"}
    gate |= {name: options.pop(name) for name in [*options] if name in (*gate, "threads", "at_most")}
    return load_gated(staged, EncoderSettings(**{"max_tokens": staged.lock.max_tokens, **options}), **gate)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with bfloat16 instructions."""
    monkeypatch.setattr(gate, "choose_placement", lambda precision, device: HALF if precision == "gated" else EXACT)


def test_float32_passes_with_hardly_a_difference(tiny_model: str, caplog: pytest.LogCaptureFixture) -> None:
    """Device, format, the reason for them and the measure are said once by each replica, and stored with each unit."""
    caplog.set_level(logging.INFO, logger="pipeline.quality.gate")
    _, result = load(tiny_model)
    assert result.passed
    assert result.min_cosine > 0.999999
    assert result.max_relative_l2 < 1e-6
    assert result.samples == len(CONSTRUCTED) + len(SENTENCES)
    assert result.to_json() == {
        "samples": result.samples,
        "min_cosine": "1.0000000",
        "max_relative_l2": f"{result.max_relative_l2:.2e}",
        "device": "cpu",
        "dtype": "float32",
        "reason": "model.precision is exact",
    }
    canonical_json(result.to_json())
    [line] = [record.getMessage() for record in caplog.records]
    assert "on cpu in float32 (model.precision is exact): over 10 texts the lowest cosine is 1.0000000" in line


@pytest.mark.usefixtures("half")
def test_half_precision_that_is_close_enough_stays(tiny_model: str) -> None:
    encoder, result = load(tiny_model, precision="gated")
    assert encoder.placement == HALF
    assert (result.dtype, result.reason) == ("bfloat16", HALF.reason)
    assert result.max_relative_l2 > 1e-5  # it really was half


@pytest.mark.usefixtures("half")
@pytest.mark.parametrize(
    ("at_most", "dtype", "fast"),
    [
        (None, "bfloat16", True),
        (Way("bfloat16", fast=True), "bfloat16", True),
        (Way("bfloat16", fast=False), "bfloat16", False),
        (Way("float32", fast=True), "float32", True),
        (Way("float32", fast=False), "float32", False),
        (Way("float16", fast=True), "bfloat16", True),
    ],
)
def test_nothing_is_tried_that_was_ruled_out_elsewhere(
    tiny_model: str, at_most: Way | None, dtype: str, fast: bool
) -> None:
    """By more texts than are there here. What this machine doesn't know rules out nothing."""
    encoder, result = load(tiny_model, precision="gated", texts=(), at_most=at_most)
    assert (result.dtype, encoder.fast) == (dtype, fast)


@pytest.mark.usefixtures("half")
def test_half_precision_that_is_not_steps_down_and_says_why(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def corrupt(transformer: Any, placement: Placement, *_: int) -> Layout:
        if placement == HALF:
            for parameter in transformer.model.parameters():
                parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
        return padded(transformer)

    for way in ("arrange_fast", "arrange_plain"):
        monkeypatch.setattr(encoding, way, corrupt)
    encoder, result = load(tiny_model, precision="gated")
    assert encoder.placement == Placement("cpu", "float32", "bfloat16 failed the parity gate")
    assert result.passed
    assert (result.dtype, result.reason) == ("float32", "bfloat16 failed the parity gate")
    assert (
        "stepping down to float32: bfloat16 failed the parity gate: over 10 texts the lowest cosine is 0."
        in caplog.text
    )


@pytest.mark.usefixtures("half")
def test_a_model_that_can_not_be_run_in_half_precision_is_run_in_float32(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some layers take the weight out of a linear layer, and then find another format than their own."""

    def corrupt(transformer: Any, placement: Placement, *_: int) -> Layout:
        if placement == HALF:
            transformer.model.encoder.layer[0].output.dense.to(torch.bfloat16)
        return padded(transformer)

    for way in ("arrange_fast", "arrange_plain"):
        monkeypatch.setattr(encoding, way, corrupt)
    _, result = load(tiny_model, precision="gated")
    assert result.dtype == "float32"
    assert "a layer can't compute in it" in caplog.text


@pytest.mark.parametrize("precision", ["exact", "gated"])
@pytest.mark.usefixtures("half")
def test_a_fast_way_that_fails_gives_place_to_the_plain_one(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    """The comparison is of a few texts and lets half precision differ; what it lets through must not cost the model its
    half precision, or end the job."""

    def worse(transformer: Any, placement: Placement, max_tokens: int) -> Layout:
        layout = arrange_fast(transformer, placement, max_tokens)
        transformer.register_forward_hook(lambda _m, _given, output: output["token_embeddings"].mul_(1.02) and None)
        return layout

    monkeypatch.setattr(encoding, "arrange_fast", worse)
    monkeypatch.setattr(encoding, "CHECK_BOUND", dict.fromkeys(encoding.CHECK_BOUND, 1.0))
    encoder, result = load(tiny_model, precision=precision)
    assert not encoder.fast
    assert result.dtype == ("bfloat16" if precision == "gated" else "float32")
    assert "the plain way: " in caplog.text


@pytest.mark.parametrize("precision", ["exact", "gated"])
@pytest.mark.usefixtures("half")
def test_vectors_that_differ_in_float32_too_are_refused(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Only scaled: the cosine is blind to it."""
    forward = Encoder._forward
    monkeypatch.setattr(Encoder, "_forward", lambda *arguments: forward(*arguments) * 1.02)
    with pytest.raises(
        ParityError, match=r"lowest cosine is 1\.0000000 .* L2 distance 2\.0e-02 \(at most 0\.0001\)\. Please"
    ):
        load(tiny_model, precision=precision)


def test_a_tokenizer_file_that_says_something_else_than_its_class_is_refused(tmp_path: Path, tiny_model: str) -> None:
    """Readers take tokenizer.json as it is; sentence-transformers builds some tokenizers from the class and the words."""
    directory = tmp_path / "m"
    shutil.copytree(tiny_model, directory)
    file = directory / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(ParityError, match=r"tokenizer gives .* ids"):
        load(str(directory), texts=["UPPER Case"])


def test_other_ids_are_noticed_even_where_their_number_agrees(tiny_model: str) -> None:
    encoder, _ = load(tiny_model)
    ids = Tokens(tiny_model, 128).encode(SENTENCES)[0]
    check_tokens(encoder, SENTENCES, ids, 128)
    ids[3] += 1
    with pytest.raises(ParityError, match="or others"):
        check_tokens(encoder, SENTENCES, ids, 128)


def test_no_prompt_is_no_prompt_even_where_the_model_has_one_by_default(tmp_path: Path) -> None:
    """`prompt: ""` in the config; the reference must not put the default prompt in front on its own."""
    modules = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "mean")]
    directory = save_model(tmp_path / "m", modules, prompts={"doc": "passage: "}, default_prompt_name="doc")
    assert load(directory, prompt="")[1].passed
    assert load(directory, prompt="passage: ")[1].passed


@pytest.mark.parametrize("kind", ["bert", "qwen2"])
def test_a_prompt_longer_than_the_limit_is_cut_like_any_text(tmp_path: Path, kind: str) -> None:
    modules = [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, ("mean", "cls"), include_prompt=False)]
    directory = save_model(tmp_path / "m", modules)
    assert load(directory, prompt="a word ", max_tokens=20)[1].passed
    assert load(directory, prompt="a word " * 20, max_tokens=20)[1].passed


@pytest.mark.usefixtures("half")
def test_half_precision_is_for_the_route_that_is_taken(tmp_path: Path) -> None:
    def route(seed: int) -> list[Any]:
        return [make_transformer(tmp_path / f"b{seed}", "bert", seed=seed), Pooling(HIDDEN, "mean")]

    directory = save_model(
        tmp_path / "m", [Router({"query": route(1), "document": route(2)}, default_route="document")]
    )  # type: ignore[arg-type]
    for task, taken in (("query", "query"), (None, "document")):
        encoder, result = load(directory, precision="gated", task=task)
        assert result.dtype == "bfloat16"
        routes: Any = encoder._model[0].sub_modules
        halves = {
            name: any(isinstance(module, PrepackedLinear | TorchLinear) for module in modules.modules())
            for name, modules in routes.items()
        }
        assert halves == {"query": taken == "query", "document": taken == "document"}


def test_a_task_without_a_route_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    modules = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "mean"), Router({"query": [Dense(HIDDEN, 8)]})]  # type: ignore[arg-type]
    directory = save_model(tmp_path / "m", modules)
    with pytest.raises(ConfigError, match=r"model\.task is 'qwery', but the model's routes are query"):
        load(directory, task="qwery")


def test_zero_rows_of_a_model_pass(tmp_path: Path) -> None:
    """A ReLU at the end may leave nothing: there is no cosine then."""
    dense = Dense(HIDDEN, 4, activation_function=nn.ReLU())
    nn.init.constant_(dense.linear.bias, -1e6)
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "max"), dense])
    encoder, result = load(directory)
    assert result.passed
    assert not encoder.encode(*Tokens(directory, 66).encode(SENTENCES)[:2]).any()


def test_positions_the_table_does_not_have_are_never_asked_for(tmp_path: Path) -> None:
    """An old RoBERTa says 1280 and has 514 rows, of which 512 can be used: an index error, or a dead GPU."""
    directory = save_model(
        tmp_path / "m", [make_transformer(tmp_path / "b", "roberta", positions=514), Pooling(HIDDEN, "max")]
    )
    edit_json(Path(directory, "sentence_bert_config.json"), max_seq_length=1280)
    staged = resolve_model(directory, None, None)
    assert (staged.lock.max_tokens, staged.lock.declared_max_tokens) == (512, 1280)
    assert load(staged, texts=["word " * 600])[1].passed


@pytest.mark.parametrize("truncate_dim", [5, 32, 100])
def test_cut_vectors_are_measured_as_they_are_stored(tiny_model: str, truncate_dim: int) -> None:
    encoder, result = load(tiny_model, truncate_dim=truncate_dim)
    assert result.passed
    vectors = encoder.encode(*Tokens(tiny_model, 128).encode(SENTENCES)[:2])
    assert vectors.shape[1] == min(32, truncate_dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)


def test_the_real_model_in_the_format_of_this_machine(minilm: str) -> None:
    _, result = load(minilm, precision="gated", threads=2)
    assert result.passed
    assert result.min_cosine >= 0.9999


Matrix = npt.NDArray[np.float32]
DUE = np.array([[3, 4], [0, 0], [-1, 2]], np.float32)


def changed(row: int, values: list[float]) -> Matrix:
    found = DUE.copy()
    found[row] = values
    return found


@pytest.mark.parametrize(
    ("found", "passed", "cosine", "distance", "zeros"),
    [
        (DUE, True, 1.0, 0.0, True),
        (DUE * np.float32(1.01), True, 1.0, 0.01, True),
        (DUE * np.float32(1.02), False, 1.0, 0.02, True),
        (-DUE, False, -1.0, 2.0, True),
        (changed(0, [4, 3]), False, 0.96, 0.2828, True),
        (changed(0, [3.03, 4]), True, 0.999988, 0.006, True),
        (changed(1, [1e-30, 0]), False, 1.0, 0.0, False),
        (changed(2, [0, 0]), False, 1.0, 1.0, False),
    ],
)
def test_the_measure_on_vectors_made_by_hand(
    found: Matrix, passed: bool, cosine: float, distance: float, zeros: bool
) -> None:
    result = compare(found, DUE, HALF)
    assert result.passed is passed
    assert compare(found, DUE, EXACT).passed is (passed and distance < 1e-4)
    assert result.min_cosine == pytest.approx(cosine, abs=1e-5)
    assert result.max_relative_l2 == pytest.approx(distance, abs=1e-4)
    assert result.finite
    assert result.zero_rows_match is zeros


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_what_is_not_a_number_never_passes(value: float, row: int) -> None:
    result = compare(changed(row, [value, 1]), DUE, EXACT)
    assert not result.finite
    assert not result.passed
    assert "NaN or infinity" in result.describe()
    canonical_json(result.to_json())


def test_each_bound_counts_alone() -> None:
    good = GateResult(3, 1.0, 0.0, True, True, "cpu", "bfloat16", "")
    assert good.passed
    assert replace(good, min_cosine=0.9999, max_relative_l2=1.5e-2).passed
    assert replace(good, dtype="float32", min_cosine=0.999999, max_relative_l2=1e-4).passed
    assert not replace(good, dtype="float32", min_cosine=0.9999).passed
    assert not replace(good, dtype="float32", max_relative_l2=1.1e-4).passed
    for bad in (
        {"min_cosine": 0.99989}, {"max_relative_l2": 1.51e-2}, {"finite": False}, {"zero_rows_match": False},
        {"min_cosine": float("nan")}, {"max_relative_l2": float("nan")},
    ):  # fmt: skip
        assert not replace(good, **bad).passed


@given(st.lists(st.text(max_size=50), max_size=200), st.integers(1, 60))
def test_the_sample_is_spread_over_the_lengths_there_are(texts: list[str], count: int) -> None:
    chosen = stratify(texts, count)
    distinct = set(texts)
    assert len(chosen) == len(set(chosen)) == min(count, len(distinct))
    assert set(chosen) <= distinct
    lengths = [len(text) for text in chosen]
    assert lengths == sorted(lengths)
    if len(chosen) > 1:
        assert (lengths[0], lengths[-1]) == (min(map(len, distinct)), max(map(len, distinct)))
    assert stratify(texts[::-1], count) == chosen  # every replica measures the same


def test_the_sample_is_small() -> None:
    assert len(stratify([f"text {n}" for n in range(1000)])) == SAMPLE


def test_a_text_that_has_no_finite_vector_in_float32_either_is_left_out() -> None:
    """Its rows will be set aside; the other million must not be refused for its sake."""
    due = np.array([[3, 4], [np.nan, 1], [1, 0]], np.float32)
    assert compare(due, due, EXACT).passed
    assert compare(np.array([[3, 4], [9, 9], [1, 0]], np.float32), due, EXACT).passed
    assert not compare(np.array([[3, 4], [0, 1], [np.nan, 0]], np.float32), due, EXACT).passed
    assert not compare(due[1:2], due[1:2], EXACT).passed, "nothing is left to tell by"


def test_a_text_that_the_model_can_not_take_does_not_keep_its_replicas_from_loading(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside when its unit is encoded; in the gate it would end every replica, on each run anew."""
    real = gate.reference_vectors

    def picky(staged: StagedModel, settings: EncoderSettings, texts: list[str], device: str) -> Any:
        if SENTENCES[0] in texts:
            raise IndexError("index out of range in self")
        return real(staged, settings, texts, device)

    monkeypatch.setattr(gate, "reference_vectors", picky)
    _, result = load(tiny_model)
    assert result.passed
    assert result.samples == len(CONSTRUCTED)
    assert "constructed texts alone: with the job's own the model fails (index out of range in self)" in caplog.text
    monkeypatch.setattr(gate, "CONSTRUCTED", (SENTENCES[0],))
    with pytest.raises(ModelError, match=r"can't embed a plain text \(IndexError: index out of range in self"):
        load(tiny_model, texts=[])


@pytest.mark.parametrize("texts", [SENTENCES, []])
def test_a_model_that_fails_over_everything_is_refused_and_no_text_is_blamed(
    tmp_path: Path, tiny_model: str, caplog: pytest.LogCaptureFixture, texts: list[str]
) -> None:
    """Its tokenizer has ids that its table of embeddings hasn't. It was called a bug of this program, and before that the job's
    own texts were said to be the reason."""
    directory = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    weights = load_file(directory / "model.safetensors")
    table = "embeddings.word_embeddings.weight"
    save_file({**weights, table: weights[table][:100].clone()}, directory / "model.safetensors", {"format": "pt"})
    edit_json(directory / "config.json", vocab_size=100)
    with pytest.raises(ModelError, match=rf"^{directory}: the model can't embed a plain text \(IndexError"):
        load(str(directory), texts=texts)
    assert "job's own" not in caplog.text


def test_a_model_whose_weights_do_not_fit_its_config_is_loaded_once_and_refused(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The texts play no part in that, so other ones can't help."""
    directory = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    edit_json(directory / "config.json", vocab_size=100)
    loads, real = [], gate.load_model
    monkeypatch.setattr(gate, "load_model", lambda *arguments: loads.append(1) or real(*arguments))
    with pytest.raises(ModelError, match="can't be loaded"):
        load(str(directory))
    assert loads == [1]
    assert "job's own" not in caplog.text


def test_vectors_of_another_length_than_the_files_say_are_the_models_fault(tiny_model: str) -> None:
    """As an error of encoding it was one that a scheduler tries again for ever."""
    staged = resolve_model(tiny_model, None, None)
    other = replace(staged, lock=replace(staged.lock, dimensions=64))
    with pytest.raises(ModelError, match="gives vectors of 32 dimensions, where its files say 64"):
        load(other)
