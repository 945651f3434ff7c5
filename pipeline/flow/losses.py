"""What Ray says of dead workers and lost nodes, in this program's words."""

import contextlib
from collections.abc import Iterator

import ray

from pipeline.errors import IncompleteError


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Raises IncompleteError where Ray has lost nodes or workers under what is asked of it."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise IncompleteError(f"Ray has lost workers or nodes: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What went wrong in a worker, where Ray knows it, rather than the frames around it."""
    cause = getattr(error, "cause", None)
    text = f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]
