"""Places in the program where a process can be caught, so that a fault hits it there and nowhere else.

Hooks for the job's processes: one that comes by a place with a trap takes the trap with it (by a rename, so one process only) and
waits until it is let go, or killed. FAULTS_TRAPS is the folder of traps; each holds the chance that it catches who comes by.
"""

import contextlib
import functools
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

PHASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "planning": {"pipeline.flow.supervisor": ("probe", "plan_now")},
    "reading": {"pipeline.flow.reading": ("Reading._prepare",)},
    "encoding": {"pipeline.flow.encoding": ("Encoding.encode", "begin_attempt", "encode_finite")},
    "staging": {"pipeline.flow.staging": ("Staging.stage", "create_file", "commit_unit")},
    "assembling": {"pipeline.flow.engine": ("Assembling.make", "write_data_file", "create_file", "commit_file")},
    "publishing": {
        "pipeline.flow.publishing": (
            "publish",
            "can_delete",
            "collect_now",
            "find_garbage",
            "collect",
            "settle_success",
        ),
        "pipeline.commit.snapshot": ("encode_manifest", "clear_success", "create"),
    },
}
"""phase → module → functions; there is a place before and one after each. All are called in every run that gets so far."""

PHASE_OF = {
    (module, name): phase for phase, modules in PHASES.items() for module, names in modules.items() for name in names
}
LET_GO_AFTER_S = 120
"""Whoever set the trap may be dead."""


def places(phase: str) -> list[str]:
    """Names of a phase's places."""
    names = [name for (_, name), owner in PHASE_OF.items() if owner == phase]
    return [f"{side} {name}" for name in names for side in ("before", "after")]


def come_by(phase: str, place: str) -> None:
    """Be caught, if there is a trap for this place, or for this process."""
    folder = Path(os.environ["FAULTS_TRAPS"])
    for trap in (folder / f"{phase} {place}", folder / str(os.getpid())):
        held = folder / f"held {os.getpid()} {phase} {place}"
        with contextlib.suppress(FileNotFoundError):
            if random.random() < float(trap.read_text()):
                trap.rename(held)
                _wait(held)
                return


def _wait(held: Path) -> None:
    until = time.monotonic() + LET_GO_AFTER_S
    while held.exists() and time.monotonic() < until:
        time.sleep(0.005)  # between two looks


def _guarded(phase: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **named: Any) -> Any:
        come_by(phase, f"before {name}")
        result = function(*args, **named)
        come_by(phase, f"after {name}")
        return result

    return guarded


def _patch(module: ModuleType) -> None:
    for (owner, path), phase in PHASE_OF.items():
        if owner == module.__name__:
            *inside, name = path.split(".")
            target: Any = functools.reduce(getattr, inside, module)
            setattr(target, name, _guarded(phase, path, getattr(target, name)))


HOOKS = {module: _patch for modules in PHASES.values() for module in modules}
