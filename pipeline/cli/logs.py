"""Logging of a command: to stderr, as text or JSON lines, and never with a secret in it."""

import json
import logging
import os
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from pipeline.storage.environment import redact

_OURS = ("pipeline", "embedpipe")
_CLIENTS = ("botocore", "aiobotocore")
"""Libraries that log a failed sign-in with its traceback, and raise it too: the error that follows says what to do."""

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red", logging.DEBUG: "dim"}


def set_up_logging(console: Console, *, json_lines: bool = False, debug: bool = False) -> None:
    """Send this process's logs to `console`: ours from INFO (DEBUG) on, those of libraries from WARNING on."""
    handler = _ConsoleHandler(console)
    handler.setFormatter(JsonFormatter() if json_lines else TextFormatter())
    if not debug:
        handler.addFilter(_spare_traceback)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers would draw bars into the lines


def _spare_traceback(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] in _CLIENTS:
        record.exc_info = record.exc_text = None
    return True


class TextFormatter(logging.Formatter):
    """`12:03:04 message`, with the level where it isn't INFO."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """A line; what more it has is set in, so that a file name with a line break can't pass for another message."""
        text = redact(super().format(record)).replace("\n", "\n  ")
        if record.levelno == logging.INFO:
            return text
        time, _, message = text.partition(" ")
        return f"{time} {record.levelname.lower()}: {message}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message and, where there is one, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class _ConsoleHandler(logging.Handler):
    """Writes through the console, which keeps a live view in its place below the lines."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = Text(self.format(record), style=_STYLES.get(record.levelno, ""))
            self._console.print(text, soft_wrap=True)
        except Exception:  # a broken stderr must not end the run: what every logging.Handler does
            self.handleError(record)
