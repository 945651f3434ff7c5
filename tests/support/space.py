"""A full disk, for root too and without mounting one."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_fits(beyond: int = 0) -> Iterator[None]:
    """The system takes no byte of any file behind so many, and says so at each write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
