"""`embedpipe convert-model`: an old model directory → one whose weights are safetensors."""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ModelError, StorageError
from pipeline.model.code import refuse_code
from pipeline.model.inspect import UNSAFE_SUFFIXES, inspect_model
from pipeline.model.modules import read_object
from pipeline.storage.faults import translated

INDEX = "pytorch_model.bin.index.json"
"""Which tensor lies in which file, where the weights are in several."""


def convert_model(source: str, target: str) -> list[str]:
    """Copy a model, turning each `pytorch_model*.bin` into `model*.safetensors`; gives the files converted.

    Weights are read with `weights_only`, which runs no code. Raises ModelError when they can't be, or when the result is
    still refused, StorageError when it can't be written; then there is no new directory.
    """
    origin, copy = Path(source), Path(target)
    if not (origin / "modules.json").is_file():
        raise ModelError(f"{origin} is not a sentence-transformers model (no modules.json)")
    refuse_code(origin)  # before it is copied: in the copy, what a link leads to would be a file like any other
    with _writing(copy):
        if copy.exists() and (not copy.is_dir() or any(copy.iterdir())):
            raise ModelError(f"{copy} is not empty; name a new directory")
    draft = copy.absolute().with_name(f".{copy.absolute().name}.{uuid.uuid4().hex}")
    try:
        with _writing(copy):
            converted = _fill(draft, origin)
            inspect_model(draft, str(copy), None)
            draft.replace(copy)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return converted


def _fill(draft: Path, origin: Path) -> list[str]:
    shutil.copytree(origin, draft, ignore=shutil.ignore_patterns(*(f"*{s}" for s in UNSAFE_SUFFIXES), INDEX))
    for index in origin.rglob(INDEX):
        _convert_index(index, draft / index.relative_to(origin).parent)
    weights = sorted(origin.rglob("pytorch_model*.bin"))
    return [name for each in weights for name in _convert(each, origin, draft)]


@contextmanager
def _writing(copy: Path) -> Iterator[None]:
    """What is said of a full disk, or of a place where nothing can be, leaves this block as a StorageError, whoever says it."""
    from safetensors import SafetensorError

    with translated("writing", str(copy)):
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:  # `translated` takes them for answers
            raise StorageError(f"writing {copy}: {error}; name a new directory in one that is there") from error
        except shutil.Error as error:  # copytree's list of all files that it could not copy
            _, _, said = error.args[0][0]
            raise StorageError(
                f"writing {copy}: a file of the model can't be copied: {said}; mend that and run again"
            ) from error
        except SafetensorError as error:
            raise StorageError(
                f"writing {copy}: {error}; free some space or choose another place, and run again"
            ) from error


def _convert(weights: Path, origin: Path, draft: Path) -> list[str]:
    import torch
    from safetensors.torch import save_file

    place = weights.relative_to(origin).with_name(_renamed(weights.name))
    if (draft / place).exists():
        return []
    try:
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
            raise TypeError("it holds something else than tensors")
    except Exception as error:  # torch raises what the pickle stream makes it raise
        raise ModelError(f"{weights} is not plain weights: {(str(error) or repr(error)).splitlines()[0]}") from error
    # Cloned, since safetensors refuses tensors that share memory; transformers ties them again.
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, draft / place, {"format": "pt"})
    return [place.as_posix()]


def _convert_index(index: Path, folder: Path) -> None:
    listing = read_object(index)
    where = listing.get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise ModelError(f"{index} doesn't say in its weight_map which file each tensor lies in; fetch the model again")
    listing["weight_map"] = {name: _renamed(file) for name, file in where.items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing, indent=2), encoding="utf-8")


def _renamed(name: str) -> str:
    return name.replace("pytorch_model", "model", 1).removesuffix(".bin") + ".safetensors"
