"""Processes in which packages that are installed here are not."""

import inspect
import textwrap
from collections.abc import Iterable


def without(packages: Iterable[str], code: str) -> str:
    """Code for `python -c` that does as `code` where none of the packages is installed."""
    return f"{inspect.getsource(_hide)}\n_hide({sorted(packages)!r})\n{textwrap.dedent(code)}"


def _hide(packages: list[str]) -> None:
    """Neither to be imported nor to be seen by those who ask what is installed."""
    import sys
    from importlib.machinery import PathFinder
    from typing import Any

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, fullname: str, *more: Any) -> Any:
            return None if fullname.partition(".")[0] in packages else super().find_spec(fullname, *more)

        @classmethod
        def find_distributions(cls, context: Any = None) -> Any:
            if context is None:
                return super().find_distributions()
            return () if context.name in packages else super().find_distributions(context)

    sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
