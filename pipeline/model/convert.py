"""`embedpipe convert-model`: an old model directory → one whose weights are safetensors."""

import shutil
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.model.inspect import UNSAFE_SUFFIXES, inspect_model


def convert_model(source: str, target: str) -> list[str]:
    """Copy a model, turning each `pytorch_model.bin` into `model.safetensors`; gives the files converted.

    Weights are read with `weights_only`, which runs no code. Raises ModelError when the result is still not loadable.
    """
    import torch
    from safetensors.torch import save_file

    origin, copy = Path(source), Path(target)
    if not (origin / "modules.json").is_file():
        raise ModelError(f"{origin} is not a sentence-transformers model (no modules.json)")
    if copy.exists() and any(copy.iterdir()):
        raise ModelError(f"{copy} is not empty; name a new directory")
    shutil.copytree(
        origin, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*(f"*{s}" for s in UNSAFE_SUFFIXES))
    )
    converted = []
    for weights in sorted(origin.rglob("pytorch_model.bin")):
        place = weights.relative_to(origin).parent
        if (copy / place / "model.safetensors").exists():
            continue
        try:
            tensors = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what the pickle stream makes it raise
            raise ModelError(f"{weights} is not plain weights: {str(error).splitlines()[0]}") from error
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, copy / place / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        converted.append((place / "model.safetensors").as_posix())
    inspect_model(copy, str(copy), None)
    return converted
