"""Columns of the result, and how they are laid out in Parquet. The same in every file, in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

EMBEDDING = "embedding"
GENERATED = ("id", EMBEDDING, "token_count", "truncated", "text_hash")
"""Columns this program makes; a kept column may not have one of these names, in upper or lower case."""

ROW_GROUP_BYTES = 64 << 20
VECTOR_PATH = f"{EMBEDDING}.list.element"
"""BYTE_STREAM_SPLIT takes effect at this path only; any other spelling silently gives PLAIN."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of the result depend on."""

    id_type: Literal["int64", "string"]
    keep: tuple[tuple[str, pa.DataType], ...]
    partition_by: tuple[str, ...]  # names out of `keep`; they stand in the path instead of the file
    dimensions: int
    vector_type: Literal["list", "fixed_size_list"]
    metadata: tuple[tuple[str, str], ...]  # of every footer: spec, model, revision, weights, dtype policy, versions

    def snapshot_schema(self) -> pa.Schema:
        """Columns of a snapshot: those of a data file, then the partition columns."""
        partition = [pa.field(name, kind) for name, kind in self.keep if name in self.partition_by]
        return pa.schema([*self.file_schema(), *partition], metadata=dict(self.metadata))

    def file_schema(self) -> pa.Schema:
        """Columns of a data file."""
        element = pa.field("element", pa.float32(), nullable=False)
        fixed = self.vector_type == "fixed_size_list"
        return pa.schema(
            [
                pa.field("id", pa.int64() if self.id_type == "int64" else pa.string(), nullable=False),
                *(pa.field(name, kind) for name, kind in self.keep if name not in self.partition_by),
                pa.field(EMBEDDING, pa.list_(element, self.dimensions if fixed else -1), nullable=False),
                pa.field("token_count", pa.int32(), nullable=False),
                pa.field("truncated", pa.bool_(), nullable=False),
                pa.field("text_hash", pa.string(), nullable=False),
            ],
            metadata=dict(self.metadata),
        )

    def row_group_rows(self) -> int:
        """Rows of a row group of about 64 MiB."""
        return max(1, ROW_GROUP_BYTES // (4 * self.dimensions + 64))


def writer_options(schema: pa.Schema) -> dict[str, object]:
    """How every Parquet file of this program is written; arguments of `pyarrow.parquet.ParquetWriter`."""
    plain = [field.name for field in schema if field.name != EMBEDDING]
    options: dict[str, object] = {
        "compression": "zstd",
        "compression_level": 1,  # for float bytes level 3 is slower and not smaller
        "use_dictionary": [name for name in plain if name not in ("id", "text_hash")],
        "write_statistics": plain,
        "write_page_checksum": True,
    }
    if EMBEDDING in schema.names:
        options["column_encoding"] = {VECTOR_PATH: "BYTE_STREAM_SPLIT"}
    return options


def find_alike(keep: Sequence[str]) -> tuple[str, str] | None:
    """A kept column and another of the result that warehouses, which ignore case, take for the same, if there are such."""
    seen = {name.lower(): name for name in GENERATED}
    for name in keep:
        if name.lower() in seen:
            return name, seen[name.lower()]
        seen[name.lower()] = name
    return None
