"""Paths and URIs as users write them → scheme and path. No escapes are decoded: a `%` in a name is a `%`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.storage.environment import redact

Scheme = Literal["file", "s3", "gs", "az"]
_LIKE_A_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
SCHEMES: dict[str, Scheme] = {"file": "file", "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az"}

_AZURE = frozenset({"abfs", "abfss", "wasb", "wasbs", "adl"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies. `path`: absolute on local disk, `<bucket>/<key>` elsewhere."""

    scheme: Scheme
    path: str

    def __str__(self) -> str:
        return self.path if self.scheme == "file" else f"{self.scheme}://{self.path}"


def parse(uri: str) -> Place:
    """Understand a path or URI. Raises ConfigError without repeating credentials."""
    name, separator, rest = uri.partition("://")
    if not separator:
        if _LIKE_A_URI.match(uri):
            raise ConfigError(
                f"{redact(uri)!r}: a URI has two slashes after its scheme; a local name with a colon is written ./name"
            )
        return Place("file", _absolute(uri))
    if "::" in name:
        raise ConfigError(
            f"{redact(uri)!r}: chained URIs (`::`) are not supported; give the path of the files themselves"
        )
    scheme = SCHEMES.get(name.lower())
    if name.lower() in _AZURE:
        raise ConfigError(
            f"{redact(uri)!r}: {name}:// is spelled az://<container>/<path> here; the account is set in the environment, by "
            "AZURE_STORAGE_ACCOUNT_NAME"
        )
    if scheme is None:
        raise ConfigError(f"{redact(uri)!r}: unknown scheme {name!r}; use a local path, s3://, gs:// or az://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise ConfigError(f"{redact(uri)!r}: a file URI has three slashes, as in file:///data")
        return Place("file", _absolute(rest))
    bucket = rest.partition("/")[0]
    if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):  # a secret key may hold the first slash
        raise ConfigError(
            f"{redact(uri)!r}: credentials don't belong in a URI, where logs would show them; "
            "set them in the environment (AWS_ACCESS_KEY_ID, ...) or use a profile or role"
        )
    if not bucket:
        raise ConfigError(f"{redact(uri)!r} names no bucket; expected {scheme}://<bucket>/<path>")
    return Place(scheme, rest)


def parse_root(uri: str) -> Place:
    """The same for a folder: without slashes at its end, and not the whole of local disk."""
    place = parse(uri)
    path = place.path.rstrip("/")
    if not path:
        raise ConfigError(f"{redact(uri)!r} is the root of the local disk; name a folder")
    if place.scheme != "file" and re.search(r"(^|/)\.{0,2}(/|$)", path):
        raise ConfigError(f"{redact(uri)!r} has an empty, `.` or `..` part, which object stores take literally")
    return Place(place.scheme, path)


def local_path(path: str) -> Path:
    """With `~` as the user's own home; `~other` is just a name."""
    return Path(path).expanduser() if path == "~" or path.startswith("~/") else Path(path)


def _absolute(path: str) -> str:
    """Absolute and without `.`, `..` or `//`, but with links kept and a slash at the end kept: it says 'a folder'."""
    if not path:
        raise ConfigError("an empty path names nothing")
    slash = "/" if path.endswith("/") else ""
    clean = local_path(path).absolute().as_posix()
    parts: list[str] = []
    for part in clean.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return "/" + "/".join(parts) + (slash if parts else "")
