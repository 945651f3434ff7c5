"""One driver: `embedpipe run` in a process of its own, on a cluster."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from faults.chaos.cluster import Cluster
from faults.chaos.world import KEPT


class Driver:
    """A run on its way, or ended."""

    def __init__(self, cluster: Cluster, config: dict[str, Any], settings: dict[str, str], *options: str) -> None:
        self.cluster = cluster
        self.started = time.monotonic()
        self.killed = False  # whether somebody has sent it SIGKILL
        number = len(list(cluster.folder.glob("job-*.json")))
        file = cluster.folder / f"job-{number}.json"
        file.write_text(json.dumps(config | {"execution": config["execution"] | {"address": cluster.address}}))
        self._told = file.with_suffix(".txt")
        with self._told.open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "-c", str(file), *options],
                stdin=subprocess.DEVNULL, stdout=told, stderr=told,
                env=cluster.environment | settings, start_new_session=True,
            )  # fmt: skip

    @property
    def id(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    @property
    def told(self) -> str:
        """What it said."""
        return self._told.read_text(errors="replace")

    def strike(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self.killed = True
            self._process.wait()


def make_config(source: Path, output: str, model: str, cache: Path, **model_settings: Any) -> dict[str, Any]:
    """A job with many small units and data files. A worker that hangs is found after seconds."""
    return {
        "input": {"paths": [str(source)], "text": "text", "id": "id", "keep": [*KEPT]},
        "model": {"name": model, **model_settings},
        "units": {"rows": UNIT_ROWS},
        "output": {"path": output, "file_mib": 1},
        "execution": {
            "replicas": 2, "unit_timeout_s": TIMEOUT_S, "max_attempts": 4, "model_cache": str(cache),
        },
    }  # fmt: skip


UNIT_ROWS = 800
TIMEOUT_S = 6
