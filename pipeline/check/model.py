"""The model of a snapshot, found by its recorded name and run by plain sentence-transformers."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.check.ledger import Ledger


def find_model(ledger: Ledger, model: str | None) -> Path | None:
    """Directory of the model: the one given, or what the log's facts name, when it is on this machine."""
    name = model or str(ledger.entry["facts"].get("model", ""))
    if name.startswith("package:"):
        return _in_package(name.removeprefix("package:").replace("-", "_"))
    with suppress(OSError):  # a name longer than a path may be
        if name and Path(name, "modules.json").is_file():
            return Path(name)
    revision = ledger.entry["facts"].get("revision")
    return _from_hub_cache(name, None if revision is None else str(revision))


def _in_package(module: str) -> Path | None:
    """The first model directory inside an installed package, whose code is not run: the name comes with the output."""
    try:  # `a.b` would be looked for by running a
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
    except ValueError:  # a module that was loaded without one, as the program itself
        return None
    folders = spec.submodule_search_locations if spec else None
    found = sorted(path.parent for folder in folders or () for path in Path(folder).rglob("modules.json"))
    return found[0] if found else None


def _from_hub_cache(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def other_files(directory: Path, files: Sequence[Sequence[str]]) -> str:
    """The first file of the model that is missing or differs from the recorded hash; "" when all agree."""
    for path, sha256 in files:
        file = directory / path
        if not file.is_file():
            return f"{path} is missing"
        with file.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
                return f"{path} has another sha256"
    return ""


def embed_again(directory: Path, ledger: Ledger, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors of `texts` by plain sentence-transformers on CPU: float32 [n, dimensions]."""
    import torch
    from sentence_transformers import SentenceTransformer

    recipe: Mapping[str, Any] = ledger.recipe
    model = SentenceTransformer(
        str(directory),
        device="cpu",
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        local_files_only=True,
        trust_remote_code=False,
    )
    model.max_seq_length = recipe["max_tokens"]
    shorter = ledger.dimensions < int(recipe["model"]["dimensions"])
    task = {"task": recipe["task"]} if recipe["task"] else {}
    vectors = model.encode(
        list(texts),
        prompt=recipe["prompt"],
        truncate_dim=ledger.dimensions if shorter else None,
        normalize_embeddings=shorter and ledger.normalized,
        show_progress_bar=False,
        **task,
    )
    return np.asarray(vectors, dtype=np.float32)
