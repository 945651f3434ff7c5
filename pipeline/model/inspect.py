"""A model directory → its `ModelLock`, or the reason it is refused. Reads JSON and hashes files; nothing is executed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.model.code import refuse_code
from pipeline.model.lock import ModelLock, ModuleLock
from pipeline.model.modules import read_modules, read_object, read_routes, transformer_settings
from pipeline.model.weights import position_table, refuse_pointer

LOADED_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".jinja")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
                   "added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")  # fmt: skip
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
OFFSET_POSITIONS = frozenset({
    "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer",
    "data2vec-text", "ibert", "xmod", "luke", "lilt", "esm", "markuplm", "layoutlmv3",
})  # fmt: skip
"""Their position table begins after the padding index, so it addresses that many tokens fewer."""
TWO_MORE_POSITIONS = frozenset({"bart", "mbart", "plbart", "opt"})
"""Their position table has two rows in front that no token uses."""

PLAIN_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
UNKNOWN_SETTINGS = ("processing_kwargs", "query_length", "document_length", "query_expansion")
POOLING_MODES = frozenset({"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"})
POOLING_FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")

NEED_SETTINGS = frozenset({"Pooling", "Dense", "LayerNorm"})
"""Modules that can't be made without their config.json. Of others a copy may lack even the folder, empty as it was."""

OTHER_WIDTH = frozenset({"opt", "reformer", "perceiver"})
"""Their last hidden state may have another width than hidden_size."""


def inspect_model(directory: Path, name: str, revision: str | None) -> ModelLock:
    """Describe the model in `directory` by content.

    Raises ModelError for a directory that isn't a sentence-transformers model, holds weights only in formats that can
    carry code, asks for code of its own, or has modules or settings whose vectors this program doesn't reproduce, or that
    don't belong together.
    """
    try:
        return _inspect(directory, name, revision)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(
            f"{directory}: a setting of the model is of another kind than expected ({error}); fetch the model again"
        ) from error


def _inspect(directory: Path, name: str, revision: str | None) -> ModelLock:
    settings = read_object(directory / "config_sentence_transformers.json")
    if settings.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise ModelError(f"{directory} is a {settings['model_type']}, which doesn't give one vector for one text")
    modules = read_modules(directory)
    routes = read_routes(directory, modules)
    refuse_code(directory)
    for chain in routes.values():
        _refuse_chain(directory, chain)
    files = hash_files(directory)
    facts = {route: _facts(directory, chain, files) for route, chain in routes.items()}
    first = next(iter(facts.values()))
    for route, other in facts.items():
        if different := [fact for fact, value in other.items() if value != first[fact]]:
            raise ModelError(
                f"{directory}: the route {route!r} has another {' and '.join(different)} than the Router's first one; save the "
                "route you need as a model of its own"
            )
    declared, addressable = first["length limit"]
    prompts = {key: text for key, text in (settings.get("prompts") or {}).items() if isinstance(text, str)}
    return ModelLock(
        name=name,
        revision=revision,
        files=files,
        modules=modules,
        dimensions=first["vector length"],
        max_tokens=min(limit for limit in (declared, addressable, 1 << 20) if limit is not None),
        declared_max_tokens=declared if declared and addressable and declared > addressable else None,
        normalized=first["normalisation"],
        prompts=tuple(sorted(prompts.items())),
        default_prompt_name=settings.get("default_prompt_name"),
        include_prompt=first["way with prompts"],
        tasks=tuple(sorted(route for route in routes if route is not None)),
        weights_hash=_digest([pair for pair in files if pair[0].endswith(".safetensors")]),
        tokenizer_hash=_digest([pair for pair in files if pair[0].rpartition("/")[2] in TOKENIZER_FILES]),
    )


