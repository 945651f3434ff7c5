"""Scripted faults in processes that are the program's own: the program itself has no switch for them.

`environment(...)` gives the settings with which a process, and every process below it, patches modules of the program right after
they were loaded. A module named there has `HOOKS`: the program's module → what is done to it.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
Hook = Callable[[ModuleType], None]


def environment(*modules: str, **settings: str) -> dict[str, str]:
    """This process's environment plus what installs the hooks of `modules` (dotted names below tests/)."""
    path = os.pathsep.join([str(HERE / "site"), str(HERE.parent), str(HERE.parents[1])])
    return {**os.environ, "PYTHONPATH": path, "FAULTS_HOOKS": ",".join(modules), **settings}


def install(modules: Sequence[str]) -> None:
    """Patch what `modules` name, as soon as it is imported."""
    hooks: dict[str, list[Hook]] = {}
    for name in modules:
        for target, hook in importlib.import_module(name).HOOKS.items():
            hooks.setdefault(target, []).append(hook)
    sys.meta_path.insert(0, _Finder(hooks))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, hooks: dict[str, list[Hook]]) -> None:
        self._hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._hooks:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._hooks[name])
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, hooks: list[Hook]) -> None:
        self._loader, self._hooks = loader, hooks

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for hook in self._hooks:
            hook(module)
