"""`convert-model`: old weights become safetensors without running what a pickle may hold."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling
from support.models import HIDDEN, SENTENCES, make_transformer, save_model
from support.space import nothing_fits

from pipeline.errors import ModelError, StorageError
from pipeline.model.convert import convert_model
from pipeline.model.inspect import inspect_model


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A model as it was saved in 2020: every weight a pickle."""
    modules = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN), Dense(HIDDEN, 8)]
    directory = Path(save_model(tmp_path / "old", modules))
    for path in directory.rglob("model.safetensors"):
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()
    (directory / "optimizer.pt").write_bytes(b"no use")
    return directory


def vectors(directory: Path) -> Any:
    model = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    return model.encode(SENTENCES, show_progress_bar=False)


def test_the_copy_gives_the_same_vectors_and_is_accepted(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="convert-model"):
        inspect_model(old, "m", None)
    [dense] = old.glob("2_*")
    converted = convert_model(str(old), str(tmp_path / "new"))
    assert converted == [f"{dense.name}/model.safetensors", "model.safetensors"]
    assert inspect_model(tmp_path / "new", "m", None).dimensions == 8
    assert np.array_equal(vectors(old), vectors(tmp_path / "new"))
    left = {
        path.relative_to(old).as_posix()
        for path in old.rglob("*")
        if path.is_file() and path.suffix not in (".bin", ".pt")
    }
    made = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert made == left | set(converted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "new", "old"]


def test_tensors_that_share_memory_are_written_apart(old: Path, tmp_path: Path) -> None:
    """Tied embeddings, views and transposed tensors: safetensors itself refuses to write them."""
    file = old / "pytorch_model.bin"
    tensors = torch.load(file, weights_only=True)
    words = tensors["embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = words
    tensors["embeddings.position_ids"] = torch.arange(66).expand((1, -1))
    dense = "encoder.layer.0.output.dense.weight"
    tensors[dense] = tensors[dense].t().contiguous().t()
    expected = vectors(old)
    torch.save(tensors, file)
    convert_model(str(old), str(tmp_path / "new"))
    assert np.array_equal(vectors(tmp_path / "new"), expected)
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(found["cls.predictions.decoder.weight"], words)


def test_weights_in_several_files_stay_in_several_files(old: Path, tmp_path: Path) -> None:
    expected = vectors(old)
    tensors = torch.load(old / "pytorch_model.bin", weights_only=True)
    names = sorted(tensors)
    where = {name: f"pytorch_model-{1 + n % 2:05}-of-00002.bin" for n, name in enumerate(names)}
    for file in set(where.values()):
        torch.save({name: tensors[name] for name in names if where[name] == file}, old / file)
    (old / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    (old / "pytorch_model.bin").unlink()
    assert len(convert_model(str(old), str(tmp_path / "new"))) == 3
    assert np.array_equal(vectors(tmp_path / "new"), expected)
    lock = inspect_model(tmp_path / "new", "m", None)
    assert lock.max_tokens == 66  # the table of positions is in one of the two files
    assert not any("bin" in name for name, _ in lock.files)


class Canary:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("old_format", [True, False])
def test_a_pickle_with_code_is_refused_and_the_code_never_runs(old: Path, tmp_path: Path, old_format: bool) -> None:
    place = tmp_path / "canary"
    weights = {"weight": Canary(place)}
    if old_format:
        (old / "pytorch_model.bin").write_bytes(pickle.dumps(weights))
    else:
        torch.save(weights, old / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is not plain weights"):
        convert_model(str(old), str(tmp_path / "new"))
    assert not place.exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", [1, 2], {"a": 1}, torch.ones(2)]
)
def test_what_is_no_set_of_tensors_is_refused(old: Path, tmp_path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        (old / "pytorch_model.bin").write_bytes(content)
    else:
        torch.save(content, old / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is not plain weights: ."):
        convert_model(str(old), str(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "old"]


def test_safetensors_that_are_there_already_are_kept(old: Path, tmp_path: Path) -> None:
    convert_model(str(old), str(tmp_path / "new"))
    (tmp_path / "new" / "pytorch_model.bin").write_bytes(b"never looked at")
    assert convert_model(str(tmp_path / "new"), str(tmp_path / "again")) == []
    assert np.array_equal(vectors(tmp_path / "again"), vectors(old))


def refused_for_code(old: Path) -> None:
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.X"}}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda old: (old / "modules.json").unlink(), "is not a sentence-transformers model"),
        (refused_for_code, "asks for code from outside"),
        (lambda old: shutil.copytree(old, old.with_name("new")), "is not empty; name a new directory"),
    ],
)
def test_a_model_that_would_still_be_refused_is_not_written(
    old: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(old)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ModelError, match=message):
        convert_model(str(old), str(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_empty_directory_may_be_the_target(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new").mkdir()
    convert_model("old", "new")
    inspect_model(tmp_path / "new", "m", None)


@pytest.mark.parametrize("copied", ["nothing", "all but the weights"])
def test_a_full_disk_is_no_bug_and_leaves_nothing(old: Path, tmp_path: Path, copied: str) -> None:
    others = [path.stat().st_size for path in old.rglob("*") if path.suffix not in (".bin", ".pt")]
    room = 0 if copied == "nothing" else max(others)
    assert room < max(path.stat().st_size for path in old.rglob("*.bin")) - 1000
    with nothing_fits(beyond=room), pytest.raises(StorageError, match=f"writing {tmp_path / 'new'}: .*File too large"):
        convert_model(str(old), str(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "old"]


def test_a_file_that_cant_be_copied_is_named(old: Path, tmp_path: Path) -> None:
    (old / "away.json").symlink_to(old / "nothing")
    with pytest.raises(StorageError, match=r"a file of the model can't be copied: .*No such file.*away\.json"):
        convert_model(str(old), str(tmp_path / "new"))


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_a_list_of_weights_that_says_nothing_is_named(old: Path, tmp_path: Path, content: str) -> None:
    """Half a download: it ended as a bug."""
    index = old / "pytorch_model.bin.index.json"
    index.write_text(content)
    with pytest.raises(ModelError, match=rf"^{index} "):
        convert_model(str(old), str(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "old"]


@pytest.mark.parametrize("place", ["file/new", "file/a/b", "link/new"])
def test_a_place_where_no_directory_can_be_is_no_bug(old: Path, tmp_path: Path, place: str) -> None:
    """Below a file, and below a link that leads nowhere."""
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=f"writing {tmp_path / place}: .*; name a new directory in one that"):
        convert_model(str(old), str(tmp_path / place))
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_model_is_refused_as_when_it_runs(old: Path, tmp_path: Path, kind: str) -> None:
    """Copied, what it leads to would be part of the new model, which then runs without a word."""
    secret = tmp_path / "elsewhere" / "secret.json"
    secret.parent.mkdir()
    secret.write_text("{}")
    link = old / "more.json"
    link.symlink_to(secret if kind == "file" else secret.parent)
    with pytest.raises(ModelError, match=rf"^{link} is a link to a place outside the model directory; copy the file"):
        convert_model(str(old), str(tmp_path / "new"))
    assert not list(tmp_path.glob("*new*"))
