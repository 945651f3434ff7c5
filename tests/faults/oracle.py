"""Is every row of the source there, once, with vector, hash and columns of its own text? Shares no code with what wrote it.

It goes the way a reader would: newest log entry → manifest → data files, spelled out here once more, with json, pyarrow,
tokenizers and hashlib only.
"""

import functools
import hashlib
import io
import json
import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
class Row:
    """A published row."""

    id: str
    vector: np.ndarray
    token_count: int
    truncated: bool
    text_hash: str
    kept: Mapping[str, Any]  # all other columns


OWN = ("id", "embedding", "token_count", "truncated", "text_hash")
Kept = Mapping[str, Mapping[str, Any]]
"""id → kept column → value."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong, by id."""

    rows: int
    lost: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mispaired: list[str] = field(default_factory=list)  # with a vector, hash, count or kept column that isn't its own
    unreadable: str = ""  # why the newest version can't be read whole; all is lost then

    @property
    def right(self) -> bool:
        return not (self.unreadable or self.lost or self.foreign or self.doubled or self.mispaired)

    @property
    def counts(self) -> dict[str, int]:
        """As the ledger counts it."""
        return {
            "lost": len(self.lost),
            "duplicated": len(self.doubled),
            "mispaired": len(self.mispaired) + len(self.foreign),
            "unreadable": bool(self.unreadable),
        }

    def __str__(self) -> str:
        """How many of each, and the first few of them."""
        found = ((name, getattr(self, name)) for name in ("lost", "foreign", "doubled", "mispaired"))
        wrong = [f"{len(ids)} {name}: {', '.join(ids[:5])}" for name, ids in found if ids]
        return "; ".join([f"{self.rows} rows", *filter(None, [self.unreadable]), *wrong])


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


UNREADABLE = (AssertionError, Overtaken, LookupError, ValueError)
"""What reading a version raises that isn't as its records say; the last two: a column is missing, a file isn't Parquet."""


def newest(output: Reader) -> dict[str, Any] | None:
    """The newest log entry."""
    keys = output.keys()
    logs = [key for key in keys if key.startswith("_embedpipe/log/")]
    data = output.read(max(logs)) if logs else None
    return json.loads(data) if data is not None else None


def rows(output: Reader, entry: Mapping[str, Any]) -> list[Row]:
    """Every row of a snapshot. Raises one of UNREADABLE where a file is gone, or a hash or count is wrong."""
    files = {part["file"]: part for unit in _units(output, entry) for part in unit["slices"]}
    found: list[Row] = []
    for key, part in files.items():
        here = rows_of(_whole(output, key, part["sha256"]))
        assert len(here) == part["file_rows"], f"{key}: {len(here)} rows, the manifest says {part['file_rows']}"
        found.extend(here)
    assert len(found) == entry["rows"], f"{len(found)} rows, the log says {entry['rows']}"
    return found


def rows_of(data: bytes) -> list[Row]:
    """The rows of a data file."""
    table = _parquet(data)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    own = zip(*(columns.pop(name) for name in OWN), strict=True)
    return [
        Row(str(row), np.array(vector, np.float32), *rest, {name: values[at] for name, values in columns.items()})
        for at, (row, vector, *rest) in enumerate(own)
    ]


def set_aside(root: str) -> dict[str, dict[str, Any]]:
    """id → what the newest snapshot keeps aside of that row: uri, position, kind, reason, raw. Raises one of UNREADABLE.

    Read from the files that its manifest names. The same row twice, or another number of rows than the log tells, is wrong too.
    """
    output = reader(root)
    entry = newest(output)
    assert entry is not None, "nothing is published"
    found: list[dict[str, Any]] = []
    for key in sorted({unit["quarantine"] for unit in _units(output, entry) if unit["quarantine"]}):
        data = output.read(key)
        if data is None:
            raise Overtaken(key)
        found.extend(_parquet(data).to_pylist())
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found) == entry["rows_quarantined"], f"{found}, the log tells {entry['rows_quarantined']}"
    return by_id


def _units(output: Reader, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The units of a snapshot, as its manifest has them."""
    manifest = _whole(output, entry["manifest"]["key"], entry["manifest"]["sha256"])
    return list(_parquet(manifest).to_pylist())


def _parquet(data: bytes) -> Any:
    return pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)


def published(output: Reader, entry: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """(id, vector) of every row of a snapshot. Raises as `rows` does."""
    return [(row.id, row.vector) for row in rows(output, entry)]


def _whole(output: Reader, key: str, sha256: str) -> bytes:
    data = output.read(key)
    if data is None:
        raise Overtaken(key)
    assert hashlib.sha256(data).hexdigest() == sha256, f"{key} is not the file the records name"
    return data


def judge(found: Iterable[Row], texts: Mapping[str, str], model: str, kept: Kept | None = None) -> Verdict:
    """Hold published rows against the source by id: texts as the scripted encoder would encode them, and kept columns."""
    found = list(found)
    count = Counter(row.id for row in found)
    known = [row for row in found if row.id in texts]
    encoded = _tokenizer(model).encode_batch([texts[row.id] for row in known])
    return Verdict(
        rows=len(found),
        lost=[row for row in texts if row not in count],
        foreign=[row for row in count if row not in texts],
        doubled=[row for row, times in count.items() if times > 1],
        mispaired=[
            row.id
            for row, tokens in zip(known, encoded, strict=True)
            if not _is_of(row, texts[row.id], tokens.ids) or (kept is not None and row.kept != kept[row.id])
        ],
    )


def _is_of(row: Row, text: str, ids: Sequence[int]) -> bool:
    """Whether all that a row says of its text is true of this one."""
    return (
        np.array_equal(row.vector, vector_due(ids))
        and row.text_hash == hashlib.sha256(text.encode()).hexdigest()[:32]
        and row.token_count == len(ids)
        and not row.truncated  # as its vector is that of the whole text
    )


def vector_due(ids: Sequence[int]) -> np.ndarray:
    """The vector a text must have under the scripted encoder: each byte of the BLAKE2b digest, of 32 bytes, of its token ids as
    little-endian 32-bit integers, less 127.5. Said once more, as who judges takes nothing from who writes."""
    digest = hashlib.blake2b(struct.pack(f"<{len(ids)}i", *ids), digest_size=32).digest()
    return np.array([byte - 127.5 for byte in digest], np.float32)


def check(root: str, texts: Mapping[str, str], model: str, kept: Kept | None = None) -> Verdict:
    """The newest snapshot against the source. Never raises for what is wrong with it: somebody has to count that."""
    output = reader(root)
    try:
        entry = newest(output)
        assert entry is not None, "nothing is published"
        found = rows(output, entry)
    except UNREADABLE as error:
        return Verdict(0, lost=list(texts), unreadable=f"{root} can't be read: {error!r}")
    return judge(found, texts, model, kept)
