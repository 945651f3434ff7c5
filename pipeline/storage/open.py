"""An output root by its path or URI."""

from pipeline.storage.local import LocalStore
from pipeline.storage.object_store import ObjectStore, connect
from pipeline.storage.store import Store
from pipeline.storage.uri import parse_root


def open_store(root: str) -> Store:
    """A store for a local path, `file://`, `s3://`, `gs://` or `az://`. Asks nothing of it yet.

    Raises ConfigError for another scheme, credentials in the URI, chained URIs, or a missing optional package.
    """
    place = parse_root(root)
    if place.scheme == "file":
        return LocalStore(place.path)
    connect(place.scheme)  # a missing package shows here, not in a worker
    return ObjectStore(str(place))
