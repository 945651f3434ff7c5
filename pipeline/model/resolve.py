"""Finding a model by name and laying it on this node, offline from then on."""

import hashlib
import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock

from pipeline.errors import EmbedpipeError, InputError, ModelError, StorageError
from pipeline.model.inspect import LOADED_SUFFIXES, hash_files, inspect_model
from pipeline.model.lock import ModelLock, StagedModel
from pipeline.storage.faults import translate
from pipeline.storage.inputs import Found, expand, open_input
from pipeline.storage.uri import local_path, parse

REVISION = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
COPY_BYTES = 8 << 20


def resolve_model(name: str, revision: str | None, cache: str | None) -> StagedModel:
    """The model called `name`, on this node.

    name: a directory · an fsspec URL of one · `package:NAME`, a model carried by an installed package · a hub id with a
    `revision` of 40 hexadecimal characters. cache: where URLs and hub models are staged; default ~/.cache/embedpipe.

    Raises ModelError when it isn't found or is refused, StorageError when it can't be laid into the cache.
    """
    directory = _locate(name, revision, cache)
    with _reading(directory):
        return StagedModel(str(directory), inspect_model(directory, name, revision))


def stage_model(name: str, revision: str | None, cache: str | None, lock: ModelLock) -> StagedModel:
    """The model called `name` on this node, whose files must be those it was locked with elsewhere. Raises as above."""
    staged = StagedModel(str(_locate(name, revision, cache)), lock)
    check_model(staged)
    return staged


def portable_name(name: str) -> str:
    """The name as another working directory or machine understands it: a relative directory becomes an absolute one."""
    is_directory = bool(name) and "://" not in name and local_path(name).is_dir()
    return str(parse(name)) if is_directory else name


def check_model(staged: StagedModel) -> None:
    """Raises ModelError when the files on this node are not exactly those the model was locked with."""
    directory = Path(staged.directory)
    with _reading(directory):
        expected, found = dict(staged.lock.files), dict(hash_files(directory))
    for path in sorted({**expected, **found}):
        if expected.get(path) != found.get(path):
            what = "new" if path not in expected else "missing" if path not in found else "another file"
            raise ModelError(
                f"{directory / path} is {what}: the model {staged.lock.name!r} was locked with sha256 "
                f"{expected.get(path, '(none)')}. It changed since the job was resolved, or this node has another copy; run again"
            )


class ModelWatch:
    """Sees whether files of a model were touched since, without reading them.

    A check of their hashes holds for the moment it is made, and float32 weights are read from their file for as long as
    the replica lives: written over in place they change its vectors without a word.
    """

    def __init__(self, name: str, revision: str | None, cache: str | None) -> None:
        self._directory = _locate(name, revision, cache)
        self._seen = self._look()

    def check(self) -> None:
        """Raises ModelError when a file was written, replaced, added or removed."""
        now = self._look()
        touched = sorted(path for path in {*self._seen, *now} if self._seen.get(path) != now.get(path))
        if touched:
            raise ModelError(
                f"{touched[0]} was changed while the model was in use, so its vectors can't be trusted: nothing made since "
                "is committed. Run again; put a new model into a new directory"
            )

    def _look(self) -> dict[str, tuple[int, ...]]:
        with _reading(self._directory):
            found = [path for path in self._directory.rglob("*") if path.suffix in LOADED_SUFFIXES]
            status = {str(path): path.stat() for path in found}
        return {path: (s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_size) for path, s in status.items()}


def _locate(name: str, revision: str | None, cache: str | None) -> Path:
    kept = local_path(cache or "~/.cache/embedpipe")
    if name.startswith("package:"):
        return _in_package(name.removeprefix("package:"))
    if "://" in name:
        return _staged(name, kept)
    path = local_path(name)
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
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            _copy(url, files, target)
    return target


def _copy(url: str, files: Sequence[Found], target: Path) -> None:
    """Lay the files into `target` unless it is there; it has its name once it is whole."""
    if target.is_dir():
        return
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir()
        for file in files:
            path = temporary / file.uri[len(file.root.rstrip("/")) + 1 :]
            if ".." in path.parts:
                raise ModelError(f"{file.uri} leads out of the model directory")
            if path.suffix in LOADED_SUFFIXES:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open_input(file.uri, file.version) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, COPY_BYTES)
        temporary.replace(target)
    except InputError as error:
        raise ModelError(f"model {url} can't be staged to {target}: {error.message}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    with _writing(cache):
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


@contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """What the system says of a model's files leaves this block as a ModelError."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{directory}: the model can't be read, or was changed just now: {error}") from error


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """What the system says of the cache leaves this block as a StorageError: the model is not to blame."""
    try:
        yield
    except EmbedpipeError:
        raise
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise StorageError(
            f"{translate(error, 'staging a model in', str(place)).message}. See execution.model_cache"
        ) from error


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
