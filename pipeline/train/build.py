"""The model to begin with: RoBERTa → pooling → Dense → Dropout, as sentence-transformers' own modules."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, Pooling, Transformer
from sentence_transformers.util import SimilarityFunction
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from pipeline.config.training import Architecture
from pipeline.errors import ConfigError, ModelError, first_line
from pipeline.model.inspect import inspect_model
from pipeline.model.modules import read_json

if TYPE_CHECKING:
    from torch import nn

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In RoBERTa's order: the padding's id is 1, and so the first position is 2."""

FULL_PRECISION = {"dtype": torch.float32, "use_safetensors": True}
"""A base that was saved in half precision is trained in float32: small steps would be lost."""

POSITIONS_BEFORE = 2
"""Rows of the position table that no token uses."""


def build_model(
    wanted: Architecture, texts: Iterable[str], workplace: Path, *, similarity: str, device: str, seed: int
) -> Any:
    """A SentenceTransformer in training mode. `texts`: what a tokenizer learns from, where there is no `base`. `workplace`: an
    empty folder for the transformer's own files. `similarity`: what the vectors of a new model are compared by.

    Raises ModelError for a base of another architecture, one that can't be loaded, or with code of its own; ConfigError for
    settings that a base decides itself.
    """
    torch.manual_seed(seed)
    if wanted.base is not None and Path(wanted.base, "modules.json").exists():
        return _trained_further(wanted, device)
    if wanted.base is not None:
        _check_checkpoint(Path(wanted.base))
        _refuse_sizes(wanted)
        folder = Path(wanted.base)
    else:
        folder = workplace
        _save_roberta(wanted, texts, folder)
    with _loading(folder):
        transformer = Transformer(str(folder), model_kwargs=FULL_PRECISION)
    limit = transformer.auto_model.config.max_position_embeddings - POSITIONS_BEFORE
    transformer.max_seq_length = min(wanted.max_tokens, limit)
    size = transformer.get_embedding_dimension()
    modules: list[nn.Module] = [transformer, Pooling(size, wanted.pooling)]
    if wanted.dimensions is not None:
        modules.append(Dense(size, wanted.dimensions, activation_function=_activation(wanted.activation)))
    if wanted.dropout:
        modules.append(Dropout(wanted.dropout))
    return SentenceTransformer(modules=modules, device=device, similarity_fn_name=SimilarityFunction(similarity))


def _trained_further(wanted: Architecture, device: str) -> Any:
    ignored = sorted(wanted.model_fields_set - {"base"})
    if ignored:
        raise ConfigError(
            f"model.{ignored[0]} is set, but {wanted.base} is a sentence-transformers model, which is trained further as it is; "
            "leave it out, or give the RoBERTa checkpoint alone"
        )
    lock = inspect_model(Path(str(wanted.base)), str(wanted.base), None)  # refuses what runs code
    with _loading(Path(str(wanted.base))):
        model = SentenceTransformer(str(wanted.base), device=device, local_files_only=True, model_kwargs=FULL_PRECISION)
    model.max_seq_length = lock.max_tokens  # it may say more than its position table has
    return model


@contextmanager
def _loading(base: Path) -> Iterator[None]:
    """What libraries raise over files that don't fit together leaves this block as an error of the tree."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many types, some of them no library's public ones
        raise ModelError(f"{base}: it can't be loaded: {first_line(error, named=True)}") from error


def _check_checkpoint(base: Path) -> None:
    if not base.is_dir():
        raise ModelError(
            f"{base}: no such directory; name one with a RoBERTa checkpoint or a sentence-transformers model"
        )
    config = read_json(base / "config.json", {})
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "roberta":
        raise ModelError(
            f"{base}: the checkpoint's model_type is {kind!r}, expected 'roberta'; to train another architecture further, give "
            "a sentence-transformers model (with modules.json)"
        )
    if not any(base.glob("*.safetensors")):
        raise ModelError(f"{base}: no *.safetensors; convert .bin weights with `embedpipe convert-model SRC DST` first")


def _refuse_sizes(wanted: Architecture) -> None:
    decided = ("hidden_size", "layers", "heads", "intermediate_size", "vocabulary")
    ignored = [name for name in decided if name in wanted.model_fields_set]
    if ignored:
        raise ConfigError(
            f"model.{ignored[0]} is set, but the checkpoint {wanted.base} has sizes of its own; leave it out"
        )


def _save_roberta(wanted: Architecture, texts: Iterable[str], folder: Path) -> None:
    vocabulary, merges = _learn_pieces(texts, wanted.vocabulary)
    tokenizer = RobertaTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # pairs, whatever the signature says
        model_max_length=wanted.max_tokens,
    )
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=wanted.hidden_size,
        num_hidden_layers=wanted.layers,
        num_attention_heads=wanted.heads,
        intermediate_size=wanted.intermediate_size,
        max_position_embeddings=wanted.max_tokens + POSITIONS_BEFORE,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    RobertaModel(config).save_pretrained(folder)  # with its pooler, unused here, as every checkpoint has it
    tokenizer.save_pretrained(folder)


def _learn_pieces(texts: Iterable[str], most: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    return learnt["vocab"], [(left, right) for left, right in learnt["merges"]]


def _activation(name: str) -> "nn.Module":
    activation: nn.Module = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "identity": torch.nn.Identity}[name]()
    return activation
