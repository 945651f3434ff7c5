"""An input that is written to while it is embedded: a run takes what it found, and publishes it."""

from collections.abc import Callable
from pathlib import Path

from support.jobs import glob_rows, make_config, write_jsonl

from pipeline.flow.supervisor import run_job
from pipeline.progress.events import Event, UnitDone


class Meanwhile:
    """A reporter that does something whenever a unit is done."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act, self.units = act, 0

    def emit(self, event: Event) -> None:
        if isinstance(event, UnitDone):
            self.units += 1
            self.act(self.units)


def ids(rows: range) -> list[str]:
    return sorted(f"id-{row}" for row in rows)


def test_files_that_come_while_a_run_is_at_it_are_the_next_runs(tmp_path: Path, tiny_model: str) -> None:
    """Listed anew in each round, a source that is written to all night is never done, and nothing of it published."""
    source, output = tmp_path / "in", str(tmp_path / "out")
    write_jsonl(source / "a.jsonl", range(10))
    writer = Meanwhile(
        lambda n: write_jsonl(source / f"new-{n}.jsonl", range(100 * n, 100 * n + 5)) if n < 30 else None
    )
    config = make_config(source, output, tiny_model)
    assert run_job(config, reporter=writer).state == "done"
    assert writer.units == 1
    assert glob_rows(output) == ids(range(10))
    run_job(config)
    assert glob_rows(output) == sorted([*ids(range(10)), *ids(range(100, 105))])


def test_a_file_that_is_written_over_after_it_was_read_is_published_as_it_was(tmp_path: Path, tiny_model: str) -> None:
    """A log that grows is encoded whole in each round, and its run ends when its writer does."""
    source, output = tmp_path / "in", str(tmp_path / "out")
    for name, first in (("a", 0), ("b", 50)):
        write_jsonl(source / f"{name}.jsonl", range(first, first + 10))
    writer = Meanwhile(lambda n: write_jsonl(source / "a.jsonl", range(10 + n)) if n < 30 else None)
    config = make_config(source, output, tiny_model, units__rows=5)
    assert run_job(config, reporter=writer).state == "done"
    assert set(ids(range(50, 60))) < set(glob_rows(output))
    assert writer.units < 30
    run_job(config)
    assert glob_rows(output) == sorted([*ids(range(10 + writer.units)), *ids(range(50, 60))])


def test_a_writers_temporary_file_ends_no_run_that_has_begun(tmp_path: Path, tiny_model: str) -> None:
    """Its name tells no format; at the next listing it has the name that it was to have."""
    source, output = tmp_path / "in", str(tmp_path / "out")
    write_jsonl(source / "a.jsonl", range(10))
    writer = Meanwhile(lambda _: (source / "b.jsonl.tmp").write_text("{"))  # type: ignore[arg-type, return-value]
    assert run_job(make_config(source, output, tiny_model), reporter=writer).state == "done"
    assert glob_rows(output) == ids(range(10))
