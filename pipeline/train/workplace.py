"""A training run's directory: settings, checkpoints, the curve and, once it has ended, the model.

training.json     what is trained, and from what; another run must want the same
checkpoints/      the last two, to go on from after the process was killed
curve.json        loss and metrics by step
result.json       how it ended
model/            there only when training has ended
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.training import Training
from pipeline.errors import ConfigError, RefusedError, StorageError
from pipeline.evaluate.pairs import LabelledPairs
from pipeline.storage.uri import parse
from pipeline.train.records import Trained

STATE = "trainer_state.json"
"""The file of a checkpoint that is written last."""


def open_workplace(output: str) -> "Workplace":
    """The directory of a run. Raises ConfigError for a place that is no local one."""
    place = parse(output)
    if place.scheme != "file":
        raise ConfigError(f"output: {place} is no local directory; train into one, and copy `model` from there")
    return Workplace(Path(place.path))


@dataclass(frozen=True, slots=True)
class Workplace:
    """See above. `root` is absolute."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def curve(self) -> Path:
        return self.root / "curve.json"

    def claim(self, training: Training, pairs: Sequence[LabelledPairs]) -> None:
        """Make the directory this training's. Raises RefusedError where it is another one's, StorageError where it can't be
        written."""
        wanted = {"settings": _settings(training), "pairs": [_digest(one) for one in pairs]}
        path = self.root / "training.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not path.exists() or not self.curve.exists():  # of what has not begun nothing can be mixed
                write_json(path, wanted)
                return
            there = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: {error}; choose another output") from error
        changed = sorted(_differences(there, wanted))
        if changed:
            raise RefusedError(
                f"{self.root} holds another training: {', '.join(changed)} differ. Going on would mix the two; choose another "
                "output, or remove the directory"
            )

    def result(self) -> Trained | None:
        """How training ended here; None where it hasn't."""
        try:
            return Trained(**json.loads((self.root / "result.json").read_text())) if self.model.is_dir() else None
        except (OSError, ValueError, TypeError):
            return None

    def finish(self, trained: Trained, save: Callable[[Path], None]) -> None:
        """Lay the model down, whole or not at all, and take the checkpoints away."""
        draft = self.root / "model.draft"
        for folder in (draft, self.model):
            shutil.rmtree(folder, ignore_errors=True)
        save(draft)
        write_json(self.root / "result.json", trained.to_json())
        draft.rename(self.model)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def read_curve(self) -> list[dict[str, Any]]:
        """Points as they were written last."""
        try:
            found: list[dict[str, Any]] = json.loads(self.curve.read_text())
        except (OSError, ValueError):
            return []
        return found

    def write_curve(self, points: Sequence[Mapping[str, Any]]) -> None:
        write_json(self.curve, points)

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint; what a killed process has left of others is removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        whole = [path for path in found if _is_whole(path)]
        for path in found:
            if path not in whole:
                shutil.rmtree(path)
        return whole[-1] if whole else None


def write_json(path: Path, value: object) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def _settings(training: Training) -> dict[str, Any]:
    """What decides which model comes out. Where the pairs lie does not; what they say is in their digests."""
    found = training.model_dump(mode="json", include={"model", "loss", "schedule"})
    del found["schedule"]["checkpoint_steps"], found["schedule"]["evaluation_steps"]
    return found


def _digest(pairs: LabelledPairs) -> str:
    digest = hashlib.sha256()
    for row in zip(pairs.first, pairs.second, pairs.labels, strict=True):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in one.keys() | other.keys():
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right, f"{place}{key}.")
        elif left != right:
            yield f"{place}{key}".removeprefix("settings.")
