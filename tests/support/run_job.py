"""A job in a process of its own, to be killed: `python run_job.py CONFIG.json`; prints a line for every committed unit."""

import json
import sys

from pipeline.cli.terminal import leave
from pipeline.config.schema import Config
from pipeline.errors import EmbedpipeError
from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, UnitDone


class Printer:
    def emit(self, event: Event) -> None:
        if isinstance(event, UnitDone):
            print(f"unit {event.unit}", flush=True)


if __name__ == "__main__":
    try:
        code = run_job(Config.model_validate(json.loads(sys.argv[1])), reporter=Printer()).exit_code
    except EmbedpipeError as error:
        print(error.message, file=sys.stderr)
        code = error.exit_code
    leave(code)  # as the command does: threads of Arrow's may still be about
