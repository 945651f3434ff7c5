"""A clock that ticks with everything a run asks of disk and store, so that something can happen at an exact moment of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from faults.encoder import ScriptedEncoder

from pipeline.model import inspect
from pipeline.source import read
from pipeline.storage import inputs
from pipeline.storage.local import LocalStore
from pipeline.storage.pinned import LocalReader
from pipeline.storage.s3 import S3Objects
from pipeline.text.prepare import Preparer

INPUT: tuple[tuple[Any, str], ...] = (
    (inputs, "_find"),
    (inputs, "_walk_folder"),
    (inputs, "_open_local"),
    (read, "extract"),
    (LocalReader, "readinto"),
    (LocalReader, "readall"),
)
MODEL: tuple[tuple[Any, str], ...] = ((inspect, "refuse_pointer"), (Preparer, "prepare"), (ScriptedEncoder, "encode"))
OUTPUT: tuple[tuple[Any, str], ...] = tuple(
    (LocalStore, name) for name in ("get", "get_range", "put_new", "put", "delete", "list", "size")
)
S3: tuple[tuple[Any, str], ...] = tuple((S3Objects, name) for name in ("head", "read", "write", "remove", "walk"))
ALL = (*INPUT, *MODEL, *OUTPUT, *S3)


class Clock:
    """Counts calls; does `action` before the one with number `at`, and with `forever` before all that follow."""

    def __init__(self, at: int, action: Callable[[], object], *, forever: bool = False) -> None:
        self.count, self._at, self._action, self._forever = 0, at, action, forever
        self._lock = threading.Lock()

    @property
    def struck(self) -> bool:
        """Whether the moment came."""
        return self.count >= self._at

    def tick(self) -> None:
        with self._lock:
            self.count += 1
            due = self.count == self._at or (self._forever and self.struck)
        if due:
            self._action()


@contextmanager
def at_moment(
    at: int,
    action: Callable[[], object] = lambda: None,
    points: tuple[tuple[Any, str], ...] = ALL,
    *,
    forever: bool = False,
) -> Iterator[Clock]:
    """While this holds, calls of `points` tick. With `at=0` nothing is done but counting."""
    clock = Clock(at if at else 1 << 62, action, forever=forever)
    with ExitStack() as stack:
        for owner, name in points:
            stack.enter_context(patch.object(owner, name, _ticking(getattr(owner, name), clock)))
        yield clock


def _ticking(function: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    @wraps(function)
    def ticking(*args: Any, **kwargs: Any) -> Any:
        clock.tick()
        return function(*args, **kwargs)

    return ticking
