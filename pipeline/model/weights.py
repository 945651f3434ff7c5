"""What a safetensors file says of itself: names and shapes, read from its header without torch."""

import json
from pathlib import Path

from pipeline.errors import ModelError

LFS_POINTER = b"version https://git-lfs"
MAX_HEADER = 100_000_000
"""The format's own bound."""

POSITION_TABLES = frozenset({"position_embeddings", "wpe", "embed_positions"})


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor in a file. Raises ModelError for a file that is cut off or of another format."""
    length = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if length > 8 and size <= min(MAX_HEADER, length - 8) else b""
    try:
        header = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + size + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file; fetch it again") from error
    if end != length:
        raise ModelError(
            f"{path} has {length:,} bytes, but its header speaks of {end:,}; it was cut off, fetch it again"
        )
    return shapes


def position_table(folder: Path) -> int | None:
    """Rows of the table of learned positions among the weights in a folder; None for models that have no such table."""
    rows = [
        shape[0]
        for path in sorted(folder.glob("*.safetensors"))
        for name, shape in tensor_shapes(path).items()
        if len(shape) == 2 and name.split(".")[-2:-1] and name.split(".")[-2] in POSITION_TABLES
    ]
    return min(rows, default=None)


def refuse_pointer(path: Path) -> None:
    """Raises ModelError for what Git leaves in place of a large file that wasn't fetched."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ModelError(
                f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
            )
