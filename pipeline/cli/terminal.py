"""The two streams. Results go to stdout; logs, progress and errors go to stderr, so that stdout can be piped."""

import atexit
import contextlib
import json
import os
import sys
from typing import Any, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from pipeline.progress.controls import PICTURES


class ReaderGone(Exception):
    """Whoever read stdout, like `head`, has closed it: the command has no more to say."""

    def __init__(self) -> None:
        super().__init__()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python's own flush at exit may go


class _Console(Console):
    """Where nobody reads any more, results end the command, and logs end the logs. Control characters show as pictures."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Text and strings without anything a terminal would obey; what else there is passes as it is."""
        super().print(*map(_harmless, objects), **options)

    def on_broken_pipe(self) -> None:
        """Rich itself would end the process with exit code 1."""
        self.quiet = True
        if self.file is sys.stdout:
            raise ReaderGone


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
    """Print a result for people. Lines are left to the terminal to wrap, and stay whole in a pipe."""
    stdout().print(result, soft_wrap=True)


def write_line(text: str) -> None:
    """Print a line as it is, whatever the width."""
    write_text(f"{text}\n")


def write_text(text: str) -> None:
    """Print text as it is, at once."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def write_json(value: Any) -> None:
    """Print one JSON document on one line."""
    write_line(json.dumps(value, ensure_ascii=False, default=str))


def leave(code: int) -> NoReturn:
    """End the process with `code`, whatever threads are still about.

    Where the interpreter is taken down around a thread of Arrow's pools that is about to touch a Python object, the
    process aborts: exit code 134 after all was done.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _harmless(shown: Any) -> Any:
    if isinstance(shown, Text):
        harmless = shown.copy()
        harmless.plain = shown.plain.translate(PICTURES)  # as long as before, so styles stay where they are
        return harmless
    return shown.translate(PICTURES) if isinstance(shown, str) else shown


def _console(stream: TextIO) -> Console:
    return _Console(file=stream, highlight=False, emoji=False)
