"""One attack: a name, and what is done. What must come of it is a refusal, or nothing."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults.encoder import ScriptedEncoder
from faults.security.canary import Canary

from pipeline.config.load import check_config
from pipeline.errors import EmbedpipeError
from pipeline.flow import encoding
from pipeline.flow.context import JobContext
from pipeline.flow.summary import Summary
from pipeline.flow.supervisor import run_job
from pipeline.quality.gate import GateResult


@dataclass(frozen=True)
class World:
    """Where an attack takes place."""

    folder: Path  # empty
    model: str  # directory of a small model, which is left as it is
    canary: Canary


@dataclass(frozen=True)
class Case:
    """An attack. `act` raises AssertionError where it succeeds."""

    name: str
    act: Callable[[World], None]

    def violation(self, world: World) -> str:
        """What went wrong; "" when nothing did."""
        try:
            self.act(world)
        except AssertionError as error:
            return f"{self.name}: {error}; canary: {world.canary.dead or 'alive'}"
        except Exception:
            return f"{self.name}: {traceback.format_exc()}; canary: {world.canary.dead or 'alive'}"
        dead = world.canary.dead
        return f"{self.name}: {dead}" if dead else ""


def refused(call: Callable[[], object], *codes: int) -> str:
    """The message with which the program refuses, as it would tell the user; the exit code must be one of `codes` (2, 3)."""
    try:
        result = call()
    except EmbedpipeError as error:
        if error.exit_code not in (codes or (2, 3)):
            raise AssertionError(f"exit code {error.exit_code}: {error.message}") from error
        return error.message
    raise AssertionError(f"it was taken: {result!r:.300}")


def job(raw: dict[str, dict[str, Any]]) -> Summary:
    """Run a job through all that a config passes, with the scripted encoder in this process."""

    def load(context: JobContext, _threads: int | None) -> tuple[ScriptedEncoder, GateResult]:
        gate = GateResult(
            1, 1.0, 0.0, finite=True, zero_rows_match=True, device="cpu", dtype="float32", reason="scripted"
        )
        return ScriptedEncoder(context.model.stage().directory), gate

    with patch.object(encoding, "load_replica", load):
        return run_job(check_config({"execution": {"engine": "serial"}, **raw}, "job"))
