"""A source that changes under the run. What is published is never a mixture of two versions of a file, and the next run has
the newest one."""

import random
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from faults.encoder import ScriptedEncoder
from faults.ground.moments import INPUT, at_moment
from faults.ground.running import config_of, exact, run, settle
from faults.ground.scenarios import Ground, source_changes
from faults.ground.world import FORMATS, NAMES, Folder, overwrite

from pipeline.errors import InputError, SourceChanged
from pipeline.source import footers
from pipeline.storage import inputs

TOGETHER = [
    (kind, how) for i, kind in enumerate(FORMATS) for j, how in enumerate(Folder.changes) if (i + j) % 4 == 0
]  # each format meets one or two changes here, and all of them in the soak


@pytest.mark.parametrize(("kind", "how"), TOGETHER)
def test_a_file_that_changes_at_any_moment_is_read_as_one_version(ground: Ground, kind: str, how: str) -> None:
    proof = source_changes(ground, kind, how, random.Random(f"{kind} {how}").randrange(8, 45))
    assert proof.struck
    assert proof.right, proof


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_files_overwritten_in_the_middle_of_the_run_are_read_anew(ground: Ground, kind: str) -> None:
    """One has been read, which is the next run's to read again; one is being read, one will be. Size and time of modification
    stay."""
    world = ground.world(kind)
    config = config_of(world, ground.output, ground.model)
    with at_moment(6, lambda: [world.change("overwrite", name) for name in NAMES], ((ScriptedEncoder, "encode"),)):
        assert run(config).code == 0
    found = exact(config, world, ground.model)
    assert found.lost == found.foreign == found.doubled == []
    assert len({name.partition("-")[0] for name in found.mispaired}) <= 1
    assert run(config).code == 0
    assert exact(config, world, ground.model).right


@pytest.mark.parametrize(("kind", "how"), [("parquet", "overwrite"), ("jsonl", "remove")])
def test_an_object_that_changes_between_two_requests_is_read_as_one_version(
    bucket: Ground, kind: str, how: str
) -> None:
    proof = source_changes(bucket, kind, how, 40)
    assert proof.struck
    assert proof.right, proof


def test_an_object_overwritten_between_two_ranged_reads_is_noticed(s3_bucket: str) -> None:
    """Of the same size, so that only its ETag can tell."""
    from boto3 import client

    bucket = s3_bucket.removeprefix("s3://")
    client("s3").put_object(Bucket=bucket, Key="a.jsonl", Body=b"a" * 400_000)
    found = inputs.find(f"{s3_bucket}/a.jsonl")
    assert found is not None
    with inputs.open_input(found.uri, found.version) as stream:
        assert stream.read(1000) == b"a" * 1000
        client("s3").put_object(Bucket=bucket, Key="a.jsonl", Body=b"b" * 400_000)
        with pytest.raises(SourceChanged):
            stream.read()


@pytest.mark.parametrize("how", Folder.changes)
def test_every_change_of_a_local_file_shows_in_its_version(tmp_path: Path, how: str) -> None:
    """Among them the one that leaves name, size and time of modification as they were."""
    place = Folder(tmp_path / "in")
    place.put("a.txt", b"one line\n")
    path = f"{place.path}/a.txt"
    before = inputs.find(path)
    place.change(how, "a.txt", {"truncate": b"one", "append": b"one line\nanother\n"}.get(how, b"two line\n"))
    after = inputs.find(path)
    assert before is not None
    assert after is None or after.version != before.version


def test_a_file_that_was_overwritten_under_the_reader_fails_even_where_all_bytes_were_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * 300_000)
    found = inputs.find(str(path))
    assert found is not None
    with ExitStack() as stack:
        stream = stack.enter_context(inputs.open_input(found.uri, found.version))
        stream.read(100_000)
        overwrite(path, b"b" * 300_000)
        assert len(stream.read()) == 200_000
        with pytest.raises(SourceChanged):
            stack.close()


def test_a_folder_in_place_of_a_planned_file_is_a_changed_source(tmp_path: Path) -> None:
    """It must not be taken for a file that can't be read: that would be recorded."""
    place = Folder(tmp_path / "in")
    place.put("a.txt", b"text\n")
    found = inputs.find(f"{place.path}/a.txt")
    assert found is not None
    place.change("folder", "a.txt", b"")
    with pytest.raises(SourceChanged), inputs.open_input(found.uri, found.version):
        pass


def test_a_file_that_goes_while_the_folder_is_listed_ends_the_run_for_now(ground: Ground) -> None:
    """Taking it for gone could drop its rows: under its new name it may have been overlooked."""
    world = ground.world("csv")
    config = config_of(world, ground.output, ground.model)
    looking = inputs._status
    seen: list[str] = []

    def status(path: str) -> object:
        if path.endswith("b.csv") and not seen:
            seen.append(path)
            Path(path).unlink()
        return looking(path)

    with patch.object(inputs, "_status", status):
        first = run(config)
    assert seen
    assert first.code == SourceChanged.exit_code
    assert "is gone or has changed" in first.message
    world.place.put("b.csv", Path(world.place.path, "a.csv").read_bytes().replace(b"a", b"b"))
    assert run(config).code == 0


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="leads nowhere"):
        inputs.expand([str(tmp_path)])


def test_a_file_whose_footer_could_not_be_read_for_a_moment_is_read_whole(ground: Ground) -> None:
    """Its piece is measured in bytes then, and this one has more rows than bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 40_000
    source = ground.folder / "in" / "a.parquet"
    world = ground.world("parquet")
    for path in Path(world.place.path).iterdir():
        path.unlink()
    pq.write_table(pa.table({"text": ["always the same"] * rows}), source, row_group_size=4000, compression="zstd")
    assert source.stat().st_size < rows - 4000
    config = config_of(world, ground.output, ground.model, input__id=None, units__rows=16_384)
    with patch.object(footers, "_footer", lambda _: None):
        outcome = run(config)
    assert outcome.code == 0, outcome
    assert outcome.summary is not None
    assert outcome.summary.rows == rows


def test_a_file_that_grows_faster_than_it_is_read_ends_the_run_and_is_named(ground: Ground) -> None:
    """Each round commits units, of a version that is gone at its end: progress that leads nowhere."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    path = Path(world.place.path, "b.jsonl")
    line = path.read_text().splitlines()[0]
    rows = iter(range(1000))

    def grow() -> None:
        with path.open("a") as file:
            file.write(line.replace("b-00000", f"b-{1000 + next(rows)}") + "\n")

    with at_moment(1, grow, ((ScriptedEncoder, "encode"),), forever=True):
        outcome = run(config)
    assert outcome.code == 4
    assert "b.jsonl changed under its reader" in outcome.message
    assert run(config).code == 0


def test_a_run_that_is_not_disturbed_is_right_at_once(ground: Ground) -> None:
    """Else what the other tests show would prove nothing."""
    world = ground.world("jsonl")
    config = config_of(world, ground.output, ground.model)
    with at_moment(0, points=INPUT) as clock:
        assert run(config).code == 0
    assert clock.count > 60
    assert exact(config, world, ground.model).right
    world.change("overwrite")
    assert exact(config, world, ground.model).mispaired, "the judge doesn't see an old version"
    assert settle(config, world, ground.model)[1].right
