"""A file that may not be read, for root too."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Nobody may read it; for root, by doing without root's rights meanwhile."""
    mode, root = stat.S_IMODE(path.stat().st_mode), os.geteuid() == 0
    path.chmod(0)
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(mode)
