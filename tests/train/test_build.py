"""The model to begin with: the card's architecture, from nothing or from a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from support.models import HIDDEN, edit_json, make_transformer

from pipeline.config.training import Architecture
from pipeline.errors import ConfigError, ModelError
from pipeline.model.inspect import inspect_model
from pipeline.train.build import build_model

TEXTS = ["the quick brown fox jumps over the lazy dog", "data moves one way, and a cycle begins the other way"] * 8
SMALL = {"hidden_size": 32, "layers": 2, "heads": 4, "intermediate_size": 64, "vocabulary": 400}


def build(folder: Path, **settings: Any) -> Any:
    folder.mkdir(exist_ok=True)
    sizes = SMALL if "base" not in settings else {}
    return build_model(Architecture(**sizes | settings), TEXTS, folder, similarity="euclidean", device="cpu", seed=7)


def test_it_is_the_cards_architecture_and_survives_being_saved(tmp_path: Path) -> None:
    """RoBERTa for 1,280 tokens, so 1,282 positions; max pooling; Dense to 153 with ReLU; Dropout."""
    built = build(tmp_path / "work")
    assert [type(module).__name__ for module in built] == ["Transformer", "Pooling", "Dense", "Dropout"]
    backbone = built[0].auto_model
    assert type(backbone).__name__ == "RobertaModel"
    assert backbone.config.max_position_embeddings == 1282
    assert built.max_seq_length == 1280
    assert built[1].pooling_mode == "max"
    assert (built[2].in_features, built[2].out_features, type(built[2].activation_function)) == (32, 153, torch.nn.ReLU)
    assert built[3].dropout == 0.5

    built.save(str(tmp_path / "model"))
    lock = inspect_model(tmp_path / "model", "m", None)
    assert (lock.dimensions, lock.max_tokens, lock.normalized) == (153, 1280, False)
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert loaded.similarity_fn_name == "euclidean"  # what it is trained for, and evaluated by
    texts = [*TEXTS[:2], "fox " * 2000]
    assert np.array_equal(loaded.encode(texts), built.encode(texts))
    assert loaded.encode(texts).min() >= 0


def test_the_same_seed_and_text_give_the_same_model(tmp_path: Path) -> None:
    """A run that was killed builds it again, and goes on from a checkpoint of it."""
    one, other = build(tmp_path / "one"), build(tmp_path / "other")
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    for left, right in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_a_roberta_checkpoint_is_built_on_and_its_position_table_is_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """514 positions and 1,280 tokens would be an index error, or a dead GPU."""
    transformer = make_transformer(tmp_path / "checkpoint", "roberta", positions=66)
    built = build(tmp_path / "work", base=str(tmp_path / "checkpoint"))
    assert built.max_seq_length == 64
    assert "checkpoint is to take 1280 tokens, but its position table ends at 64" in caplog.text
    ours, theirs = built[0].auto_model.state_dict(), transformer.auto_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert built.encode(["fox " * 500]).shape == (1, 153)


def test_a_sentence_transformers_model_is_trained_further_as_it_is(tmp_path: Path) -> None:
    build(tmp_path / "work", dimensions=None, pooling="mean").save(str(tmp_path / "model"))
    again = build(tmp_path / "other", base=str(tmp_path / "model"))
    assert [type(module).__name__ for module in again] == ["Transformer", "Pooling", "Dropout"]


def test_a_base_that_says_more_tokens_than_it_has_positions_for_is_cut_where_they_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """1,280 beside a table of 514, as on the card: an index error in the first long text, or a dead GPU."""
    build(tmp_path / "work", max_tokens=64).save(str(tmp_path / "model"))
    edit_json(tmp_path / "model" / "sentence_bert_config.json", max_seq_length=1280)
    edit_json(tmp_path / "model" / "tokenizer_config.json", model_max_length=1280)
    again = build(tmp_path / "other", base=str(tmp_path / "model"))
    assert again.max_seq_length == 64
    assert "model is to take 1280 tokens, but its position table ends at 64" in caplog.text
    assert again.encode(["fox " * 500]).shape == (1, 153)


def test_a_base_in_half_precision_is_trained_in_float32(tmp_path: Path) -> None:
    """AdamW's steps are smaller than what float16 can tell apart."""
    built = build(tmp_path / "work")
    built.half().save(str(tmp_path / "model"))
    again = build(tmp_path / "other", base=str(tmp_path / "model"))
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_settings_that_a_base_decides_itself_are_refused(tmp_path: Path) -> None:
    """They'd be passed over without a word."""
    build(tmp_path / "work").save(str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"model\.dimensions is set, but .*model is a sentence-transformers model"):
        build(tmp_path / "other", base=str(tmp_path / "model"), dimensions=64)
    make_transformer(tmp_path / "checkpoint", "roberta", positions=66)
    with pytest.raises(ConfigError, match=r"model\.layers is set, but the checkpoint"):
        build(tmp_path / "another", base=str(tmp_path / "checkpoint"), layers=3)


