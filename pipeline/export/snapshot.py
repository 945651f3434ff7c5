"""A published snapshot for readers: its files by manifest, and the same as one pyarrow dataset."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from pipeline.commit.keys import DATA
from pipeline.commit.snapshot import Snapshot, list_versions, read_head, read_snapshot, read_stored_spec
from pipeline.errors import InputError, VerificationError
from pipeline.sink.schema import Layout
from pipeline.spec import Spec
from pipeline.storage.arrow import arrow_filesystem
from pipeline.storage.open import open_store
from pipeline.storage.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file of a snapshot."""

    uri: str  # URI, or absolute path on local disk
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Published:
    """A snapshot as a warehouse needs to know it."""

    root: str  # of the output: URI or absolute local path
    version: int
    files: tuple[DataFile, ...]
    dimensions: int
    columns: tuple[tuple[str, str], ...]  # columns inside the files but `embedding`: name, Arrow type as text
    partition_columns: tuple[tuple[str, str], ...]  # columns in the path, in its order


def list_files(output: str, version: int | None = None) -> list[DataFile]:
    """The files whose rows are the snapshot's, each row once; sizes in bytes.

    Raises InputError when nothing is published at `output`, or `version` is not kept any more.
    """
    store = open_store(output)
    return list(_files(store, find_snapshot(store, version)))


def describe(output: str, version: int | None = None) -> Published:
    """The snapshot's files and columns. Raises InputError as `list_files` does."""
    store = open_store(output)
    snapshot = find_snapshot(store, version)
    spec = read_stored_spec(store, snapshot.entry.spec)
    layout = spec.layout
    partition_by = list(layout["partition_by"])
    kept = [(name, kind) for name, kind in layout["keep"] if name not in partition_by]
    own = [("token_count", "int32"), ("truncated", "bool"), ("text_hash", "string")]
    return Published(
        root=store.root,
        version=snapshot.entry.version,
        files=_files(store, snapshot),
        dimensions=int(spec.recipe["outputs"][0]["dimensions"]),
        columns=(("id", layout["id"]["type"]), *kept, *own),
        partition_columns=_partition_columns(layout),
    )


def open_dataset(output: str, version: int | None = None) -> pyarrow.dataset.Dataset:
    """The snapshot's rows as a dataset; partition columns have their own types and come last.

    Nothing but one footer is read here. When a newer version is published and this one not retained, its files go away
    and a scan raises FileNotFoundError: open the dataset again.
    Raises InputError as `list_files` does.
    """
    store = open_store(output)

    def attempt() -> pyarrow.dataset.Dataset:
        snapshot = find_snapshot(store, version)
        spec = read_stored_spec(store, snapshot.entry.spec)
        if not snapshot.files:
            return pyarrow.dataset.dataset(_no_rows(spec))
        return _dataset(store, snapshot, _partition_columns(spec.layout))

    return _as_of_one_head(store, attempt)


def _as_of_one_head(store: Store, attempt: Callable[[], T]) -> T:
    """Run `attempt`. A file that is gone means the head moved on: once more; under the same head it is an error."""
    while True:
        before = list_versions(store)
        try:
            return attempt()
        except FileNotFoundError as error:
            if list_versions(store) == before:
                raise VerificationError(
                    f"{store.root}: a data file of the newest snapshot is gone ({error}); something outside embedpipe "
                    "deleted it. `embedpipe verify` tells what is missing"
                ) from error


def _dataset(store: Store, snapshot: Snapshot, partition: tuple[tuple[str, str], ...]) -> pyarrow.dataset.Dataset:
    filesystem, root = arrow_filesystem(store.root)
    paths = [f"{root}/{key}" for key in snapshot.files]
    with filesystem.open_input_file(paths[0]) as file:
        inside = pq.read_schema(file)
    folders = pa.schema([(name, _type_of(kind)) for name, kind in partition])
    return pyarrow.dataset.dataset(
        paths,
        schema=pa.schema([*inside, *folders], metadata=inside.metadata),
        format="parquet",
        filesystem=filesystem,
        partitioning=pyarrow.dataset.HivePartitioning(folders) if partition else None,
        partition_base_dir=f"{root}/{DATA.rstrip('/')}",
    )


def _type_of(kind: str) -> pa.DataType:
    """The type that prints as `kind`. Raises ValueError for one that is made of others."""
    zoned = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", kind)
    return pa.timestamp(*zoned.groups()) if zoned else pa.type_for_alias(kind)


def _no_rows(spec: Spec) -> pa.Table:
    """A table with the snapshot's columns and no row; kept columns of a nested type are of type null in it."""
    layout = spec.layout
    keep = []
    for name, kind in layout["keep"]:
        try:
            keep.append((name, _type_of(kind)))
        except ValueError:
            keep.append((name, pa.null()))
    dimensions = int(spec.recipe["outputs"][0]["dimensions"])
    partition_by = tuple(layout["partition_by"])
    return (
        Layout(layout["id"]["type"], tuple(keep), partition_by, dimensions, layout["vector_type"], ())
        .snapshot_schema()
        .empty_table()
    )


def find_snapshot(store: Store, version: int | None) -> Snapshot:
    """The newest one, or one that is still kept. Raises InputError as `list_files` does."""
    head = read_head(store)
    if head is None:
        raise InputError(f"{store.root}: nothing has been published here; is the path right, has a run finished?")
    if version is None or version == head.entry.version:
        return head
    snapshot = read_snapshot(store, version) if head.entry.oldest <= version < head.entry.version else None
    if snapshot is None:
        raise InputError(
            f"{store.root}: version {version} is not kept; versions {head.entry.oldest} to {head.entry.version} are "
            "(`output.retain` says how many)"
        )
    return snapshot


def _files(store: Store, snapshot: Snapshot) -> tuple[DataFile, ...]:
    files = snapshot.files.values()
    return tuple(DataFile(f"{store.root}/{file.key}", file.rows, file.bytes, file.sha256) for file in files)


def _partition_columns(layout: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    kinds = dict(layout["keep"])
    return tuple((name, kinds[name]) for name in layout["partition_by"])
