"""What a reader can see of an output without this program: the newest version, and a mark of each file that changes with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

LOG = "_embedpipe/log/"


class Eyes(Protocol):
    """Looks at one output."""

    pause_s: float  # between looks; requests to a server cost more than files of this machine

    def newest(self) -> int:
        """Version of the newest log entry; 0 when there's none."""
        ...

    def mark(self, key: str) -> str:
        """What can't stay the same when the file is written again; "" when it's gone."""
        ...


class LocalEyes:
    """An output in a folder."""

    pause_s = 0.02

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def newest(self) -> int:
        try:
            return _newest(path.name for path in (self._root / LOG).iterdir())
        except FileNotFoundError:
            return 0

    def mark(self, key: str) -> str:
        try:
            found = (self._root / key).stat()
        except FileNotFoundError:
            return ""
        return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


class S3Eyes:
    """An output in a bucket of the server that this process's environment names."""

    pause_s = 0.2

    def __init__(self, root: str) -> None:
        import boto3

        self._bucket, _, self._prefix = root.removeprefix("s3://").partition("/")
        self._client: Any = boto3.client("s3")

    def newest(self) -> int:
        return _newest(key.rpartition("/")[2] for key in self._list(LOG))

    def mark(self, key: str) -> str:
        return self._list(key).get(f"{self._prefix}/{key}", "")

    def _list(self, prefix: str) -> dict[str, str]:
        """Key → ETag."""
        answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._prefix}/{prefix}")
        return {found["Key"]: found["ETag"] for found in answer.get("Contents", ())}


def eyes(root: str) -> Eyes:
    """For a local path or an s3:// URI."""
    return S3Eyes(root) if root.startswith("s3://") else LocalEyes(root)


def _newest(names: Iterable[str]) -> int:
    return max((int(name.removesuffix(".json")) for name in names if name.endswith(".json")), default=0)
