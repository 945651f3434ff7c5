"""Finding a model by name and laying it on this node, offline from then on."""

import hashlib
import importlib.util
import os
import re
import shutil
import uuid
from functools import partial
from pathlib import Path

from filelock import FileLock

from pipeline.errors import EmbedpipeError, InputError, ModelError
from pipeline.model.inspect import LOADED_SUFFIXES, hash_files, inspect_model
from pipeline.model.lock import ModelLock, StagedModel
from pipeline.storage.inputs import expand, open_input
from pipeline.storage.uri import parse

REVISION = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
COPY_BYTES = 8 << 20


def resolve_model(name: str, revision: str | None, cache: str | None) -> StagedModel:
    """The model called `name`, on this node.

    name: a directory · an fsspec URL of one · `package:NAME`, a model carried by an installed package · a hub id with a
    `revision` of 40 hexadecimal characters. cache: where URLs and hub models are staged; default ~/.cache/embedpipe.

    Raises ModelError when it isn't found or is refused.
    """
    directory = _locate(name, revision, cache)
    return StagedModel(str(directory), inspect_model(directory, name, revision))


def stage_model(name: str, revision: str | None, cache: str | None, lock: ModelLock) -> StagedModel:
    """The model called `name` on this node, whose files must be those it was locked with elsewhere. Raises ModelError."""
    staged = StagedModel(str(_locate(name, revision, cache)), lock)
    check_model(staged)
    return staged


def portable_name(name: str) -> str:
    """The name as another working directory or machine understands it: a relative directory becomes an absolute one."""
    is_directory = bool(name) and "://" not in name and Path(name).expanduser().is_dir()
    return str(parse(name)) if is_directory else name


def check_model(staged: StagedModel) -> None:
    """Raises ModelError when the files on this node are not exactly those the model was locked with."""
    expected, found = dict(staged.lock.files), dict(hash_files(Path(staged.directory)))
    for path in sorted({**expected, **found}):
        if expected.get(path) != found.get(path):
            what = "new" if path not in expected else "missing" if path not in found else "another file"
            raise ModelError(
                f"{Path(staged.directory, path)} is {what}: the model {staged.lock.name!r} was locked with sha256 "
                f"{expected.get(path, '(none)')}. It changed since the job was resolved, or this node has another copy; run again"
            )


def _locate(name: str, revision: str | None, cache: str | None) -> Path:
    kept = Path(cache or Path.home() / ".cache" / "embedpipe").expanduser()
    if name.startswith("package:"):
        return _in_package(name.removeprefix("package:"))
    if "://" in name:
        return _staged(name, kept)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path.absolute()
    if path.is_absolute() or name.startswith((".", "~")) or not HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: there is no such model directory")
    return _from_hub(name, revision, kept)


def _in_package(package: str) -> Path:
    """The model directory inside an installed package, by the name it is imported or installed under.

    The package's own code is not run.
    """
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None:
        raise ModelError(
            f"package:{package}: no package of this name is installed here; `pip install` it on every node"
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = sorted({path.parent for folder in folders for path in folder.rglob("modules.json")})
    if len(found) != 1:
        raise ModelError(
            f"package:{package}: the package carries {len(found) or 'no'} sentence-transformers models (modules.json)"
            + (f"; name the directory of one, for example {found[0]}" if found else "")
        )
    return found[0]


def _staged(url: str, cache: Path) -> Path:
    """A copy of a model directory on an object store, one per content and node."""
    try:
        files = expand([url.rstrip("/") + "/"])
    except InputError as error:
        raise ModelError(f"model {url}: {error.message}") from error
    identity = hashlib.sha256("".join(f"{file.uri}\0{file.version}\n" for file in files).encode()).hexdigest()[:32]
    target = cache / "models" / identity
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return target
        temporary = target.with_name(f"{identity}.{uuid.uuid4().hex}")
        try:
            for file in files:
                path = temporary / file.uri[len(file.root.rstrip("/")) + 1 :]
                if ".." in path.parts:
                    raise ModelError(f"{file.uri} leads out of the model directory")
                if path.suffix in LOADED_SUFFIXES:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open_input(file.uri, file.version) as source, path.open("wb") as copy:
                        shutil.copyfileobj(source, copy, COPY_BYTES)
            temporary.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
        except ModelError:
            raise
        except EmbedpipeError as error:
            raise ModelError(f"model {url} can't be staged to {target}: {error.message}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _from_hub(name: str, revision: str | None, cache: Path) -> Path:
    if revision is None or not REVISION.fullmatch(revision):
        raise ModelError(
            f"{name} is neither a directory here nor a pinned hub model: set model.revision to the full commit "
            "(40 hexadecimal characters), so that the vectors can't change under the same name"
        )
    import huggingface_hub

    download = partial(
        huggingface_hub.snapshot_download,
        name,
        revision=revision,
        allow_patterns=[f"*{suffix}" for suffix in LOADED_SUFFIXES],
        ignore_patterns=["onnx/*", "openvino/*"],
    )
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cache / "hub.lock"):  # one download per node, however many workers ask
            found = download(cache_dir=cache / "hub", local_files_only=_offline())
    except Exception as error:  # the hub's client raises its own kinds, those of its HTTP library and OSError
        try:  # what other programs on this machine have downloaded
            found = download(local_files_only=True)
        except Exception:
            raise ModelError(
                f"{name} at {revision}: not in {cache / 'hub'} or huggingface_hub's cache, and not to be had from the hub "
                f"({type(error).__name__}). Without a hub, name a directory, an object store URL or package:NAME"
            ) from error
    return Path(found)


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
