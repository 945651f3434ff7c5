"""Files of an output root as pyarrow's dataset readers want them."""

import pyarrow.fs

from pipeline.storage.uri import parse_root


def arrow_filesystem(root: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """A pyarrow file system and the path of `root` in it; file paths are that, `/` and the key.

    Object stores are reached through the same clients as everything else, so the same credentials apply.
    Raises ConfigError like `open_store`.
    """
    place = parse_root(root)
    if place.scheme == "file":
        return pyarrow.fs.LocalFileSystem(), place.path
    from pipeline.storage.object_store import dataset_filesystem

    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(dataset_filesystem(place.scheme))), place.path
