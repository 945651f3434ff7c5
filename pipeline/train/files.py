"""Files of a training run's directory."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from pipeline.errors import StorageError, first_line


def write_json(path: Path, value: object) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def flush(folder: Path) -> None:
    """Put every file below on disk for good."""
    for path in files_below(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def files_below(folder: Path) -> Iterator[Path]:
    """All of them, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def digest(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What libraries raise instead of an OSError, over a disk that is full, leaves this block as a StorageError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError) as error:  # the last is how torch says it
        raise StorageError(
            f"{place}: it can't be written ({first_line(error)}). Is the disk full? Mend that, and run again: training goes on "
            "from its last checkpoint"
        ) from error
