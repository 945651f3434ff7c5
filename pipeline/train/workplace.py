"""A training run's directory: what is trained, checkpoints, the curve and, once it has ended, the model.

training.json     what is trained, and from what; another run must want the same
.training.lock    held by the process that trains there
checkpoints/      the last two, to go on from after the process was killed
curve.json        loss and metrics by step
result.json       how it ended
model/            there only when training has ended

What was there before is never replaced: not a user's own folder of one of these names, and not a finished model.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec

from pipeline.config.training import Training
from pipeline.errors import ConfigError, RefusedError
from pipeline.evaluate.pairs import LabelledPairs
from pipeline.model.inspect import hash_files
from pipeline.storage.uri import local_path, parse_root
from pipeline.train.checkpoints import remove_all
from pipeline.train.files import digest, flush, write_json
from pipeline.train.lock import locked
from pipeline.train.records import Step, Trained

MADE = ("model", "model.draft", "checkpoints", "curve.json", "result.json")
"""What comes to lie there once a training has begun."""


def open_workplace(output: str) -> "Workplace":
    """The directory of a run. Raises ConfigError for a place that is no local one."""
    place = parse_root(output)
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

    @contextmanager
    def claimed(self, training: Training, pairs: Sequence[LabelledPairs]) -> Iterator[None]:
        """The directory is this process's for as long as this lasts, and this training's for good.

        Raises RefusedError where it is another process's, another training's or holds something else, ConfigError where
        `model.base` lies in it or around it, OSError where it can't be written.
        """
        self._refuse_base(training.model.base)
        wanted = {"settings": _settings(training), "pairs": [_digest(one) for one in pairs]}
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".training.lock"):
            self._claim(wanted)
            yield

    def result(self) -> Trained | None:
        """How training ended here; None where it hasn't. Raises RefusedError where it has, and its model isn't there any more."""
        found = _read(self._result)
        if found is None and self.model.exists():
            raise RefusedError(
                f"{self.model} is there, but no result.json: nobody knows what it is of, and it is not replaced. Choose another "
                "output"
            )
        if found is None:
            return None
        if not isinstance(found, dict) or found.get("training") != digest(self._recipe):
            raise RefusedError(f"{self._result} is not of this training; choose another output")
        try:
            trained: Trained = msgspec.convert({**found, "model": str(self.model)}, Trained)
        except msgspec.ValidationError as error:
            raise RefusedError(
                f"{self._result} is not as this version of embedpipe writes it ({error}), but training has ended: the model is "
                f"{self.model}. To train again choose another output"
            ) from error
        if self._draft.exists() and not self.model.exists():  # killed between the two
            self._draft.rename(self.model)
        if not (self.model / "modules.json").is_file():
            raise RefusedError(
                f"{self.model} is gone or no model any more, though training has ended. To train again choose another output, or "
                f"remove {self.root}"
            )
        remove_all(self.checkpoints)
        return trained

    def finish(self, trained: Trained, save: Callable[[Path], None]) -> None:
        """Lay the model down, whole or not at all, and take the checkpoints away."""
        rmtree(self._draft, ignore_errors=True)
        save(self._draft)
        flush(self._draft)
        found = trained.to_json() | {"training": digest(self._recipe)}
        del found["model"]  # where it lies, even after it was moved
        write_json(self._result, found)
        self._draft.rename(self.model)
        remove_all(self.checkpoints)

    def read_curve(self) -> list[Step]:
        """Points as they were written last."""
        try:
            return msgspec.json.decode(self.curve.read_bytes(), type=list[Step])
        except (OSError, msgspec.DecodeError):
            return []

    def write_curve(self, points: Sequence[Step]) -> None:
        write_json(self.curve, [asdict(point) for point in points])

    @property
    def _recipe(self) -> Path:
        return self.root / "training.json"

    @property
    def _result(self) -> Path:
        return self.root / "result.json"

    @property
    def _draft(self) -> Path:
        return self.root / "model.draft"

    def _refuse_base(self, base: str | None) -> None:
        """A base that is written into while it is read would be another one the next time."""
        if base is None:
            return
        root, other = self.root.resolve(), local_path(base).resolve()
        if root.is_relative_to(other) or other.is_relative_to(root):
            raise ConfigError(
                f"model.base ({base}) and output ({self.root}) lie one in the other; choose another output, so that the base "
                "stays as it is"
            )

    def _claim(self, wanted: Mapping[str, Any]) -> None:
        there = _read(self._recipe)
        made = [name for name in MADE if (self.root / name).exists()]
        if there is None and made:
            raise RefusedError(
                f"{self.root} holds {made[0]}, but no training.json: that is not of a training, which would put its own there. "
                "Choose another output"
            )
        if there is not None and not (isinstance(there, dict) and there.keys() == wanted.keys()):
            raise RefusedError(f"{self._recipe} says of no training what it is; choose another output")
        changed = sorted(_differences(there, wanted)) if there is not None else []
        if changed and made:  # of what has not begun nothing can be mixed
            raise RefusedError(
                f"{self.root} holds another training: {', '.join(changed)} differ. Going on would mix the two; choose another "
                "output, or remove the directory"
            )
        if there is None or changed:
            write_json(self._recipe, wanted)


def _read(path: Path) -> Any:
    """The JSON of a file; None where there is none. Raises RefusedError for anything else."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RefusedError(f"{path} holds no JSON ({error}); choose another output") from error


def _settings(training: Training) -> dict[str, Any]:
    """What decides which model comes out. Where pairs and base lie does not; what they are is in their digests."""
    found = training.model_dump(mode="json", include={"model", "loss", "schedule"})
    del found["schedule"]["checkpoint_steps"], found["schedule"]["evaluation_steps"]
    base = training.model.base
    if base is not None:
        files = hash_files(local_path(base))
        found["model"]["base"] = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return found


def _digest(pairs: LabelledPairs) -> str:
    rows = hashlib.sha256()
    for row in zip(pairs.first, pairs.second, pairs.labels, strict=True):
        rows.update(json.dumps(row).encode())
    return rows.hexdigest()


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in one.keys() | other.keys():
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right, f"{place}{key}.")
        elif left != right:
            yield f"{place}{key}".removeprefix("settings.")
