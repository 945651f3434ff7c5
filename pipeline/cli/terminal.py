"""The two streams. Results go to stdout; logs, progress and errors go to stderr, so that stdout can be piped.

Neither decides how a command ends: whoever reads it may go, like `head`, its disk be full or its terminal closed. Nor may it be
unable to spell a text: a file's name need not be UTF-8, and a terminal need not know Japanese.
"""

import atexit
import codecs
import contextlib
import io
import json
import logging
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from pipeline.progress.controls import PICTURES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger(__name__)

_ESCAPES = "embedpipe.escapes"


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, as JSON spells it, so that one way serves people and JSON alike. A byte of a name that isn't
    UTF-8 is half a surrogate pair, `\\udce9`; Python's `json.loads` and `os.fsencode` give the name back."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPES, _escape)


class _Outlet(io.FileIO):
    """Where a stream's bytes go, as long as they are taken there. What comes after the first that aren't is dropped: a result
    with a hole in it would pass for a whole one."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._dropping = False

    def write(self, data: "ReadableBuffer", /) -> int:
        """Never raises. How many bytes were taken; the buffer above comes again with the others."""
        if not self._dropping:
            try:
                return super().write(data) or self._wait()
            except OSError as error:
                self._dropping = True  # before anything is logged, which may come here again
                self._tell(error)
        return memoryview(data).nbytes

    def _wait(self) -> int:
        """For whoever reads a stream that somebody has set not to block."""
        select.select((), (self,), ())
        return 0

    def _tell(self, error: OSError) -> None:
        """A reader that has gone has read enough; everybody else misses something."""
        if self.fileno() == 1 and not isinstance(error, BrokenPipeError):
            log.warning("stdout can't be written: %s; what this command has to say there is lost", error.strerror)


def keep_going() -> None:
    """From now on nothing that becomes of the streams is an error of this process."""
    sys.stdout, sys.stderr = _lenient(sys.stdout), _lenient(sys.stderr)


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed when the process began
        return Path(os.devnull).open("w", encoding="utf-8", errors=_ESCAPES)
    buffer = io.BufferedWriter(_Outlet(stream.fileno()))
    return io.TextIOWrapper(buffer, stream.encoding, _ESCAPES, line_buffering=stream.isatty())


class _Console(Console):
    """Control characters show as pictures."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Text and strings without anything a terminal would obey; what else there is passes as it is."""
        super().print(*map(_harmless, objects), **options)


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
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """Print one JSON document on one line: JSON is UTF-8, so where stdout isn't it keeps to ASCII."""
    utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    text = json.dumps(value, ensure_ascii=not utf8, default=str)
    write_line(text.encode("utf-8", _ESCAPES).decode())  # also where stdout is somebody else's, and strict


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
