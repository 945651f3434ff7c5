"""The two streams. Results go to stdout; logs, progress and errors go to stderr, so that stdout can be piped."""

import json
import os
import sys
from typing import Any, TextIO

from rich.console import Console, RenderableType

PLAIN_WIDTH = 160
"""Columns of output that no terminal wraps; lines that matter for a pipe are written without wrapping at all."""


def stdout() -> Console:
    """For results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """For everything else."""
    return _console(sys.stderr)


def is_live(console: Console) -> bool:
    """Whether something can be redrawn in place there."""
    return console.is_terminal and not console.is_dumb_terminal


def show(result: RenderableType) -> None:
    """Print a result for people."""
    stdout().print(result)


def write_line(text: str) -> None:
    """Print a line as it is, whatever the width."""
    sys.stdout.write(f"{text}\n")


def write_json(value: Any) -> None:
    """Print one JSON document on one line."""
    write_line(json.dumps(value, ensure_ascii=False, default=str))


def hush_stdout() -> None:
    """After a reader like `head` has closed the pipe: let Python's own flush at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(stream: TextIO) -> Console:
    return Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)
