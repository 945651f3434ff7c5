"""Rule 2 of the commit protocol: a store is trusted only after it has shown that it keeps the rules."""

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.create import create
from pipeline.storage.faults import is_own
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

RACERS = 8
TRIES = 3  # a collector may take the racers' key away in mid-race; a store that breaks the rules does so every time
FOLDER = "_embedpipe/probe/"
"""Anybody may delete anything in it at any time."""


def probe(store: Store) -> None:
    """Race creates on the store and check reads and listings; raises StorageError saying what is wrong.

    Leaves nothing behind where deleting is allowed, one small object where it isn't.
    """
    for _ in range(TRIES - 1):
        try:
            return _probe_once(store)
        except TransientStorageError:
            raise
        except StorageError as error:
            log.debug("probing again: %s", error.message)
    return _probe_once(store)


def _probe_once(store: Store) -> None:
    folder = f"{FOLDER}{uuid.uuid4().hex}/"
    key = folder + "race"
    try:
        _check_missing(store, folder + "missing")
        winner = _race(store, key)
        _check_second(store, key, winner)
        _check_reads(store, folder, key, winner)
    finally:
        with suppress(StorageError):
            store.delete([key])


def tells_case(store: Store) -> bool:
    """Whether keys that differ only in case are different keys, which on some file systems they aren't."""
    key = mark(store)
    folder, _, name = key.rpartition("/")
    try:
        return store.get(f"{folder}/{name.upper()}") is None
    finally:
        with suppress(StorageError):
            store.delete([key])


def can_delete(store: Store) -> bool:
    """Whether this process may delete on the store; found out by trying. Leaves a small object where it may not."""
    key = mark(store)
    try:
        store.delete([key])
    except StorageError as error:
        if is_own(error):
            raise
        return False
    return not sees(store, key)


def mark(store: Store) -> str:
    """Write a fresh marker and give its key: whoever `sees` it shares this place. Delete it afterwards."""
    key = f"{FOLDER}{uuid.uuid4().hex}/mark"
    create(store, key, key.encode())
    return key


def sees(store: Store, key: str) -> bool:
    """Whether a marker of another machine is there, as it was written."""
    return store.get(key) == key.encode()


def _check_missing(store: Store, key: str) -> None:
    try:
        found = store.get(key)
    except StorageError as error:
        if is_own(error):
            raise
        raise StorageError(
            f"{store.root}: a key that doesn't exist can't be told from one that may not be read; "
            f"grant the right to list (s3:ListBucket) as well: {error.message}"
        ) from error
    if found is not None:
        raise StorageError(
            f"{store.root}: a key that was never written reads as {len(found)} bytes; choose another store"
        )


def _race(store: Store, key: str) -> bytes:
    """The value of the one create that won."""
    values = [f"racer {number}".encode() for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS, thread_name_prefix="probe") as pool:
        results = list(pool.map(lambda value: create(store, key, value), values))
    winners = [value for value, result in zip(values, results, strict=True) if result.ours]
    if len(winners) != 1 or {result.value for result in results} != set(winners):
        raise StorageError(
            f"{store.root}: of {RACERS} creates of one key at once, {len(winners)} won, where exactly one must. The "
            "store ignores conditional writes (If-None-Match), so two runs could overwrite each other's commits; "
            "choose a store, or a version of it, that has them"
        )
    return winners[0]


def _check_second(store: Store, key: str, winner: bytes) -> None:
    second = create(store, key, b"second")
    if second.ours or second.value != winner:
        raise StorageError(
            f"{store.root}: a key that exists could be created once more; choose a store with conditional writes"
        )


def _check_reads(store: Store, folder: str, key: str, winner: bytes) -> None:
    listed = [(entry.key, entry.size) for entry in store.list(folder)]
    if listed != [(key, len(winner))] or store.size(key) != len(winner):
        raise StorageError(
            f"{store.root}: an object just written is not listed as it was written (found {listed}, expected "
            f"{[(key, len(winner))]}); the protocol needs listings without delay"
        )
    if store.get_range(key, 2, 4) != winner[2:6]:
        raise StorageError(f"{store.root}: reading part of an object gives other bytes than reading it whole")
