"""What Ray says of dead workers and lost nodes, in this program's words."""

import contextlib
from collections.abc import Iterator

import ray

from pipeline.errors import IncompleteError, first_line


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Raises IncompleteError where Ray has lost nodes or workers under what is asked of it."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise IncompleteError(f"Ray has lost workers or nodes: {told_by_ray(error)}") from error


def told_by_ray(error: BaseException) -> str:
    """One line: what went wrong in a worker, where Ray knows it, rather than the frames around it."""
    cause = getattr(error, "cause", None)
    return first_line(cause, named=True) if isinstance(cause, Exception) else first_line(error)
