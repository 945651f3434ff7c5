"""The model to begin with: RoBERTa → pooling → Dense → Dropout, as sentence-transformers' own modules."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, Pooling, Transformer
from sentence_transformers.util import SimilarityFunction
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, RobertaConfig, RobertaModel, RobertaTokenizer

from pipeline.config.training import Architecture
from pipeline.errors import ConfigError, ModelError, first_line
from pipeline.model.inspect import inspect_model
from pipeline.model.modules import read_json, read_modules, read_routes
from pipeline.storage.uri import local_path
from pipeline.train.files import writing

if TYPE_CHECKING:
    from torch import nn

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In RoBERTa's order: the padding's id is 1, and so the first position is 2."""

FULL_PRECISION = {"dtype": torch.float32, "use_safetensors": True}
"""A base that was saved in half precision is trained in float32: small steps would be lost."""

POSITIONS_BEFORE = 2
"""Rows of the position table that no token uses."""

TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files that RoBERTa's tokenizer can be made from. Without them transformers makes one that knows no text."""

UNUSED = "pooler."
"""Weights that no vector comes from; many checkpoints have none."""

log = logging.getLogger(__name__)


def build_model(
    wanted: Architecture, texts: Iterable[str], workplace: Path, *, similarity: str, device: str, seed: int
) -> Any:
    """A SentenceTransformer in training mode. `texts`: what a tokenizer learns from, where there is no `base`. `workplace`: an
    empty folder for the transformer's own files. `similarity`: what the vectors of a new model are compared by.

    Raises ModelError for a base of another architecture, one whose files are incomplete or don't belong together, or with code
    of its own; ConfigError for settings that a base decides itself.
    """
    torch.manual_seed(seed)
    base = None if wanted.base is None else local_path(wanted.base)
    if base is not None and (base / "modules.json").exists():
        return _trained_further(wanted, base, device)
    if base is None:
        _save_roberta(wanted, texts, workplace)
    else:
        _check_checkpoint(base)
        _refuse_sizes(wanted)
    folder = base or workplace
    with _loading(folder):
        transformer = Transformer(str(folder), model_kwargs=FULL_PRECISION)
    if base is not None:
        _check_weights(transformer, [base])
        _check_tokenizers(transformer, base)
        _check_padding(transformer, base)
    config = transformer.auto_model.config
    limit = config.max_position_embeddings - config.pad_token_id - 1
    if wanted.max_tokens > limit:
        _tell_clamped(folder, wanted.max_tokens, limit)
    transformer.max_seq_length = min(wanted.max_tokens, limit)
    size = transformer.get_embedding_dimension()
    modules: list[nn.Module] = [transformer, Pooling(size, wanted.pooling)]
    if wanted.dimensions is not None:
        modules.append(Dense(size, wanted.dimensions, activation_function=_activation(wanted.activation)))
    if wanted.dropout:
        modules.append(Dropout(wanted.dropout))
    return SentenceTransformer(modules=modules, device=device, similarity_fn_name=SimilarityFunction(similarity))


def _trained_further(wanted: Architecture, base: Path, device: str) -> Any:
    ignored = sorted(wanted.model_fields_set - {"base"})
    if ignored:
        raise ConfigError(
            f"model.{ignored[0]} is set, but {base} is a sentence-transformers model, which is trained further as it is; "
            "leave it out, or give the RoBERTa checkpoint alone"
        )
    lock = inspect_model(base, str(base), None)  # refuses what runs code
    with _loading(base):
        model = SentenceTransformer(str(base), device=device, local_files_only=True, model_kwargs=FULL_PRECISION)
    chains = read_routes(base, read_modules(base)).values()
    _check_weights(model, [base / path for path in dict.fromkeys(chain[0].path for chain in chains)])
    _check_tokenizers(model, base)
    if lock.declared_max_tokens:
        _tell_clamped(base, lock.declared_max_tokens, lock.max_tokens)
    model.max_seq_length = lock.max_tokens
    return model


def _check_weights(model: "nn.Module", backbones: Iterable[Path]) -> None:
    """Raises ModelError where the files lack a weight: transformers puts random numbers in its place, and goes on."""
    loaded = [module.auto_model for module in model.modules() if isinstance(module, Transformer)]
    by_kind = {one.config.model_type: one for one in loaded}
    for folder in backbones:
        with _loading(folder):
            one = by_kind[AutoConfig.from_pretrained(folder, local_files_only=True).model_type]
            _, info = type(one).from_pretrained(
                folder, config=one.config, local_files_only=True, output_loading_info=True, **FULL_PRECISION
            )
        missing = sorted(name for name in info["missing_keys"] if not name.startswith(UNUSED))
        if missing:
            raise ModelError(
                f"{folder}: {len(missing):,} weights of a {type(one).__name__} are not in its files, as {missing[0]}: those are "
                "another model's, or incomplete; fetch it again"
            )


def _check_tokenizers(model: "nn.Module", base: Path) -> None:
    """Raises ModelError for one that transformers made up, its files missing, or that gives ids the model has no rows for."""
    for module in model.modules():
        if not isinstance(module, Transformer):
            continue
        tokenizer: Any = module.tokenizer
        ids = tokenizer.get_vocab().values()
        if len(ids) <= len(tokenizer.all_special_tokens):
            raise ModelError(f"{base}: its tokenizer knows no text; are its files missing? Fetch the base again")
        rows = module.auto_model.get_input_embeddings().num_embeddings
        if max(ids) >= rows:
            raise ModelError(
                f"{base}: its tokenizer gives ids up to {max(ids):,}, but the model has rows for {rows:,} tokens; the files "
                "don't belong together, fetch it again"
            )


def _check_padding(transformer: Transformer, base: Path) -> None:
    """Raises ModelError where tokens would be counted from another place than the padding."""
    tokenizer: Any = transformer.tokenizer
    expected = transformer.auto_model.config.pad_token_id
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id != expected:
        raise ModelError(
            f"{base}: its tokenizer pads with id {tokenizer.pad_token_id}, but the model expects {expected}; the files don't "
            "belong together, fetch it again"
        )


def _tell_clamped(base: Path, said: int, limit: int) -> None:
    log.warning(
        "%s is to take %d tokens, but its position table ends at %d: longer texts are cut there", base, said, limit
    )


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
    if not any(all((base / name).is_file() for name in files) for files in TOKENIZERS):
        raise ModelError(
            f"{base}: no tokenizer; expected {' or '.join(' and '.join(files) for files in TOKENIZERS)} beside the weights"
        )


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
    model = RobertaModel(config)
    with writing(folder):
        model.save_pretrained(folder)  # with its pooler, unused here, as every checkpoint has it
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
