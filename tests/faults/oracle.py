"""Is every row of the source there, once, with the vector of its own text? Shares no code with what wrote it.

It goes the way a reader would: newest log entry → manifest → data files, spelled out here once more, with json, pyarrow,
tokenizers and hashlib only.
"""

import functools
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from tokenizers import Tokenizer


class Reader(Protocol):
    """Keys and bytes below an output root."""

    def keys(self) -> list[str]: ...

    def read(self, key: str) -> bytes | None: ...


@dataclass(frozen=True)
class Verdict:
    """What is wrong, by id."""

    rows: int
    lost: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mispaired: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.lost or self.foreign or self.doubled or self.mispaired)


class Folder:
    """A local output."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def keys(self) -> list[str]:
        walk = os.walk(self._root)  # unlike `rglob` it bears with folders that go while it looks
        found = (Path(folder, name) for folder, _, names in walk for name in names)
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None


@functools.lru_cache(maxsize=8)
def _client(settings: tuple[tuple[str, str], ...]) -> Any:
    """A client for these settings of the environment: making one takes longer than most of what it is asked."""
    import boto3

    return boto3.client("s3")


@functools.lru_cache(maxsize=8)
def _tokenizer(model: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Bucket:
    """An output on S3, by boto3; `root` is s3://bucket/prefix."""

    def __init__(self, root: str) -> None:
        self._bucket, _, prefix = root.removeprefix("s3://").partition("/")
        self._prefix = prefix.rstrip("/") + "/"
        self._client = _client(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))

    def keys(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return sorted(found["Key"].removeprefix(self._prefix) for page in pages for found in page.get("Contents", ()))

    def read(self, key: str) -> bytes | None:
        try:
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"]
        except self._client.exceptions.NoSuchKey:
            return None
        return bytes(body.read())


def reader(root: str) -> Reader:
    """The output at a local path or s3:// URI."""
    return Bucket(root) if root.startswith("s3://") else Folder(root)


class Overtaken(Exception):
    """A file that the entry names is gone: there must be a newer entry."""


def newest(output: Reader) -> dict[str, Any] | None:
    """The newest log entry."""
    keys = output.keys()
    logs = [key for key in keys if key.startswith("_embedpipe/log/")]
    data = output.read(max(logs)) if logs else None
    return json.loads(data) if data is not None else None


def published(output: Reader, entry: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """(id, vector) of every row of a snapshot. Raises Overtaken, or AssertionError where a hash or count is wrong."""
    manifest = _whole(output, entry["manifest"]["key"], entry["manifest"]["sha256"])
    units = pq.ParquetFile(io.BytesIO(manifest)).read(use_threads=False).to_pylist()
    files = {part["file"]: part for unit in units for part in unit["slices"]}
    rows: list[tuple[str, np.ndarray]] = []
    for key, part in files.items():
        table = pq.ParquetFile(io.BytesIO(_whole(output, key, part["sha256"]))).read(use_threads=False)
        assert table.num_rows == part["file_rows"], (
            f"{key}: {table.num_rows} rows, the manifest says {part['file_rows']}"
        )
        ids, vectors = table["id"].to_pylist(), table["embedding"].to_pylist()
        rows.extend((str(row), np.array(vector, np.float32)) for row, vector in zip(ids, vectors, strict=True))
    assert len(rows) == entry["rows"], f"{len(rows)} rows, the log says {entry['rows']}"
    return rows


def _whole(output: Reader, key: str, sha256: str) -> bytes:
    data = output.read(key)
    if data is None:
        raise Overtaken(key)
    assert hashlib.sha256(data).hexdigest() == sha256, f"{key} is not the file the records name"
    return data


def judge(rows: Iterable[tuple[str, np.ndarray]], texts: Mapping[str, str], model: str) -> Verdict:
    """Hold published rows against the source's texts by id, as the scripted encoder would encode them."""
    from faults.encoder import vector_of

    rows = list(rows)
    count = Counter(row for row, _ in rows)
    known = [(row, vector) for row, vector in rows if row in texts]
    encoded = _tokenizer(model).encode_batch([texts[row] for row, _ in known])
    wrong = [
        row
        for (row, vector), text in zip(known, encoded, strict=True)
        if not np.array_equal(vector, vector_of(np.array(text.ids, np.int32)))
    ]
    return Verdict(
        rows=len(rows),
        lost=[row for row in texts if row not in count],
        foreign=[row for row in count if row not in texts],
        doubled=[row for row, times in count.items() if times > 1],
        mispaired=wrong,
    )


def check(root: str, texts: Mapping[str, str], model: str) -> Verdict:
    """The newest snapshot against the source. Raises AssertionError when there is none."""
    output = reader(root)
    entry = newest(output)
    assert entry is not None, f"{root}: nothing is published"
    return judge(published(output, entry), texts, model)
