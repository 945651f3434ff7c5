"""An output root by its path or URI."""

from pipeline.storage.local import LocalStore, refuse_root
from pipeline.storage.object_store import ObjectStore, connect
from pipeline.storage.store import Store
from pipeline.storage.uri import parse_root


def open_store(root: str) -> Store:
    """A store for a local path, `file://`, `s3://`, `gs://` or `az://`. Asks nothing of an object store yet.

    Raises ConfigError for another scheme, credentials in the URI, chained URIs, a missing optional package, or a local path
    where no folder can be.
    """
    place = parse_root(root)
    if place.scheme == "file":
        refuse_root(place.path)
        return LocalStore(place.path)
    connect(place.scheme)  # a missing package shows here, not in a worker
    return ObjectStore(str(place))
