"""Runs a job in this process with the scripted encoder, and holds what came out of it against the source."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from faults import oracle
from faults.encoder import ScriptedEncoder
from faults.ground.world import World
from faults.hooks import environment
from support.jobs import make_config

from pipeline.config.schema import Config
from pipeline.encode.placement import Dtype, Placement
from pipeline.errors import EmbedpipeError
from pipeline.flow import encoding
from pipeline.flow.context import JobContext
from pipeline.flow.summary import Summary
from pipeline.flow.supervisor import run_job
from pipeline.quality.gate import GateResult
from pipeline.source import streams
from pipeline.storage import pinned

READ_BYTES = 2048


@dataclass(frozen=True)
class Outcome:
    """How a run ended, as the command would."""

    code: int
    message: str = ""
    summary: Summary | None = None
    trace: str = ""  # of what the command would call a bug

    def __str__(self) -> str:
        return f"exit {self.code}: {self.message}{self.trace}"


def config_of(world: World, output: str, model: str, **changes: Any) -> Config:
    """A job over a world: units of 60 rows, so that a file has several, and files too big to be grouped."""
    named = {"input__id": None, "input__text": None} if world.kind == "txt" else {}
    return make_config(world.place.path, output, model, **{"units__rows": 60, "units__text_mib": 1, **named, **changes})


def run(config: Config, *, dtype: Dtype = "float32", **options: Any) -> Outcome:
    """One run. Never raises for what the run raised."""

    def load(context: JobContext, _threads: int | None) -> tuple[ScriptedEncoder, GateResult]:
        encoder = ScriptedEncoder(context.model.stage().directory)
        encoder.placement = Placement("cpu", dtype, "scripted")
        passed = {"finite": True, "zero_rows_match": True, "device": "cpu", "dtype": dtype, "reason": "scripted"}
        return encoder, GateResult(1, 1.0, 0.0, **passed)

    with patch.object(encoding, "load_replica", load), _in_children(), _small_reads():
        try:
            summary = run_job(config, **options)
        except EmbedpipeError as error:
            trace = traceback.format_exc() if error.exit_code == 1 else ""
            return Outcome(error.exit_code, error.message, trace=trace)
        except Exception:
            return Outcome(1, trace=traceback.format_exc())
    return Outcome(summary.exit_code, "; ".join(summary.failed.values()), summary)


@contextmanager
def _in_children() -> Iterator[None]:
    """Processes that the job may start have the scripted encoder as well."""
    hooked = environment("faults.encoder")
    site = hooked["PYTHONPATH"].partition(os.pathsep)[0]
    with patch.dict(os.environ, hooked), patch.object(sys, "path", [site, *sys.path]):
        yield


@contextmanager
def _small_reads() -> Iterator[None]:
    """A file of 20 KB is read in many requests, as one of gigabytes would be: it can change between any two of them."""
    with patch.object(streams, "BLOCK_BYTES", READ_BYTES), patch.object(pinned, "_SMALLEST_BYTES", READ_BYTES):
        yield


def exact(config: Config, world: World, model: str) -> oracle.Verdict:
    """The newest snapshot against the source as it is now."""
    return oracle.check(config.output.path, world.texts(), model)


def mixed(config: Config, world: World, model: str) -> list[str]:
    """Files whose published rows are those of no version that the file ever had. None may be, at any time."""
    output = oracle.reader(config.output.path)
    entry = oracle.newest(output)
    if entry is None:
        return []
    found: dict[str, list[oracle.Row]] = {}
    for row in oracle.rows(output, entry):
        found.setdefault(row.id[0], []).append(row)
    return [
        name
        for name, rows in found.items()
        if not any(oracle.judge(rows, version, model).right for version in world.past[name])
    ]


def settle(config: Config, world: World, model: str) -> tuple[Outcome, oracle.Verdict]:
    """Run again as a user would: with the drop allowed, and once what is damaged is mended."""
    if world.damaged:
        run(config, allow_drop=True)
        world.mend()
    again = run(config, allow_drop=True)
    return again, exact(config, world, model) if again.code == 0 else oracle.Verdict(0, lost=list(world.texts()))
