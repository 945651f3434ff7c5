"""Real text without a download: docstrings of this Python's standard library and of the installed packages.

Files are parsed, never imported. They are taken in the order of a hash of their names until there are rows enough: the
same installation gives the same rows in the same shards, and a thousand rows already come from everywhere.
"""

import ast
import hashlib
import json
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.storage.faults import translated

MAX_SOURCE_BYTES = 2 << 20
"""Larger source files are generated tables."""

PREFIX = "sample-"


@dataclass(frozen=True, slots=True)
class Docstring:
    """One text."""

    id: str  # `module:qualname`; `module:` for the module's own
    text: str
    module: str
    package: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What was written."""

    directory: str
    rows: int
    shards: int
    packages: int


def write_sample(directory: Path, *, rows: int, shards: int, file_format: Literal["parquet", "jsonl"]) -> Sample:
    """Write up to `rows` docstrings to `shards` files in `directory`, in place of an earlier sample.

    Fewer rows where the installation holds fewer. Raises ConfigError when other files stand in the directory, StorageError
    where they can't be written.
    """
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory} is a file; name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory} can't be made: {error.strerror}; name another directory") from error
    with translated("writing", str(directory)):
        return _write(directory, rows, shards, file_format)


def _write(directory: Path, rows: int, shards: int, file_format: Literal["parquet", "jsonl"]) -> Sample:
    others = sorted(path.name for path in directory.iterdir() if not path.name.startswith(PREFIX))
    if others:
        raise ConfigError(f"{directory} holds other files ({others[0]}); name a directory of its own for the sample")
    chosen = find_docstrings(installed(), rows)
    names = [f"{PREFIX}{number:03}.{file_format}" for number in range(shards)]
    for stale in directory.iterdir():
        if stale.name not in names:
            stale.unlink()
    for number, name in enumerate(names):
        data = _encode(chosen[number * len(chosen) // shards : (number + 1) * len(chosen) // shards], file_format)
        path = directory / name
        if not path.exists() or path.read_bytes() != data:  # an unchanged shard stays the version it is
            path.write_bytes(data)
    return Sample(str(directory), len(chosen), shards, len({entry.package for entry in chosen}))


def find_docstrings(roots: Sequence[Path], rows: int) -> list[Docstring]:
    """`rows` docstrings of files below the roots (fewer where there are no more), one for each id, shuffled by hash."""
    found: dict[str, Docstring] = {}
    for relative, path in sorted(_sources(roots), key=lambda source: _hash(source[0].as_posix())):
        if len(found) >= rows:
            break
        for entry in _read(path, relative):
            found.setdefault(entry.id, entry)
    return sorted(found.values(), key=lambda entry: _hash(entry.id))[:rows]


def _sources(roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """(path below its root, path) of every Python file."""
    for root in roots:
        for path in root.rglob("*.py"):
            relative = path.relative_to(root)
            if "site-packages" not in relative.parts and "__pycache__" not in relative.parts:
                yield relative, path


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def installed() -> list[Path]:
    """Where the sources of the standard library and of the installed packages lie."""
    paths = sysconfig.get_paths()
    return [Path(path) for path in dict.fromkeys(paths[name] for name in ("stdlib", "purelib", "platlib"))]


def _read(path: Path, relative: Path) -> Iterator[Docstring]:
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's sources
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # templates and test data that only look like Python
    module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    package = module.partition(".")[0]
    for name, text in _docstrings(tree, ""):
        yield Docstring(f"{module}:{name}", text, module, package)


def _docstrings(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text and _is_storable(text):
        yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}".removeprefix("."))


def _is_storable(text: str) -> bool:
    """Whether it is UTF-8: an escape like `\\ud800` in a docstring makes a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode(entries: Sequence[Docstring], file_format: Literal["parquet", "jsonl"]) -> bytes:
    columns = {name: [getattr(entry, name) for entry in entries] for name in ("id", "text", "module", "package")}
    if file_format == "jsonl":
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns])), sink)
    return bytes(sink.getvalue())
