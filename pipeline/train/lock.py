"""One process at a time in a directory."""

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import RefusedError

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file, made if need be, is held for as long as this lasts, or until the process dies of whatever; it says who holds it.

    Raises RefusedError where another process does, OSError where it can't be written.
    """
    with path.open("a+", encoding="utf-8") as file:  # NFS locks only what is open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise RefusedError(
                f"{path.parent}: another process trains there ({file.read().strip() or 'just started'}). Wait until it has "
                "ended or stop it, or choose another output"
            ) from None
        except OSError as error:
            log.warning(
                "%s: its file system has no locks (%s); see to it that no other process trains there",
                path.parent,
                error.strerror,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        file.flush()
        yield
