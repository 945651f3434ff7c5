"""The ground a run stands on changes under it: each scenario does one thing at one moment, then runs again as a user would."""

import errno
import os
import resource
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults import oracle
from faults.ground.model import swap_letters
from faults.ground.moments import ALL, INPUT, MODEL, OUTPUT, S3, at_moment
from faults.ground.running import Outcome, config_of, exact, mixed, run, settle
from faults.ground.world import Bucket, Folder, World
from faults.leftovers import manifest_units

from pipeline.config.schema import Config

MODEL_REFUSED, REFUSED, INCOMPLETE, CHANGED_OUTSIDE = 2, 3, 4, 6
"""Exit codes, by README.md. Each scenario names those that tell its user what happened."""


@dataclass(frozen=True)
class Ground:
    """Where scenarios work."""

    folder: Path  # empty
    model: str
    bucket: str | None = None  # s3://…/prefix: sources and outputs lie there instead

    def world(self, kind: str) -> World:
        """A fresh source."""
        place = Bucket(f"{self.bucket}/in") if self.bucket else Folder(self.folder / "in")
        return World(place, kind)

    @property
    def output(self) -> str:
        return f"{self.bucket}/out" if self.bucket else str(self.folder / "out")


@dataclass(frozen=True)
class Proof:
    """What a scenario showed."""

    first: Outcome  # the run under which the ground changed
    again: Outcome  # the run after it
    verdict: oracle.Verdict  # of what is published in the end
    mixed: tuple[str, ...]  # files of which the first run has published a mixture
    struck: bool  # whether the moment came at all
    may_end: tuple[int, ...]  # what the first run may end with besides 0, if it came
    untold: str = ""  # what a user should have been told and was not

    @property
    def ended_well(self) -> bool:
        """Whether the first run ended with an exit code that says what happened."""
        return self.first.code in ((0, *self.may_end) if self.struck else (0,))

    @property
    def right(self) -> bool:
        """Whether everything ended as it must."""
        well = self.ended_well and self.again.code == 0
        return well and self.verdict.right and not self.mixed and not self.untold

    def __str__(self) -> str:
        first = f"first {self.first} (allowed: 0 and {self.may_end})"
        return f"{first}\nagain {self.again}\nmixed {self.mixed}, {self.verdict}, struck {self.struck} {self.untold}"


def source_changes(ground: Ground, kind: str, how: str, moment: int, name: str = "b") -> Proof:
    """A file changes."""
    world = ground.world(kind)
    config = config_of(world, ground.output, ground.model)
    with at_moment(moment, lambda: world.change(how, name), S3 if ground.bucket else INPUT) as clock:
        first = run(config)
    if not clock.struck:
        world.change(how, name)
    may_end = (INCOMPLETE, REFUSED) if world.damaged else (INCOMPLETE,)
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=may_end)


def model_changes(ground: Ground, how: str, moment: int) -> Proof:
    """A file of the model changes or goes, or all of it; then the old model is laid back."""
    world = ground.world("jsonl")
    model = ground.folder / "model"
    shutil.copytree(ground.model, model)
    config = config_of(world, ground.output, str(model))
    with at_moment(moment, lambda: change_model(model, how), (*INPUT, *MODEL, *OUTPUT)) as clock:
        first = run(config)
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(ground.model, model)
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=(MODEL_REFUSED,))


def change_model(model: Path, how: str) -> None:
    """`tokenizer` and `weights` are written over in place, `card` is a file more, `gone` is all of it."""
    if how == "gone":
        shutil.rmtree(model)
    elif how == "card":
        (model / "vocab.json").write_text("{}")
    elif how == "tokenizer":
        swap_letters(next(model.rglob("tokenizer.json")))
    else:
        weights = next(model.rglob("*.safetensors"))
        data = weights.read_bytes()
        with weights.open("r+b") as file:
            file.write(data[:-64] + bytes(64))


def output_goes(ground: Ground, moment: int) -> Proof:
    """The output folder is taken away under the run."""
    world = ground.world("parquet")
    config = config_of(world, ground.output, ground.model)
    with at_moment(moment, lambda: shutil.rmtree(ground.output, ignore_errors=True), ALL) as clock:
        first = run(config)
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=(INCOMPLETE, CHANGED_OUTSIDE))


