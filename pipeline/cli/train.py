"""`embedpipe train`"""

import contextlib
import importlib.util
import logging
import sys
import time
from typing import TYPE_CHECKING

from pipeline.cli.options import AsJson, ConfigFile, Overrides
from pipeline.cli.terminal import show, write_json
from pipeline.config.load import load_training
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.train.records import Step

NEEDED = ("accelerate", "datasets", "matplotlib")
QUIET_S = 10.0
"""Between two lines about steps without an evaluation."""

log = logging.getLogger(__name__)


def train(config_file: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a model from labelled pairs, or a given one further.

    Run it again after any failure: it goes on from its last checkpoint.
    """
    training = load_training(config_file, overrides or ())
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {' and '.join(missing)}: pip install 'embedpipe[train]'")
    from pipeline.train.trainer import train_model

    with contextlib.redirect_stdout(sys.stderr):  # which is for the result alone
        trained = train_model(training, _Lines())
    if as_json:
        write_json(trained.to_json())
        return
    show(
        f"{trained.model}: {trained.dimensions} dimensions, {trained.parameters:,} parameters, {trained.steps:,} steps"
    )
    if trained.metric:
        name = trained.metric.partition("_")[2].replace("_ap", " average precision")
        before, after = trained.before[trained.metric], trained.after[trained.metric]
        show(f"{name} on {trained.evaluated_on}: {before:.4f} before, {after:.4f} after")


class _Lines:
    """A line for each evaluation, and now and then one for the steps between."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, point: "Step") -> None:
        now = time.monotonic()
        if not point.metrics and now - self._told < QUIET_S:
            return
        self._told = now
        loss = "" if point.loss is None else f", loss {point.loss:.4g}"
        metrics = "".join(
            f", {name.partition('_')[2].replace('_ap', ' average precision')} {value:.4f}"
            for name, value in point.metrics.items()
            if name.endswith("_ap") and "_max_" not in name
        )
        log.info("step %s of %s%s%s", f"{point.step:,}", f"{point.steps:,}" if point.steps else "?", loss, metrics)
