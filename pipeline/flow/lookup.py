"""What has become of a source file, for collection: staged work of a version that is no more will never be wanted."""

import logging

from pipeline.errors import ConfigError, InputError, StorageError
from pipeline.storage.inputs import find, is_hollow
from pipeline.storage.uri import parse

log = logging.getLogger(__name__)


class Lookup:
    """For one collection. An object store that is silent, or can't be asked by this machine at all, is asked once: the silence of
    each further file would take half a minute. That a store isn't there keeps nobody from collecting everything else."""

    def __init__(self) -> None:
        self._silent: set[str] = set()

    def __call__(self, uri: str) -> str | None:
        """The version a source file has at this moment; None when it is gone. Raises InputError when nobody can tell: its store
        doesn't answer, or a local folder without a file may be one that isn't mounted."""
        place = parse(uri)
        store = f"{place.scheme}://{place.path.partition('/')[0]}"
        if store in self._silent and place.scheme != "file":
            raise InputError(f"{uri}: {store} could not be asked for another file")
        try:
            found = find(uri)
        except (ConfigError, StorageError) as error:
            if store not in self._silent:
                log.warning("what was begun of a source file is kept, as it can't be looked at here: %s", error.message)
            self._silent.add(store)
            raise InputError(error.message) from error
        if found is None and is_hollow(uri):
            raise InputError(f"{uri} is not there, and nothing else is where it was; whether it is gone can't be told")
        return None if found is None else found.version
