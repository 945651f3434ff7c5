"""A model directory → its `ModelLock`, or the reason it is refused. Reads JSON and hashes files; nothing is executed."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.model.lock import ModelLock, ModuleLock

ALLOWED = frozenset({"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "Router"})
"""Modules whose code is sentence-transformers' own and whose vectors this program reproduces."""

LOADED_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".jinja")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
                   "added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")  # fmt: skip
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer"})
"""Their position table begins after the padding index, so it addresses that many tokens fewer."""

POOLING_FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def inspect_model(directory: Path, name: str, revision: str | None) -> ModelLock:
    """Describe the model in `directory` by content.

    Raises ModelError for a directory that isn't a sentence-transformers model, holds weights only in formats that can
    carry code, asks for code of its own, or has modules outside the allow-list.
    """
    modules = _modules(directory)
    tasks = _routes(directory) if modules[0].type == "Router" else ()
    chain = _chain(directory, modules, tasks)
    backbone = directory / chain[0].path
    config = _json(backbone / "config.json")
    _refuse_code(directory)
    _refuse_unsafe_weights(directory, chain)
    declared, addressable = _limits(backbone, config)
    files = _hash_files(directory)
    settings = _json(directory / "config_sentence_transformers.json", {})
    prompts = {key: text for key, text in (settings.get("prompts") or {}).items() if isinstance(text, str)}
    pooling = [_json(directory / module.path / "config.json", {}) for module in chain if module.type == "Pooling"]
    return ModelLock(
        name=name,
        revision=revision,
        files=files,
        modules=tuple(modules),
        dimensions=_dimensions(directory, chain, config),
        max_tokens=min(limit for limit in (declared, addressable, 1 << 20) if limit is not None),
        declared_max_tokens=declared if declared and addressable and declared > addressable else None,
        normalized=[module.type for module in chain if module.type != "Dropout"][-1] == "Normalize",
        prompts=tuple(sorted(prompts.items())),
        default_prompt_name=settings.get("default_prompt_name"),
        include_prompt=all(settings.get("include_prompt", True) for settings in pooling),
        tasks=tasks,
        weights_hash=_digest([pair for pair in files if pair[0].endswith(".safetensors")]),
        tokenizer_hash=_digest([pair for pair in files if pair[0].rpartition("/")[2] in TOKENIZER_FILES]),
    )