def test_a_base_whose_files_do_not_fit_together_is_refused(tmp_path: Path) -> None:
    make_transformer(tmp_path / "checkpoint", "roberta", positions=66)
    edit_json(tmp_path / "checkpoint" / "config.json", hidden_size="many")
    with pytest.raises(ModelError, match="checkpoint: it can't be loaded: "):
        build(tmp_path / "work", base=str(tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"dimensions": None, "dropout": 0}, ["Transformer", "Pooling"]),
        ({"dropout": 0, "activation": "tanh"}, ["Transformer", "Pooling", "Dense"]),
    ],
)
def test_layers_can_be_left_out(tmp_path: Path, settings: dict[str, Any], kinds: list[str]) -> None:
    assert [type(module).__name__ for module in build(tmp_path / "work", **settings)] == kinds


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    make_transformer(tmp_path / "bert", "bert")
    with pytest.raises(ModelError, match="model_type is 'bert', expected 'roberta'"):
        build(tmp_path / "work", base=str(tmp_path / "bert"))


def test_a_checkpoint_that_is_not_there_or_has_no_plain_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        build(tmp_path / "work", base=str(tmp_path / "nowhere"))
    make_transformer(tmp_path / "old", "roberta")
    for weights in (tmp_path / "old").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="convert-model"):
        build(tmp_path / "work", base=str(tmp_path / "old"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    (file,) = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {f"of.another.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {name: tensor for name, tensor in weights.items() if "layer.1.output.dense" not in name},
        lambda weights: {name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in weights.items()},
    ],
    ids=["another model's", "some missing", "other sizes"],
)
@pytest.mark.parametrize("kind", ["checkpoint", "model"])
def test_a_base_whose_weights_are_not_the_architectures_is_refused(
    tmp_path: Path, kind: str, change: Callable[[Any], Any]
) -> None:
    """transformers fills the gaps with random numbers, and the card says it was begun with that base."""
    base = tmp_path / kind
    transformer = make_transformer(base, "roberta")
    if kind == "model":
        SentenceTransformer(modules=[transformer, Pooling(HIDDEN, "mean")], device="cpu").save(str(base))
    change_weights(base, change)
    with pytest.raises(ModelError, match=r"weights of a RobertaModel are not in its files, as |it can't be loaded"):
        build(tmp_path / "work", base=str(base))


def test_a_base_without_the_pooler_that_nothing_uses_is_taken(tmp_path: Path) -> None:
    """Checkpoints that were trained to guess words have none, and their names begin with the model's."""
    make_transformer(tmp_path / "base", "roberta")
    change_weights(
        tmp_path / "base",
        lambda weights: {f"roberta.{name}": one for name, one in weights.items() if not name.startswith("pooler")},
    )
    assert build(tmp_path / "work", base=str(tmp_path / "base")).encode(["fox"]).shape == (1, 153)


def test_a_base_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers makes one that knows no text, and all texts are one to the model."""
    make_transformer(tmp_path / "base", "roberta")
    (tmp_path / "base" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer; expected tokenizer\.json or vocab\.json and merges\.txt"):
        build(tmp_path / "work", base=str(tmp_path / "base"))
    build(tmp_path / "other").save(str(tmp_path / "model"))
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="its tokenizer knows no text"):
        build(tmp_path / "again", base=str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("pad", "grown", "said"),
    [
        (1, 7, r"ids up to 406, but the model has rows for 400 tokens"),
        (0, 0, r"pads with id 1, but the model expects 0"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, pad: int, grown: int, said: str) -> None:
    """An index error, or a dead GPU, in the first text with such a token; or texts that differ by what they are batched with."""
    transformer = make_transformer(tmp_path / "base", "roberta")
    tokenizer = transformer.tokenizer
    tokenizer.add_tokens([f"<more {n}>" for n in range(grown)])
    tokenizer.save_pretrained(tmp_path / "base")
    edit_json(tmp_path / "base" / "config.json", pad_token_id=pad)
    with pytest.raises(ModelError, match=said):
        build(tmp_path / "work", base=str(tmp_path / "base"))
