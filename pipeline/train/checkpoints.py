"""Checkpoints: whole or not counted, whatever was killed while it wrote them or has changed them since."""

import json
import logging
import re
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.train.files import digest, files_below, write_json

NAME = re.compile(r"checkpoint-(\d+)")
"""The trainer's own; anything else in the folder is somebody else's."""

EVALUATIONS = "eval"
"""A folder beside them that the trainer makes for its evaluator, and which stays empty."""

KEPT = 2

SEAL = "files.json"
"""Written last into a checkpoint: its files, and the digest of each."""

log = logging.getLogger(__name__)


def name_of(step: int) -> str:
    """The checkpoint's folder."""
    return f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """How many steps were done when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def seal(checkpoint: Path) -> None:
    """From now on it counts, and of those before it only the last."""
    write_json(checkpoint / SEAL, _digests(checkpoint))
    for older in _newest_first(checkpoint.parent)[KEPT:]:
        shutil.rmtree(older, ignore_errors=True)


def last_whole(folder: Path) -> Path | None:
    """The newest that is as it was written. Those after it are removed: what they'd give is another model, or a crash."""
    for checkpoint in _newest_first(folder):
        problem = _problem(checkpoint)
        if not problem:
            return checkpoint
        log.warning("%s is passed over: %s; training goes on from before it", checkpoint, problem)
        shutil.rmtree(checkpoint)
    return None


def remove_all(folder: Path) -> None:
    """And the folder, unless somebody else has put something there."""
    for checkpoint in _newest_first(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for emptied in (folder / EVALUATIONS, folder):
        with suppress(OSError):
            emptied.rmdir()


def _newest_first(folder: Path) -> list[Path]:
    found = (path for path in folder.glob("*") if NAME.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=step_of, reverse=True)


def _problem(checkpoint: Path) -> str:
    """Why it can't be gone on from; "" for nothing."""
    try:
        expected, found = json.loads((checkpoint / SEAL).read_text()), _digests(checkpoint)
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError) as error:
        return f"it can't be read ({error})"
    changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"{changed[0]} is missing, or not as it was written" if changed else ""


def _digests(checkpoint: Path) -> dict[str, str]:
    return {
        path.relative_to(checkpoint).as_posix(): digest(path) for path in files_below(checkpoint) if path.name != SEAL
    }
