"""A source of three files whose every row says which version of its file it is from, and the changes that may befall it."""

import gzip
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = ("parquet", "arrow", "feather", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "tsv", "txt")
"""By suffix; `feather` holds Arrow's streaming format here."""

NAMES = ("a", "b", "c")
ROWS = 240
LINES = (
    "jsonl",
    "csv",
    "tsv",
    "txt",
)  # a shorter one is as good a file as a longer one; of the others, half is damaged


class Place(Protocol):
    """Where the files of a source lie."""

    path: str
    changes: tuple[str, ...]

    def put(self, name: str, data: bytes) -> None: ...

    def change(self, how: str, name: str, data: bytes) -> None: ...


class Folder:
    """A local folder. Every change leaves a trace in what `stat` says, as it does on any disk."""

    changes = ("replace", "overwrite", "truncate", "append", "remove", "folder")

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        path = Path(self.path, name)
        if path.is_dir():
            path.rmdir()
        path.write_bytes(data)

    def change(self, how: str, name: str, data: bytes) -> None:
        path = Path(self.path, name)
        if how == "replace":
            new = Path(self.path).with_name(f"{name}.new")
            new.write_bytes(data)
            new.replace(path)
        elif how == "overwrite":
            overwrite(path, data)
        elif how == "truncate":
            os.truncate(path, len(data))
        elif how == "append":
            with path.open("ab") as file:
                file.write(data[path.stat().st_size :])
        else:
            path.unlink()
            if how == "folder":
                path.mkdir()


class Bucket:
    """A prefix on S3: whatever the change is called, an object is replaced as a whole or deleted."""

    changes = ("overwrite", "truncate", "append", "remove")

    def __init__(self, path: str) -> None:
        import boto3

        self.path = path
        self._bucket, _, self._prefix = path.removeprefix("s3://").partition("/")
        self._client = boto3.client("s3")

    def put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"{self._prefix}/{name}", Body=data)

    def change(self, how: str, name: str, data: bytes) -> None:
        if how == "remove":
            self._client.delete_object(Bucket=self._bucket, Key=f"{self._prefix}/{name}")
        else:
            self.put(name, data)


class World:
    """The source: what is true of it now, and what was ever true of each of its files."""

    def __init__(self, place: Place, kind: str, rows: int = ROWS) -> None:
        self.place, self.kind, self.rows = place, kind, rows
        self.now: dict[str, dict[str, str]] = {}  # file → id → text
        self.past: dict[str, list[dict[str, str]]] = {name: [] for name in NAMES}
        self.damaged: set[str] = set()
        for name in NAMES:
            self._becomes(name, 1, rows)
            place.put(self._file(name), content(kind, name, 1, rows))

    def change(self, how: str, name: str = "b") -> None:
        """Do it to one of the files."""
        version = len(self.past[name]) + 1
        before = content(self.kind, name, 1, self.rows)
        if how in ("replace", "overwrite"):
            self._becomes(name, version, self.rows)
            data = content(self.kind, name, version, self.rows)
        elif how in ("truncate", "append") and self.kind in LINES:
            rows = self.rows // 2 if how == "truncate" else self.rows * 3 // 2
            self._becomes(name, 1, rows)
            data = content(self.kind, name, 1, rows)
        else:
            self._gone(name, damaged=how in ("truncate", "append"))
            data = before[: len(before) // 2] if how == "truncate" else before + b"\x00garbage\xff" * 20
        self.place.change(how, self._file(name), data)

    def mend(self) -> None:
        """Give damaged files new content."""
        for name in sorted(self.damaged):
            version = len(self.past[name]) + 1
            self._becomes(name, version, self.rows)
            self.place.put(self._file(name), content(self.kind, name, version, self.rows))
        self.damaged.clear()

    def texts(self) -> dict[str, str]:
        """id → text of all files as they are now."""
        return {row: text for texts in self.now.values() for row, text in texts.items()}

    def _becomes(self, name: str, version: int, rows: int) -> None:
        self.now[name] = texts(self.kind, name, version, rows)
        self.past[name].append(self.now[name])

    def _gone(self, name: str, *, damaged: bool) -> None:
        self.now.pop(name, None)
        if damaged:
            self.damaged.add(name)

    def _file(self, name: str) -> str:
        return f"{name}.{self.kind}"


def overwrite(path: Path, data: bytes) -> None:
    """Write into the file as it lies there, and set back its time of modification: only ctime can tell."""
    before = path.stat()
    while True:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        if after.st_ctime_ns != before.st_ctime_ns:
            break
    if len(data) == before.st_size:
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def text_of(name: str, row: int, version: int) -> str:
    """Of one length, whatever the version."""
    return f"{name} {row:05} of {version:02} {hashlib.sha256(f'{name} {row} {version}'.encode()).hexdigest()[:24]}"


def texts(kind: str, name: str, version: int, rows: int) -> dict[str, str]:
    """id → text of a file."""
    found = [text_of(name, row, version) for row in range(rows)]
    if kind == "txt":
        return {f"{name}.txt@{row * (len(found[0]) + 1)}": text for row, text in enumerate(found)}
    return {f"{name}-{row:05}": text for row, text in enumerate(found)}


def content(kind: str, name: str, version: int, rows: int) -> bytes:
    """A file's bytes."""
    found = texts(kind, name, version, rows)
    if kind in ("parquet", "arrow", "feather"):
        return _columnar(kind, pa.table({"id": list(found), "text": list(found.values())}))
    if kind == "txt":
        return "".join(f"{text}\n" for text in found.values()).encode()
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        return "".join([f"id{mark}text\n", *(f"{row}{mark}{text}\n" for row, text in found.items())]).encode()
    data = "".join(json.dumps({"id": row, "text": text}) + "\n" for row, text in found.items()).encode()
    if kind == "jsonl.gz":
        return gzip.compress(data, mtime=0)
    return bytes(pa.compress(data, "zstd", asbytes=True)) if kind == "jsonl.zst" else data


def _columnar(kind: str, table: pa.Table) -> bytes:
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink, compression="none", use_dictionary=False, row_group_size=90)
        return sink.getvalue()
    new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=90)
    return sink.getvalue()


def clear(folder: Path) -> None:
    """Take away a folder and all below it."""
    shutil.rmtree(folder, ignore_errors=True)
