"""How a run ends that comes to no summary: told to its reporter, whatever it was that ended it."""

import contextlib
from collections.abc import Iterator

from pipeline.errors import EmbedpipeError, IncompleteError
from pipeline.progress.events import Reporter, RunEnded


@contextlib.contextmanager
def telling_failure(reporter: Reporter) -> Iterator[None]:
    """Whoever follows the events hears that nothing comes any more, and with which exit code the command ends."""
    try:
        with _lack_of_threads_explained():
            yield
    except BaseException as error:
        reporter.emit(RunEnded(state="failed", exit_code=_exit_code(error)))
        raise


@contextlib.contextmanager
def _lack_of_threads_explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise IncompleteError(
            "this process may start no more threads: the limit on processes (ulimit -u, or a container's pids limit) is "
            "reached. What is committed stays; raise the limit and run again"
        ) from error


def _exit_code(error: BaseException) -> int:
    """As the command line has it: a second Ctrl-C leaves an incomplete run behind, and what nobody expects is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return IncompleteError.exit_code
    return error.exit_code if isinstance(error, EmbedpipeError) else EmbedpipeError.exit_code
