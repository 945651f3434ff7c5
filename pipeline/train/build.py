"""The model to begin with: RoBERTa → pooling → Dense → Dropout, as sentence-transformers' own modules."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from pipeline.config.training import Architecture
from pipeline.errors import ModelError
from pipeline.model.inspect import inspect_model
from pipeline.model.modules import read_json

if TYPE_CHECKING:
    from torch import nn

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In RoBERTa's order: the padding's id is 1, and so the first position is 2."""

POSITIONS_BEFORE = 2
"""Rows of the position table that no token uses."""


def build_model(wanted: Architecture, texts: Iterable[str], workplace: Path, *, device: str, seed: int) -> Any:
    """A SentenceTransformer in training mode. `texts`: what a tokenizer learns from, where there is no `base`. `workplace`: an
    empty folder for the transformer's own files.

    Raises ModelError for a base of another architecture, or one with code of its own.
    """
    torch.manual_seed(seed)
    if wanted.base is not None and Path(wanted.base, "modules.json").exists():
        return _trained_further(wanted, device)
    if wanted.base is not None:
        _check_checkpoint(Path(wanted.base))
        folder = Path(wanted.base)
    else:
        folder = workplace
        _save_roberta(wanted, texts, folder)
    transformer = Transformer(str(folder))
    limit = transformer.auto_model.config.max_position_embeddings - POSITIONS_BEFORE
    transformer.max_seq_length = min(wanted.max_tokens, limit)
    size = transformer.get_embedding_dimension()
    modules: list[nn.Module] = [transformer, Pooling(size, wanted.pooling)]
    if wanted.dimensions is not None:
        modules.append(Dense(size, wanted.dimensions, activation_function=_activation(wanted.activation)))
    if wanted.dropout:
        modules.append(Dropout(wanted.dropout))
    return SentenceTransformer(modules=modules, device=device)


def _trained_further(wanted: Architecture, device: str) -> Any:
    inspect_model(Path(str(wanted.base)), str(wanted.base), None)  # refuses what runs code
    return SentenceTransformer(str(wanted.base), device=device, local_files_only=True)


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
