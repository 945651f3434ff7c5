"""One whole job, with the times at which its units were done.

python whole_job.py JOB.yaml
"""

import json
import sys
import time
from pathlib import Path

from pipeline.config.load import load_config
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, Published, UnitDone


class Times:
    """Keeps when each event came."""

    def __init__(self) -> None:
        self.units: list[tuple[float, int]] = []
        self.published = 0.0

    def emit(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, UnitDone):
            self.units.append((time.monotonic(), event.tokens))
        elif isinstance(event, Published):
            self.published = time.monotonic()


def main(file: str) -> None:
    """Run it and print one JSON line."""
    times = Times()
    summary = run_job(load_config(Path(file)), reporter=times)
    first, tokens = times.units[0]
    told = {
        "seconds": summary.seconds, "encode_s": summary.times.encode / 1000, "tokens": summary.tokens, "first_tokens": tokens,
        "running_s": times.published - first, "prepare_s": (summary.times.read + summary.times.tokenise) / 1000,
        "wait_s": summary.times.wait / 1000,
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
