"""A training run on a Ray cluster, through its Jobs API."""

import shlex
from collections.abc import Callable
from pathlib import Path

from pipeline.config.pairs import Pairs
from pipeline.config.training import Training
from pipeline.config.yaml_text import write_yaml
from pipeline.errors import ConfigError
from pipeline.flow.submit import pack_code, send
from pipeline.model.resolve import portable_name
from pipeline.storage.uri import parse
from pipeline.train.workplace import open_workplace

RECIPE_FILE = "train.yaml"


def submit_training(
    training: Training, address: str, *, gpus: int = 0, follow: bool = True, show: Callable[[str], None]
) -> int:
    """Train on a node of the cluster whose dashboard is at `address`; the exit code of `embedpipe train` over there.

    Sent again after any failure it goes on from its last checkpoint, where `output` is a place that every node sees.
    gpus: 1 to train on one. Raises ConfigError where the recipe wants a GPU and none is asked for, and as `submit_job` does.
    """
    if training.device == "cuda" and not gpus:
        raise ConfigError("device is cuda, but no GPU is asked for; say --gpus 1, or set device to auto")

    def pack(folder: Path) -> None:
        pack_code(folder)
        (folder / RECIPE_FILE).write_text(
            write_yaml(portable(training).model_dump(mode="json", exclude_unset=True)), encoding="utf-8"
        )

    words = ["python", "-m", "pipeline", "train", "--config", RECIPE_FILE]
    return send(pack, shlex.join(words), address, output=training.output, follow=follow, show=show, gpus=gpus)


def portable(training: Training) -> Training:
    """The same run as seen from another working directory."""
    base = training.model.base
    changed = {
        "model": training.model.model_copy(update={"base": base if base is None else portable_name(base)}),
        "pairs": _absolute(training.pairs),
        "evaluation": training.evaluation if training.evaluation is None else _absolute(training.evaluation),
        "output": str(open_workplace(training.output).root),
    }
    return training.model_copy(update=changed)


def _absolute(pairs: Pairs) -> Pairs:
    return pairs.model_copy(update={"paths": tuple(str(parse(path)) for path in pairs.paths)})
