"""Links that lead a run where its config doesn't point: out of the input, into the output, out of the output."""

import json
import logging
from pathlib import Path
from typing import Any

from faults.security.case import Case, World, job, refused


class _Said(logging.Handler):
    """What the program has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _job(world: World) -> dict[str, dict[str, Any]]:
    """A job over a folder with one file."""
    source = world.folder / "in"
    source.mkdir()
    (source / "a.jsonl").write_text(json.dumps({"text": "a text"}) + "\n")
    return {
        "input": {"paths": [str(source)], "text": "text"},
        "model": {"name": world.model},
        "output": {"path": str(world.folder / "out")},
    }


def _out_of_the_input(world: World) -> None:
    """Somebody who may only write into the input has a file embedded that he may not read. Links are followed, so it is said."""
    raw = _job(world)
    (world.folder / "private.jsonl").write_text(json.dumps({"text": "a secret"}) + "\n")
    (world.folder / "in" / "b.jsonl").symlink_to(world.folder / "private.jsonl")
    said, logger = _Said(), logging.getLogger("pipeline.flow.job")
    logger.addHandler(said)
    try:
        job(raw)
    finally:
        logger.removeHandler(said)
    assert any(f"in/b.jsonl to {world.folder}/private.jsonl (1 in all)" in line for line in said.lines), said.lines


def _into_the_output(world: World) -> None:
    """The result would grow with every run."""
    raw = _job(world)
    job(raw)
    (world.folder / "in" / "b").symlink_to(world.folder / "out")
    assert "lies in output.path" in refused(lambda: job(raw), 2)


def _to_a_file_of_the_output(world: World) -> None:
    raw = _job(world)
    job(raw)
    [published] = (world.folder / "out" / "data").glob("*.parquet")
    (world.folder / "in" / "b.parquet").symlink_to(published)
    assert "lies in output.path" in refused(lambda: job(raw), 2)


def _output_behind_a_link(world: World) -> None:
    """What the config says lies side by side is one inside the other."""
    raw = _job(world)
    (world.folder / "elsewhere").symlink_to(world.folder / "in")
    raw["output"]["path"] = str(world.folder / "elsewhere" / "out")
    assert "put them side by side" in refused(lambda: job(raw), 2)
    assert [path.name for path in (world.folder / "in").iterdir()] == ["a.jsonl"]


def _data_into_the_input(world: World) -> None:
    """`data` of the output is a link into the input: taken for the first run, which publishes, and refused for the next."""
    raw = _job(world)
    (world.folder / "in" / "deep").mkdir()
    (world.folder / "out").mkdir()
    (world.folder / "out" / "data").symlink_to(world.folder / "in" / "deep")
    job(raw)
    assert "lies in output.path" in refused(lambda: job(raw), 2)


def _data_elsewhere(world: World) -> None:
    """`data` of the output is a link to another folder: rows lie there, once, and a run over them finds nothing to do."""
    raw = _job(world)
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    (world.folder / "out").mkdir()
    (world.folder / "out" / "data").symlink_to(elsewhere)
    assert job(raw).rows == 1
    assert not job(raw).published
    assert Path(world.folder, "out", "data").is_symlink()
    assert len(list(elsewhere.iterdir())) == 1


CASES = [
    Case("a link out of the input", _out_of_the_input),
    Case("a link to the output", _into_the_output),
    Case("a link to a file of the output", _to_a_file_of_the_output),
    Case("an output behind a link into the input", _output_behind_a_link),
    Case("data of the output are in the input", _data_into_the_input),
    Case("data of the output are elsewhere", _data_elsewhere),
]
