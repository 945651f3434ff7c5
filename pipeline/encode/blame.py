"""Whose fault it is when a model can't be loaded or used: its own, which it has everywhere, or that of this machine."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from pipeline.errors import EmbedpipeError, ModelError, first_line

MACHINES_WORDS = re.compile(
    r"cuda|cudnn|nvidia|nvml|out ?of ?memory|not enough memory|can(?:'t|not) allocate memory|unable to mmap|bad_alloc|"
    r"acceleratorerror|can't start new thread",
    re.IGNORECASE,
)
"""How torch, which says most things by a RuntimeError, tells of a device, its driver, or memory."""

LIBRARIES = ("sentence-transformers", "transformers", "torch")
SHOWN = 240  # characters of a library's words


def is_machines(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, tells of this machine: memory, a device, a disk, a library that isn't there."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | ImportError) or _is_disks(error) or _is_devices(error):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@contextmanager
def blamed_on_model(directory: str, what: str) -> Iterator[None]:
    """What a library raises over a model leaves this block as a ModelError; what the machine is to blame for, as it is.

    what: that didn't work, as in "can't be loaded".
    """
    try:
        yield
    except EmbedpipeError:
        raise
    except Exception as error:  # a model may break its library at any place
        if is_machines(error):
            raise
        installed = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        raise ModelError(
            f"{directory}: the model {what} ({_said(error)}). Its files (config, weights, tokenizer) don't belong together, or "
            f"it needs other libraries than those installed ({installed}): no machine with them will do. Fetch it again, install "
            "what it needs, or take another model"
        ) from error


def _is_disks(error: BaseException) -> bool:
    """The system has refused something. The libraries raise OSErrors of their own, without a number, over what a model lacks."""
    absent = isinstance(error, FileNotFoundError)
    return isinstance(error, OSError) and not absent and (error.errno is not None or "(os error " in str(error))


def _is_devices(error: BaseException) -> bool:
    said = isinstance(error, RuntimeError | AssertionError)  # the latter: no CUDA in this build of torch
    return said and MACHINES_WORDS.search(first_line(error, named=True)) is not None


def _said(error: Exception) -> str:
    """All lines as one: what torch says of weights stands behind the first."""
    words = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(".")
    return words if len(words) <= SHOWN else f"{words[:SHOWN]} …"
