"""Where a run's progress goes: a live view on a terminal, log lines otherwise, and a file where one is configured."""

from rich.console import Console

from pipeline.cli.terminal import is_live
from pipeline.config.schema import Execution
from pipeline.progress.events import ReporterContext, Tee
from pipeline.progress.reporters import JsonLinesReporter, LineReporter
from pipeline.storage.uri import local_path


def open_reporter(execution: Execution, console: Console) -> Tee:
    """The reporter of a run; a context manager."""
    reporters: list[ReporterContext] = []
    if is_live(console) and execution.log_format == "text":
        from pipeline.progress.live import LiveReporter

        reporters.append(LiveReporter(console))
    else:
        reporters.append(LineReporter())
    if execution.events is not None:
        reporters.append(JsonLinesReporter(local_path(execution.events)))
    return Tee(reporters)