def hash_file(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _modules(directory: Path) -> list[ModuleLock]:
    listing = _json(directory / "modules.json")
    if not isinstance(listing, list) or not listing:
        raise ModelError(f"{directory}/modules.json lists no modules; this is not a sentence-transformers model")
    return [
        ModuleLock(str(module.get("path", "")), _module_type(directory, str(module.get("type")))) for module in listing
    ]


def _module_type(directory: Path, dotted: str) -> str:
    """The short name of a module class. Old cards say `sentence_transformers.models.X`, new ones name other packages."""
    package, _, short = dotted.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or short not in ALLOWED:
        raise ModelError(
            f"{directory}: module {dotted!r} is not one this program can vouch for; allowed are "
            f"{', '.join(sorted(ALLOWED))} of sentence-transformers. Code that comes with a model is never run"
        )
    return short


def _routes(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(_json(directory / "router_config.json").get("structure", {})))


def _chain(directory: Path, modules: Sequence[ModuleLock], tasks: Sequence[str]) -> list[ModuleLock]:
    """The modules a text passes; with a Router those of its first route, followed by what comes after the Router."""
    if not tasks:
        return list(modules)
    router = _json(directory / "router_config.json")
    routed = [ModuleLock(path, _module_type(directory, str(kind))) for path, kind in router.get("types", {}).items()]
    first = [module for path in router["structure"][tasks[0]] for module in routed if module.path == path]
    return [*first, *modules[1:]]


def _refuse_code(directory: Path) -> None:
    for path in directory.rglob("*.json"):
        if path.name not in ("config.json", "tokenizer_config.json"):
            continue
        settings = _json(path, {})
        for key in ("auto_map", "_attn_implementation_internal", "custom_pipelines"):
            if isinstance(settings, dict) and settings.get(key):
                raise ModelError(f"{path}: {key!r} asks for code from outside; such models are not loaded")
    if not directory.is_symlink() and (escape := _escaping_link(directory)):
        raise ModelError(f"{escape} is a link to a place outside the model directory; copy the file itself")


def _escaping_link(directory: Path) -> Path | None:
    """A link out of the directory; the hub cache's own layout (snapshots/… → blobs/…) is fine."""
    top = directory.resolve()
    blobs = top.parent.parent / "blobs"
    for path in directory.rglob("*"):
        target = path.resolve()
        if path.is_symlink() and not target.is_relative_to(top) and not target.is_relative_to(blobs):
            return path
    return None


def _refuse_unsafe_weights(directory: Path, chain: Sequence[ModuleLock]) -> None:
    for module in chain:
        folder = directory / module.path
        if module.type not in ("Transformer", "Dense", "LayerNorm") or any(folder.glob("*.safetensors")):
            continue
        unsafe = (
            sorted(path.name for path in folder.iterdir() if path.suffix in UNSAFE_SUFFIXES) if folder.is_dir() else []
        )
        if unsafe:
            raise ModelError(
                f"{folder}/{unsafe[0]}: weights in this format can carry code and are not loaded; make a safe copy with "
                f"`embedpipe convert-model {directory} NEW_DIRECTORY`"
            )
        raise ModelError(f"{folder} holds no weights (model.safetensors)")


def _limits(backbone: Path, config: dict[str, Any]) -> tuple[int | None, int | None]:
    """What the model says is its longest text in tokens, and what its position table can address."""
    declared = None
    for name in ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
                 "sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
                 "sentence_xlnet_config.json"):  # fmt: skip
        declared = declared or _json(backbone / name, {}).get("max_seq_length")
    declared = declared or _json(backbone / "tokenizer_config.json", {}).get("model_max_length")
    table = config.get("max_position_embeddings", config.get("n_positions"))
    addressable = int(table) if isinstance(table, int) and table > 0 else None
    if addressable is not None and config.get("model_type") in OFFSET_POSITIONS:
        addressable -= int(config.get("pad_token_id") or 1) + 1
    return (int(declared) if declared and declared < 1 << 30 else None), addressable


def _dimensions(directory: Path, chain: Sequence[ModuleLock], config: dict[str, Any]) -> int:
    size = next((int(config[key]) for key in ("hidden_size", "d_model", "dim", "n_embd") if key in config), 0)
    for module in chain:
        settings = _json(directory / module.path / "config.json", {})
        if module.type == "Pooling":
            size *= _pooling_modes(settings)
        elif module.type == "Dense":
            size = int(settings["out_features"])
    if size <= 0:
        raise ModelError(f"{directory}/config.json does not say how long the model's vectors are (hidden_size)")
    return size


def _pooling_modes(settings: dict[str, Any]) -> int:
    """How many poolings are joined: from today's `pooling_mode`, or from the flags of older cards."""
    mode = settings.get("pooling_mode")
    if mode is not None:
        return len(mode) if isinstance(mode, list | tuple) else len(str(mode).split("+"))
    return max(1, sum(bool(settings.get(f"pooling_mode_{flag}")) for flag in POOLING_FLAGS))


def _hash_files(directory: Path) -> tuple[tuple[str, str], ...]:
    found = [
        path
        for path in directory.rglob("*")
        if path.is_file()
        and path.suffix in LOADED_SUFFIXES
        and not {"onnx", "openvino"} & set(path.relative_to(directory).parts)
    ]
    return tuple(sorted((path.relative_to(directory).as_posix(), hash_file(path)) for path in found))


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in pairs).encode()).hexdigest()


def _json(path: Path, default: Any = None) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not None:
            return default
        raise ModelError(f"{path} is missing; this is not a complete sentence-transformers model") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON: {error}") from error
