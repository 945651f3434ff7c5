"""Links among input files: they are followed, since data version control and shared disks are made of them, wherever they lead
but into what a run writes: the output, and what it keeps beside it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.source.records import InputFile
from pipeline.storage.glob import split_root
from pipeline.storage.uri import local_path, parse

_OWN = ("", "data", "_embedpipe")
"""Folders of an output, below its path. Each may be a link."""


def check_apart(files: Sequence[InputFile], output: str) -> None:
    """Raises ConfigError for a file that lies in the output, whatever links, mounts and spellings led to it: published rows
    would be taken for input, and be more with every run."""
    inside = _first_below(files, output) if "://" in output else _first_in_folder(files, output)
    if inside is not None:
        raise ConfigError(
            f"input.paths: {inside} lies in output.path ({output}), so each run would take the result for input; put them side "
            "by side, or take away the link that leads from one to the other"
        )


def check_kept(files: Sequence[InputFile], places: Mapping[str, str | None]) -> None:
    """Raises ConfigError for a file that is, or lies in, a local place that a run writes for itself: what is read would change
    under its reader with every run. places: by key of the config."""
    own = {os.path.realpath(local_path(place)): key for key, place in places.items() if place is not None}
    for uri, _, real in _local(files) if own else ():
        key = next((key for place, key in own.items() if real == place or real.startswith(f"{place}/")), None)
        if key is not None:
            raise ConfigError(
                f"{key}: {uri} of input.paths is what a run writes there, or lies in it; put one of them elsewhere, or take away "
                "the link that leads from one to the other"
            )


def leading_out(files: Sequence[InputFile], paths: Sequence[str]) -> list[tuple[str, str]]:
    """Files that were found in a folder of `paths` through a link, and lie outside of all of them; each with where it lies. A
    link that is named itself is meant."""
    places = [place.path for place in map(parse, paths) if place.scheme == "file"]
    named = {os.path.realpath(path if os.path.lexists(path) else split_root(path)[0] or "/") for path in places}

    @cache
    def inside(folder: str) -> bool:
        return any(str(above) in named for above in _and_above(folder))

    return [(uri, real) for uri, folder, real in _local(files) if real not in named and not inside(folder)]


def _first_below(files: Sequence[InputFile], output: str) -> str | None:
    return next((file.uri for file in files if file.uri.startswith(f"{output}/")), None)


def _first_in_folder(files: Sequence[InputFile], output: str) -> str | None:
    """Folders are compared by what they are: a disk may be mounted twice, or not tell upper from lower case."""
    identity = cache(_identity)
    own = {identity(folder) for folder in _own_folders(Path(output))} - {None}

    @cache
    def inside(folder: str) -> bool:
        return any(identity(above) in own for above in _and_above(folder))

    return next((uri for uri, folder, _ in _local(files) if inside(folder)), None) if own else None


def _own_folders(output: Path) -> Iterator[Path]:
    yield from (output / name for name in _OWN)
    yield from _linked_partitions(output / "data")


def _linked_partitions(folder: Path) -> Iterator[Path]:
    """Those that were moved to another disk. All others lie in `data`."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if "=" in entry.name and entry.is_symlink():
                yield Path(entry)
            elif "=" in entry.name:
                yield from _linked_partitions(Path(entry))


def _local(files: Sequence[InputFile]) -> Iterator[tuple[str, str, str]]:
    """Local files with the folder each really lies in, and its own path there. A folder is looked up once, a file only where it
    is a link."""
    real_folder = cache(os.path.realpath)
    for file in files:
        if "://" in file.uri:
            continue
        if Path(file.uri).is_symlink():
            real = os.path.realpath(file.uri)
            yield file.uri, real.rpartition("/")[0] or "/", real
        else:
            above, _, name = file.uri.rpartition("/")
            folder = real_folder(above or "/")
            yield file.uri, folder, f"{folder.rstrip('/')}/{name}"


def _and_above(folder: str) -> Iterator[Path]:
    path = Path(folder)
    yield path
    yield from path.parents


def _identity(folder: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = folder.stat()
        return status.st_dev, status.st_ino
    return None