def disk_is_full(ground: Ground, number: int, moment: int) -> Proof:
    """From a moment on nothing is flushed or named, and no folder made: `number` is the system's reason."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    points = ((os, "fsync"), (os, "link"), (Path, "mkdir"))
    with at_moment(moment, refuse, points, forever=True) as clock:
        first = run(config)
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=(INCOMPLETE,))


def handles_run_out(ground: Ground, kind: str, left: int, moment: int) -> Proof:
    """From a moment on this process may open only so many files more at a time."""
    world = ground.world(kind)
    config = config_of(world, ground.output, ground.model)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def take() -> None:
        highest = max(int(handle.name) for handle in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + left + 1, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())

    try:
        with at_moment(moment, take, (*INPUT, *OUTPUT)) as clock:
            first = run(config)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for handle in taken:
            os.close(handle)
    # REFUSED: where not even the input can be listed, its listing is what the message is about.
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=(INCOMPLETE, REFUSED))


def threads_run_out(ground: Ground, moment: int) -> Proof:
    """From a moment on no thread can be started."""
    world = ground.world("parquet")
    config = config_of(world, ground.output, ground.model)

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    with at_moment(moment, refuse, ((threading.Thread, "start"),), forever=True) as clock:
        first = run(config)
    return _settled(config, world, ground.model, first, struck=clock.struck, may_end=(INCOMPLETE,))


def interrupted(config: Config, moment: int, **options: Any) -> tuple[Outcome, bool]:
    """A run that ends at a moment as if it were killed there; whether it was."""

    def end() -> None:
        raise KeyboardInterrupt

    with at_moment(moment, end, (*INPUT, *MODEL, *OUTPUT)) as clock:
        try:
            return run(config, **options), False
        except KeyboardInterrupt:
            return Outcome(INCOMPLETE, "interrupted"), clock.struck


def clock_jumps(ground: Ground, seconds: float, moment: int) -> Proof:
    """A run is interrupted; the next one lives on another day."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    first, struck = interrupted(config, moment)
    with another_day(seconds):
        return _settled(config, world, ground.model, first, struck=struck, may_end=(INCOMPLETE,))


SAME_SPEC: Mapping[str, Mapping[str, Any]] = {
    "threads": {"execution__threads": 2},
    "batches": {"execution__token_budget": 512},
    "patience": {"execution__max_attempts": 1, "execution__unit_timeout_s": 60},
    "file size": {"output__file_mib": 1},
    "append": {"output__mode": "append"},
}
"""Settings that decide no row: what is committed is gone on with."""

OTHER_SPEC: Mapping[str, Mapping[str, Any]] = {
    "smaller units": {"units__rows": 50},
    "another precision": {"model__precision": "exact"},
    "fewer tokens": {"model__max_tokens": 100},
    "another policy for rows": {"rows__empty": "quarantine"},
}
"""Settings that make another spec, though of these texts the same vectors."""


def config_changes(ground: Ground, kind: str, change: str, moment: int) -> Proof:
    """A run is interrupted; the next one has a setting changed. Where a spec is published already, another one is refused until
    its user says that it is meant."""
    world = ground.world(kind)
    config = config_of(world, ground.output, ground.model)
    first, struck = interrupted(config, moment)
    published = oracle.newest(oracle.reader(ground.output)) is not None
    other = config_of(world, ground.output, ground.model, **{**SAME_SPEC, **OTHER_SPEC}[change])
    proof = _settled(other, world, ground.model, first, struck=struck, may_end=(INCOMPLETE,))
    if not published or change in SAME_SPEC:
        return proof
    taken = "" if proof.again.code == REFUSED else "another spec went on where one is published"
    again = run(other, replace=True)
    return replace(proof, again=again, verdict=exact(other, world, ground.model), untold=taken)


def dtype_changes(ground: Ground, moment: int) -> Proof:
    """A run is interrupted on a machine with bfloat16 and goes on on one without: its user is told, where both are published."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    first, struck = interrupted(config, moment, dtype="bfloat16")
    proof = _settled(config, world, ground.model, first, struck=struck, may_end=(INCOMPLETE,))
    due = {"bfloat16", "float32"} <= formats(ground.output)
    messages = proof.again.summary.messages if proof.again.summary else ()
    told = any("computed in bfloat16" in text for text in messages)
    return proof if told == due else replace(proof, untold=f"both number formats: {due}, told: {told}")


def formats(output: str) -> set[str]:
    """Number formats of the units in the newest manifest."""
    entry = oracle.newest(oracle.reader(output))
    return {unit["dtype"] for unit in manifest_units(oracle.reader(output), entry)} if entry else set()


@contextmanager
def another_day(seconds: float) -> Iterator[None]:
    """Python's clocks are off by so much."""
    import time

    now, now_ns = time.time, time.time_ns
    with (
        patch.object(time, "time", lambda: now() + seconds),
        patch.object(time, "time_ns", lambda: now_ns() + int(seconds * 1e9)),
    ):
        yield


def _settled(
    config: Config, world: World, model: str, first: Outcome, *, struck: bool, may_end: tuple[int, ...]
) -> Proof:
    found = tuple(mixed(config, world, model))
    again, verdict = settle(config, world, model)
    return Proof(first, again, verdict, found, struck, may_end)


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
__all__ = ["NO_SPACE", "Ground", "Proof", "exact"]
