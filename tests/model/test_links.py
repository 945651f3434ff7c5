"""Links in a model directory: files of the hub's cache are read through them, and folders are not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import ModelError
from pipeline.model.inspect import inspect_model


def identity(directory: Path) -> object:
    return inspect_model(directory, "m", None).identity()


@pytest.fixture
def model(tmp_path: Path, tiny_model: str) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def snapshot_of(model: Path) -> Path:
    """The same in the layout of the hub's cache: folders, with a link to a blob for each file."""
    cache = model.parent / "models--x"
    snapshot, blobs = cache / "snapshots" / ("0" * 40), cache / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        place = snapshot / path.relative_to(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blobs / f"{number}")
        place.symlink_to(blobs / f"{number}")
    return snapshot


def test_files_as_the_hub_lays_them_out_are_hashed_and_looked_at_through_their_links(model: Path) -> None:
    snapshot = snapshot_of(model)
    assert identity(snapshot) == identity(model)
    (snapshot.parent / "main").symlink_to(snapshot)
    assert identity(snapshot.parent / "main") == identity(model), "the directory itself may be a link"
    target = (snapshot / "1_Pooling" / "config.json").resolve()
    target.write_text(target.read_text().replace("{", '{"auto_map": {"AutoModel": "evil.Evil"},', 1))
    with pytest.raises(ModelError, match="'auto_map' asks for code from outside"):
        identity(snapshot)


def to_a_blob(model: Path) -> Path:
    snapshot = snapshot_of(model)
    shutil.move(snapshot / "1_Pooling", snapshot.parent.parent / "blobs" / "pool")
    (snapshot / "1_Pooling").symlink_to("../../blobs/pool")
    return snapshot


def within(model: Path) -> Path:
    (model / "1_Pooling").rename(model / "pool")
    (model / "1_Pooling").symlink_to("pool")
    return model


def beside(model: Path) -> Path:
    (model / "extra").symlink_to("1_Pooling")
    return model


def to_itself(model: Path) -> Path:
    (model / "extra").symlink_to(".")
    return model


@pytest.mark.parametrize("spoil", [to_a_blob, within, beside, to_itself])
def test_a_link_to_a_folder_is_refused(model: Path, spoil: Callable[[Path], Path]) -> None:
    """What lies in it was neither hashed nor looked at: another pooling gave other vectors under the same lock."""
    directory = spoil(model)
    with pytest.raises(
        ModelError, match="is a link to a folder, whose files are neither hashed nor looked at; copy the folder"
    ):
        identity(directory)
