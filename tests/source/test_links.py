"""Links in an input: followed and told of, but never into the output or what a run keeps beside it."""

import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.source.discover import discover
from pipeline.source.links import check_apart, check_kept, leading_out
from pipeline.source.records import InputFile

from .conftest import source_of


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A result with one published file."""
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "file.parquet").touch()
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An input folder with one file."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.jsonl").touch()
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("in/l", "out"),
        ("in/l", "out/data"),
        ("in/deep/l.parquet", "out/data/file.parquet"),
        ("in/l", "."),
        ("in/l", "spare"),
    ],
)
def test_a_file_in_the_output_is_refused_whatever_link_led_to_it(
    tmp_path: Path, output: Path, folder: Path, link: str, target: str
) -> None:
    """Each run would embed what the one before it has published, and publish more. `spare`: the output is itself a link there."""
    (tmp_path / "spare").symlink_to(output)
    (tmp_path / link).symlink_to(tmp_path / target)
    files = discover(source_of(folder))
    for spelling in (output, tmp_path / "spare"):
        with pytest.raises(ConfigError, match=r"in/\S+\.parquet lies in output\.path .*; put them side by side"):
            check_apart(files, str(spelling))


def test_a_result_whose_data_are_elsewhere_is_refused_there_too(tmp_path: Path, folder: Path) -> None:
    """`data` of the output may be a link to a larger disk, and that disk hold the input."""
    (folder / "published").mkdir()
    (folder / "published" / "file.parquet").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").symlink_to(folder / "published")
    with pytest.raises(ConfigError, match=r"in/published/file\.parquet lies in output\.path"):
        check_apart(discover(source_of(folder)), str(tmp_path / "out"))


@pytest.mark.parametrize("partition", ["lang=en", "lang=en/day=1"])
def test_a_partition_that_was_moved_to_another_disk_is_refused_there_too(
    tmp_path: Path, output: Path, folder: Path, partition: str
) -> None:
    """Its folder in `data` is a link, and so is the one that leads there from the input."""
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "file.parquet").touch()
    (output / "data" / partition).parent.mkdir(exist_ok=True)
    (output / "data" / partition).symlink_to(tmp_path / "moved")
    (folder / "l").symlink_to(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"in/l/file\.parquet lies in output\.path"):
        check_apart(discover(source_of(folder)), str(output))


@pytest.mark.parametrize(
    ("link", "target"), [("in/l.jsonl", "kept/events.jsonl"), ("in/l", "kept"), ("in/deep/l", ".")]
)
@pytest.mark.parametrize("place", ["kept/events.jsonl", "kept", "spelling/events.jsonl"])
def test_what_a_run_writes_for_itself_is_refused_whatever_link_led_to_it(
    tmp_path: Path, folder: Path, link: str, target: str, place: str
) -> None:
    """Nothing that is known from the config's paths alone tells that the one lies in the other."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "events.jsonl").touch()
    (tmp_path / "spelling").symlink_to("kept")
    (tmp_path / link).symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match=r"execution\.events: \S+\.jsonl of input\.paths is what a run writes there"):
        check_kept(discover(source_of(folder)), {"execution.events": str(tmp_path / place)})


def test_what_lies_beside_what_a_run_writes_for_itself_is_taken(folder: Path) -> None:
    places = {"execution.events": f"{folder}/deep/a", "execution.model_cache": None}
    check_kept(discover(source_of(folder)), places)


@pytest.mark.parametrize("place", ["out", "output", "in-embedded", "in/deep/o"])
def test_what_lies_beside_the_output_is_taken(tmp_path: Path, output: Path, folder: Path, place: str) -> None:
    """A name that begins alike is another folder, and an output that isn't there yet has no files."""
    (folder / "outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jsonl").touch()
    check_apart(discover(source_of(folder)), str(tmp_path / place))


def test_an_object_below_the_output_is_refused_by_its_uri() -> None:
    """A bucket has no links, but a pattern with a wildcard in the middle may reach there too."""
    file = InputFile("s3://b/x/out/data/file.parquet", "1", 1, "parquet", "none", "file.parquet")
    with pytest.raises(ConfigError, match=r"s3://b/x/out/data/file\.parquet lies in output\.path \(s3://b/x/out\)"):
        check_apart([file], "s3://b/x/out")
    check_apart([file], "s3://b/x/ou")


def test_links_out_of_the_named_folders_are_found_with_where_they_lead(tmp_path: Path, folder: Path) -> None:
    """Whoever may put a link into the input chooses what is embedded: that must not go unseen."""
    secret = tmp_path / "secret.txt"
    secret.touch()
    (folder / "b.txt").symlink_to(secret)
    (folder / "deep" / "c.jsonl").symlink_to(folder / "deep" / "a.jsonl")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.txt").touch()
    (folder / "l").symlink_to(tmp_path / "more")
    (tmp_path / "spelling").symlink_to(folder)

    def found(*paths: Path) -> list[str]:
        source = source_of(*paths)
        return [
            f"{Path(link).relative_to(tmp_path)} {Path(real).relative_to(tmp_path)}"
            for link, real in leading_out(discover(source), source.paths)
        ]

    assert found(folder) == found(folder / "**") == ["in/b.txt secret.txt", "in/l/d.txt more/d.txt"]
    assert found(folder, tmp_path / "more") == ["in/b.txt secret.txt"]
    assert found(tmp_path / "spelling" / "*.txt") == ["spelling/b.txt secret.txt"]
    assert found(folder / "b.txt", tmp_path / "spelling" / "deep", tmp_path) == []


def test_a_hundred_files_of_one_folder_have_it_looked_up_once(
    folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input may hold a hundred thousand files on a disk far away."""
    for number in range(100):
        (folder / "deep" / f"{number}.jsonl").touch()
    files = discover(source_of(folder))
    resolved: list[object] = []
    monkeypatch.setattr(os.path, "realpath", lambda path: resolved.append(path) or str(path).rstrip("/"))
    check_apart(files, str(output))
    assert len(resolved) == 1
