"""Breaking the program on purpose: a function's source with a passage replaced, put wherever the function is imported.

A mutant that no longer fits the program says so.
"""

import __future__

import inspect
import itertools
import linecache
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from faults.simulation.binding import Replacement

FLAGS = __future__.annotations.compiler_flag
_COUNT = itertools.count()


@dataclass(frozen=True)
class Mutant:
    """A way to get the protocol wrong."""

    name: str
    story: str
    replacements: Callable[[], Sequence[Replacement]]
    crashes: bool = False  # it shows by ending a process with an error that is none of the program's own


MUTANTS: list[Mutant] = []


def mutant(story: str, *, crashes: bool = False) -> Callable[[Callable[[], Sequence[Replacement]]], None]:
    """Add a mutant under the name of the function that makes it."""

    def add(make: Callable[[], Sequence[Replacement]]) -> None:
        MUTANTS.append(Mutant(make.__name__, story, make, crashes))

    return add


def after(passage: str, *lines: str) -> tuple[str, str]:
    """A change that adds lines, indented as they are, after a passage."""
    return passage, "\n".join((passage, *lines))


def before(passage: str, line: str) -> tuple[str, str]:
    """A change that adds a line of the function's own indentation before a passage."""
    return passage, f"{line}\n    {passage}"


def rewrite(function: Callable[..., Any], *changes: tuple[str, str], owner: Any = None) -> list[Replacement]:
    """Replacements that put the changed function in place of `function`, which `owner` (a class) may hold.

    Raises ValueError when a passage isn't there: the program has changed, and the mutant has to follow.
    """
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"{function.__qualname__} has {source.count(old)} times {old!r}, not once")
        source = source.replace(old, new)
    namespace: dict[str, Any] = {}
    module = sys.modules[function.__module__]
    file = f"<{function.__qualname__}, changed {next(_COUNT)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for tracebacks
    exec(compile(source, file, "exec", FLAGS), module.__dict__, namespace)
    return put(function, namespace[function.__name__], owner)


def put(function: Callable[..., Any], instead: Callable[..., Any], owner: Any = None) -> list[Replacement]:
    """Replacements that put `instead` wherever the program has `function`."""
    if owner is not None:
        return [(owner, function.__name__, instead)]
    return [
        (module, name, instead)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("pipeline.")
        for name, value in list(vars(module).items())
        if value is function
    ]
