"""The share of `make test-faults` that runs on Ray, again and again: what passes now and then only is no proof."""

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults.ledger import ROOT, Chunk

RAY_SHARE = ("-m", "faults and ray", "tests/faults")
"""What is handed to pytest."""

AS_MAKE_DOES = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")
"""Three processes beside each other: flakes come from machines that have other things to do."""

SHOWN = 4000  # characters of a failure

log = logging.getLogger(__name__)


def soak(first: int, seconds: float) -> Chunk:
    """As many runs as fit into `seconds`, but at least one."""
    end, runs, failed = time.monotonic() + seconds, 0, 0
    while runs == 0 or time.monotonic() < end:
        output, code = _run()
        passed = code == 0 and re.search(r"\b[1-9]\d* passed", output) and not re.search(r"\d+ skipped", output)
        if not passed:
            log.error("run %d of the Ray share failed:\n%s", first + runs, output[-SHOWN:])
        runs, failed = runs + 1, failed + (not passed)
    return Chunk(first + runs, {"repeats": runs, "repeats_failed": failed})


def _run() -> tuple[str, int]:
    with tempfile.TemporaryDirectory(prefix="embedpipe-repeats-", ignore_cleanup_errors=True) as home:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *AS_MAKE_DOES, *RAY_SHARE]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
            "HOME": str(Path(home))
        }
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr, ran.returncode
