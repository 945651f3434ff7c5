"""Discovery: globs → `InputFile`s, with format, compression and `key=value` folders by name."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from pipeline.config.schema import Input
from pipeline.errors import ConfigError, InputError
from pipeline.source.records import Compression, Format, InputFile
from pipeline.storage.inputs import Found, expand
from pipeline.storage.uri import parse

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
UNREADABLE = (".bz2", ".xz", ".lzma", ".lz4", ".zip", ".7z", ".br", ".sz", ".snappy", ".z", ".tgz", ".tar")
"""Suffixes of packed files that a configured format would otherwise take for lines."""


def discover(source: Input) -> list[InputFile]:
    """Today's input files, sorted by URI.

    Raises InputError when a pattern matches nothing, a format can't be told, or two files would share a path below the
    root, which generated ids are made from.
    """
    found = expand(source.paths)
    root = (str(parse(source.root)) if source.root else common_root(found)).rstrip("/")
    files = [_input_file(file, root, source) for file in found]
    if source.id is None:
        _check_paths(files)
    return files


def common_root(found: Sequence[Found]) -> str:
    """The folder that all patterns' fixed parts have in common."""
    roots = [file.root.rstrip("/").split("/") for file in found]
    common: list[str] = []
    for parts in zip(*roots, strict=False):
        if len(set(parts)) != 1:
            break
        common.append(parts[0])
    return "/".join(common)


def _input_file(file: Found, root: str, source: Input) -> InputFile:
    if root and not file.uri.startswith(root + "/"):
        raise ConfigError(
            f"input.root is {root}, but {file.uri} does not lie below it; name a folder above all that input.paths names"
        )
    path = file.uri[len(root) + 1 :] if root else file.uri
    kind, compression = _format(file.uri, source)
    try:
        folders = tuple(
            (unquote(key, errors="strict"), unquote(value, errors="strict"))
            for key, separator, value in (part.partition("=") for part in path.split("/")[:-1])
            if separator and key
        )
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file.uri}: a folder's name stands for bytes that are no UTF-8 ({error}); rename it"
        ) from error
    return InputFile(file.uri, file.version, file.size, kind, compression, path, folders)


def _format(uri: str, source: Input) -> tuple[Format, Compression]:
    name = PurePosixPath(uri)
    compression = COMPRESSIONS.get(name.suffix.lower(), "none")
    if compression != "none":
        name = name.with_suffix("")
    if name.suffix.lower() in UNREADABLE:  # below .gz too, as in .tar.gz
        raise InputError(f"{uri}: {name.suffix} files can't be read; unpack it, or pack single files with gzip or zstd")
    kind = SUFFIXES.get(name.suffix.lower()) if source.format == "auto" else source.format
    if kind is None:
        raise InputError(
            f"{uri}: the name does not tell the format; set input.format, or name only files ending in "
            f"{', '.join(sorted(SUFFIXES))} (.gz and .zst for the text formats)"
        )
    if compression != "none" and kind in ("parquet", "arrow"):
        raise InputError(
            f"{uri}: {kind} files are compressed inside; a {compression} file around one can't be read in parts"
        )
    return kind, compression


def _check_paths(files: Sequence[InputFile]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if file.path in seen:
            raise InputError(
                f"{seen[file.path]} and {file.uri} are both {file.path!r} below the input root, so their rows would get "
                "the same ids; set input.root to a folder above both, or input.id to a column"
            )
        seen[file.path] = file.uri
