"""What in a model directory could make a library run code that isn't its own, or read what is not in the directory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.model.modules import TRANSFORMER_SETTINGS, read_object

CODE_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
CODE_KEYS = ("auto_map", "_attn_implementation_internal", "_experts_implementation_internal", "custom_pipelines")
KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""A value with a slash in it is a repository of compiled code on the hub."""

ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
"""Where a Transformer's settings keep what sentence-transformers passes on to transformers."""

OUTSIDE_ARGUMENTS = frozenset({
    "trust_remote_code", "code_revision", "revision", "subfolder", "cache_dir", "gguf_file", "adapter_kwargs", "token",
    "quantization_config", "proxies", "vocab_file", "merges_file", "tokenizer_file", "config", "pretrained_model_name_or_path",
})  # fmt: skip


def refuse_code(directory: Path) -> None:
    """Raises ModelError for a model that asks for code from outside, or has parts outside its directory."""
    for path in (path for name in CODE_FILES for path in directory.rglob(name)):
        for key, value in _entries(read_object(path)):
            if (key in CODE_KEYS and value) or _is_repository(key, value):
                raise ModelError(f"{path}: {key!r} asks for code from outside; such models are not loaded")
    for path in (path for name in TRANSFORMER_SETTINGS for path in directory.rglob(name)):
        _refuse_arguments(path, read_object(path))
    for path in directory.rglob("*.index.json"):
        _refuse_shards(path, read_object(path).get("weight_map"))
    for link in (path for path in directory.rglob("*") if path.is_symlink()):
        if _escapes(link, directory):
            raise ModelError(f"{link} is a link to a place outside the model directory; copy the file itself")
        if link.is_dir():  # which nothing here looks into, and the libraries do
            raise ModelError(
                f"{link} is a link to a folder, whose files are neither hashed nor looked at; copy the folder itself"
            )


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values at any depth: a model may hold other models' configs."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _is_repository(key: str, value: Any) -> bool:
    """A kernel by its repository, for the whole model or, in an object, for a part of it."""
    named = value.values() if isinstance(value, dict) else [value]
    return key in KERNEL_KEYS and any(isinstance(name, str) and "/" in name for name in named)


def _refuse_arguments(path: Path, settings: dict[str, Any]) -> None:
    for name in ARGUMENTS:
        arguments = settings.get(name)
        for key, value in arguments.items() if isinstance(arguments, dict) else ():
            if (key in OUTSIDE_ARGUMENTS and value) or _is_repository(key, value):
                raise ModelError(
                    f"{path}: {name} sets {key!r}, which leads to code or files outside the model; such models are not loaded"
                )


def _refuse_shards(path: Path, weights: Any) -> None:
    """Weights are hashed by what lies in the directory; a name that leads elsewhere would be read unseen."""
    for name in set(map(str, weights.values())) if isinstance(weights, dict) else ():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"{path}: the weights in {name!r} lie outside the model directory")


def _escapes(link: Path, directory: Path) -> bool:
    """Whether a link leads out of the directory; the hub cache's own layout (snapshots/… → blobs/…) is fine."""
    top = Path(os.path.realpath(directory))
    homes = [top, *([top.parent.parent / "blobs"] if top.parent.name == "snapshots" else [])]
    return not any(Path(os.path.realpath(link)).is_relative_to(home) for home in homes)
