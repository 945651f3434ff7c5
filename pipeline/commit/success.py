"""`_SUCCESS`: there only while a plain glob of data/ gives exactly the head's rows.

Whoever changes data/ or publishes removes it first. Every run ends by settling it.
"""

import json
from collections.abc import Callable

from pipeline.commit.keys import DATA, SUCCESS
from pipeline.commit.records import UNREADABLE, LogEntry
from pipeline.errors import StorageError
from pipeline.storage.faults import is_own
from pipeline.storage.store import Store


def clear_success(store: Store) -> None:
    """Remove the mark before data/ or the log changes. Does nothing where it isn't there.

    Raises StorageError where it stands and this account may not remove it: readers would go on trusting it.
    """
    if store.get(SUCCESS) is None:
        return
    try:
        store.delete([SUCCESS])
    except StorageError as error:
        if is_own(error):
            raise
        raise StorageError(
            f"{store.root}/{SUCCESS} says that a plain glob is exact, and this run may neither remove it nor publish beside "
            f"it; grant the right to delete that one key, or remove it: {error.message}"
        ) from error


def marked_version(store: Store) -> int | None:
    """The version that the mark names; None where it isn't there, or names none."""
    data = store.get(SUCCESS)
    try:
        return None if data is None else int(json.loads(data)["version"])
    except UNREADABLE:  # anybody may have put anything there
        return None


def settle_success(store: Store, head: LogEntry, files: set[str], newest: Callable[[Store], int]) -> bool:
    """Write the mark if data/ holds just the head's `files`, else take away one that stands; True when it stands.

    data/ is listed before and, last of all, after; the log is read in between: a change by anybody else in that time
    takes the mark away again. One may stand beside other files where a run that died, or may not delete, made them after it
    was written.
    """
    if head.oldest != head.version or not is_exact(store, files):
        clear_success(store)
        return False
    mark = json.dumps({"version": head.version, "rows": head.rows, "files": head.files}).encode()
    if store.get(SUCCESS) != mark:
        store.put(SUCCESS, mark)
    if store.get(SUCCESS) == mark and newest(store) == head.version and is_exact(store, files):
        return True
    store.delete([SUCCESS])
    return False


def is_exact(store: Store, files: set[str]) -> bool:
    """Whether data/ holds just these files."""
    return {entry.key for entry in store.list(DATA)} == files
