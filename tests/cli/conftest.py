"""Commands in this process, and a published output to look at."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs import write_parquet

import pipeline
from pipeline.cli.app import main
from pipeline.config.load import load_config


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs `embedpipe ARGUMENTS…`; its logging is taken down again afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    yield call
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


@dataclass(frozen=True)
class Job:
    """A job on disk."""

    file: Path  # its config
    source: Path  # folder of its input
    out: Path

    def change(self, **changes: Any) -> None:
        """Set dotted keys of the config, `__` for the dot."""
        raw = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        for key, value in changes.items():
            section, _, name = key.partition("__")
            raw.setdefault(section, {})[name] = value
        self.file.write_text(yaml.safe_dump(raw), encoding="utf-8")


def make_job(folder: Path, model: str) -> Job:
    """Three Parquet shards of 8 rows, not embedded yet."""
    for shard in range(3):
        write_parquet(folder / "in" / f"{shard}.parquet", range(8 * shard, 8 * shard + 8))
    job = Job(folder / "job.yaml", folder / "in", folder / "out")
    raw = {
        "input": {"paths": [str(job.source)], "text": "text", "id": "id", "keep": ["lang"]},
        "model": {"name": model},
        "output": {"path": str(job.out)},
        "execution": {"engine": "serial"},
    }
    job.file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return job


@pytest.fixture
def job(tmp_path: Path, tiny_model: str) -> Job:
    """A job that has not been run."""
    return make_job(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Job:
    """A job that has been run; to be looked at only."""
    job = make_job(tmp_path_factory.mktemp("published"), tiny_model)
    pipeline.run(load_config(job.file))
    return job


@pytest.fixture
def own(published: Job, tmp_path: Path) -> Job:
    """The same with an output of its own, to be damaged."""
    out = tmp_path / "out"
    shutil.copytree(published.out, out)
    job = Job(tmp_path / "job.yaml", published.source, out)
    shutil.copy(published.file, job.file)
    job.change(output__path=str(out))
    return job
