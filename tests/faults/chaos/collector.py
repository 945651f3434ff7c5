"""`embedpipe gc` again and again in a process of its own: `python -m faults.chaos.collector OUT`, until its stdin ends."""

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping

PAUSE_S = 0.3


@contextlib.contextmanager
def collecting(root: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Collect beside whatever else happens. Raises CalledProcessError when a collection didn't go well."""
    command = [sys.executable, "-m", "faults.chaos.collector", root]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment))
    try:
        yield
    finally:
        _, told = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=told)


def collect(root: str) -> None:
    """Until stdin ends."""
    from pipeline.errors import InputError
    from pipeline.flow.maintenance import collect_garbage

    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        with contextlib.suppress(InputError):  # nothing was written yet
            collect_garbage(root)


if __name__ == "__main__":
    collect(sys.argv[1])