def hash_files(directory: Path) -> tuple[tuple[str, str], ...]:
    """(path below the directory, sha256) of every file that is loaded, sorted."""
    found = []
    for path in directory.rglob("*"):
        place = path.relative_to(directory)
        if path.suffix in LOADED_SUFFIXES and path.is_file() and not {"onnx", "openvino"} & set(place.parts):
            refuse_pointer(path)
            with path.open("rb") as file:
                found.append((place.as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(sorted(found))


def _facts(directory: Path, chain: Sequence[ModuleLock], files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What all routes of a model must agree on."""
    backbone = directory / chain[0].path
    config = read_object(backbone / "config.json", required=True)
    pooling = [read_object(directory / module.path / "config.json") for module in chain if module.type == "Pooling"]
    return {
        "vector length": _dimensions(directory, chain, config),
        "length limit": _limits(backbone, config),
        "tokenizer": [
            transformer_settings(backbone).get("do_lower_case"),
            *(pair for pair in _directly_in(chain[0].path, files) if pair[0] in TOKENIZER_FILES),
        ],
        "normalisation": _is_normalized(directory, chain),
        "way with prompts": all(settings.get("include_prompt", True) for settings in pooling),
    }


def _refuse_chain(directory: Path, chain: Sequence[ModuleLock]) -> None:
    if chain[0].type != "Transformer" or "Pooling" not in [module.type for module in chain]:
        raise ModelError(f"{directory}: the modules are no Transformer with a Pooling behind it, but {_types(chain)}")
    backbone = directory / chain[0].path
    if (backbone / "adapter_config.json").exists():
        raise ModelError(f"{backbone} holds an adapter to another model; merge the two and save the result")
    settings = transformer_settings(backbone)
    modalities = settings.get("modality_config") or {"text": PLAIN_TEXT}
    if (
        settings.get("transformer_task", "feature-extraction") != "feature-extraction"
        or modalities.get("text") != PLAIN_TEXT
        or "message" in modalities
        or settings.get("module_output_name", "token_embeddings") != "token_embeddings"
    ):
        raise ModelError(
            f"{backbone}: this Transformer takes vectors from elsewhere than the last hidden state of a plain text"
        )
    for key in UNKNOWN_SETTINGS:
        if settings.get(key):
            raise ModelError(
                f"{backbone}: the Transformer has the setting {key!r}, which this program doesn't reproduce"
            )
    for module in chain:
        _refuse_unsafe_weights(directory, module)


def _refuse_unsafe_weights(directory: Path, module: ModuleLock) -> None:
    folder = directory / module.path
    pattern = {"Transformer": "*.safetensors", "Dense": "model.safetensors", "LayerNorm": "model.safetensors"}.get(
        module.type
    )
    if pattern is None or any(folder.glob(pattern)):
        return
    unsafe = sorted(path.name for path in folder.glob("*") if path.suffix in UNSAFE_SUFFIXES)
    raise ModelError(
        f"{folder} holds no weights as safetensors{f', but {unsafe[0]}' if unsafe else ''}. Other formats can carry code and are "
        "not loaded; make a safe copy of the model's directory with `embedpipe convert-model DIRECTORY NEW_DIRECTORY`"
    )


def _limits(backbone: Path, config: dict[str, Any]) -> tuple[int | None, int | None]:
    """What the model says is its longest text in tokens, and what its table of positions can address."""
    settings = transformer_settings(backbone)
    processor = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    declared = settings.get("max_seq_length") or processor.get("model_max_length")
    if declared is None:  # only then sentence-transformers looks at what the backbone says
        tokenizer = read_object(backbone / "tokenizer_config.json").get("model_max_length")
        said = [limit for limit in (tokenizer, config.get("max_position_embeddings")) if limit and limit > 0]
        declared = min(said, default=None)
    addressable = position_table(backbone)
    if addressable is not None and config.get("model_type") in OFFSET_POSITIONS:
        pad = config.get("pad_token_id")
        addressable -= (1 if pad is None else int(pad)) + 1
    elif addressable is not None and config.get("model_type") in TWO_MORE_POSITIONS:
        addressable -= 2
    return (int(declared) if declared and declared < 1 << 30 else None), addressable


def _dimensions(directory: Path, chain: Sequence[ModuleLock], config: dict[str, Any]) -> int:
    """How long the model's vectors are. Raises ModelError where a module takes others than the one before it gives."""
    size = next((int(config[key]) for key in ("hidden_size", "d_model", "dim", "n_embd") if key in config), 0)
    known = size > 0 and config.get("model_type") not in OTHER_WIDTH
    for module in chain:
        if module.type not in NEED_SETTINGS:
            continue
        file = directory / module.path / "config.json"
        settings = read_object(file, required=True)
        taken, given = _lengths(module.type, settings, file)
        if taken <= 0 or given <= 0:
            raise ModelError(f"{file} does not say how long the vectors are that this {module.type} takes and gives")
        if known and taken != size:
            raise ModelError(
                f"{file}: this {module.type} takes vectors of {taken} dimensions, and those before it are of {size}; the "
                "model's files don't belong together, fetch it again"
            )
        size, known = given, True
    return size


def _lengths(kind: str, settings: dict[str, Any], file: Path) -> tuple[int, int]:
    """Dimensions of the vectors that a module takes, and of those it gives; 0 where it doesn't say."""
    if kind == "Dense":
        return int(settings.get("in_features") or 0), int(settings.get("out_features") or 0)
    if kind == "LayerNorm":
        return (size := int(settings.get("dimension") or 0)), size
    size = int(settings.get("embedding_dimension") or settings.get("word_embedding_dimension") or 0)
    return size, size * _pooling_modes(settings, file)


def _pooling_modes(settings: dict[str, Any], file: Path) -> int:
    """How many poolings are joined: from today's `pooling_mode`, or from the flags of older cards."""
    if "pooling_mode" not in settings:
        return max(1, sum(bool(settings.get(f"pooling_mode_{flag}")) for flag in POOLING_FLAGS))
    mode = settings["pooling_mode"]
    modes = mode if isinstance(mode, list) else [mode]
    if not modes or not all(isinstance(mode, str) and mode in POOLING_MODES for mode in modes):
        raise ModelError(
            f"{file}: pooling_mode is {mode!r}; known are {', '.join(sorted(POOLING_MODES))}, one of them or a list. Mend it, "
            "or fetch the model again"
        )
    return len(modes)


def _is_normalized(directory: Path, chain: Sequence[ModuleLock]) -> bool:
    """Whether the chain ends in unit vectors. A Normalize can also be meant for the tokens before they are pooled."""
    last = [module for module in chain if module.type != "Dropout"][-1]
    settings = read_object(directory / last.path / "config.json") if last.type == "Normalize" else {}
    given = settings.get("module_input_name", "sentence_embedding")
    made = settings.get("module_output_name") or given
    return last.type == "Normalize" and given == made == "sentence_embedding"


def _directly_in(folder: str, files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    paths = [(Path(name), sha256) for name, sha256 in files]
    return [(path.name, sha256) for path, sha256 in paths if path.parent == Path(folder)]


def _types(chain: Sequence[ModuleLock]) -> str:
    return " → ".join(module.type for module in chain)


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in pairs).encode()).hexdigest()
