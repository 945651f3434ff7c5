"""Places that are no places: other schemes, chains, machines' metadata, redirects, and URLs with a secret in them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults.security.canary import Canary
from faults.security.case import Case, World, job, refused
from support.jobs import write_jsonl

from pipeline.config.load import check_config
from pipeline.model.resolve import resolve_model
from pipeline.storage.inputs import expand
from pipeline.storage.open import open_store

URLS = (
    "http://HOST/x.parquet", "https://HOST/x.parquet", "HTTP://HOST/x.parquet", "ftp://HOST/x", "sftp://HOST/x", "ssh://HOST/x",
    "smb://HOST/share/x", "webhdfs://HOST/x", "webHDFS://HOST/x", "hdfs://HOST/x", "github://evil:repository@HOST/x", "git:///tmp:x",
    "gist://HOST/x", "hf://evil/model", "memory://x/y", "data:text/plain,x", "data://text/plain,x", "jar://x::http://HOST/x",
    "dask://HOST/x", "dbfs://HOST/x", "jlab://HOST/x", "lakefs://HOST/x", "oci://HOST/x", "dropbox://x/y", "gdrive://x/y",
    "abfs://HOST/x", "wasb://HOST/x", "adl://HOST/x", "s3n://HOST/x", "root://HOST/x", "tos://HOST/x", "oss://HOST/x",
    "simplecache::http://HOST/x", "filecache::http://HOST/x", "blockcache::http://HOST/x", "cached::http://HOST/x",
    "simplecache::s3://bucket/x", "zip://*::http://HOST/x.zip", "zip://x::s3://bucket/x.zip", "tar://x::http://HOST/x.tar",
    "tar://../../x::s3://bucket/x.tar", "libarchive://x::http://HOST/x", "reference://::http://HOST/x.json", "dir::http://HOST/x",
    "local://etc/passwd", "generic::http://HOST/x", "async_wrapper::http://HOST/x", "jdbc:http://HOST/x", "javascript://HOST/x",
    "http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/latest", "http://2852039166/latest",
    "http://metadata.google.internal/x", "file://HOST/x", "file:relative", "file://", "s3:///key", "://x", "::s3://b/x",
)  # fmt: skip
KEYS = ("input.paths", "input.root", "output.path", "model.name", "execution.model_cache", "execution.events")

SECRET = "pl4nted-s3cret"
WITH_SECRET = (
    "s3://AKIAX:SECRET@bucket/x", "s3://AKIAX:a/SECRET@bucket/x", "s3://SECRET@bucket/x", "s3://bucket/x?X-Amz-Signature=SECRET",
    "s3://bucket/x?AWSAccessKeyId=A&Signature=SECRET&Expires=1", "gs://bucket/x?X-Goog-Signature=SECRET", "az://box/x?sv=1&sig=SECRET",
    "az://box/x?sig=SECRET", "az://box/x?AccountKey=SECRET", "az://box/x;AccountKey=SECRET", "s3://bucket/x?x-amz-security-token=SECRET",
    "https://account.blob.core.windows.net/box/x?sv=1&sig=SECRET", "http://user:SECRET@store:9000/x", "s3://bucket/x?token=SECRET",
    "s3://bucket/x?password=SECRET", "simplecache::s3://A:SECRET@bucket/x",
)  # fmt: skip
MISTYPED = (
    "s3:/AKIAX:SECRET@bucket/x", "s3:AKIAX:SECRET@bucket/x", "s3:///AKIAX:a/SECRET@bucket/x", "gs:/SECRET@bucket/x",
    "https:/user:SECRET@host/x", "HTTPS:user:SECRET@host/x", "simplecache::s3:/A:SECRET@bucket/x", "https://host/f?api_key=SECRET",
    "https://host/f?key=SECRET", "https://host/f?a=b&key=SECRET", "https://host/f?X-Api-Key=SECRET",
    "https://host/f?access_token=SECRET",
)  # fmt: skip
"""With a slash too few or too many, or in a place of which nothing here takes a secret."""


def raw_job(world: World, key: str, value: str) -> dict[str, dict[str, Any]]:
    """A job that would run, but for one key."""
    write_jsonl(world.folder / "in" / "a.jsonl", range(3))
    raw: dict[str, dict[str, Any]] = {
        "input": {"paths": [str(world.folder / "in")], "text": "text"},
        "model": {"name": world.model},
        "output": {"path": str(world.folder / "out")},
        "execution": {"engine": "serial"},
    }
    section, _, name = key.partition(".")
    raw[section][name] = [value] if key == "input.paths" else value
    return raw


def _url(key: str, url: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        before = Path.cwd()
        os.chdir(world.folder)
        try:
            refused(lambda: job(raw_job(world, key, url.replace("HOST", world.canary.host))))
        finally:
            os.chdir(before)
        left = {path.name for path in world.folder.iterdir()} - {"in", "out"}
        assert not left, f"{left} was made"

    return act


def _secret(key: str, url: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        message = refused(lambda: check_config(raw_job(world, key, url.replace("SECRET", SECRET)), "job"), 2)
        assert SECRET not in message, message

    return act


def _secret_argument(call: Callable[[str], object], url: str) -> Callable[[World], None]:
    """On the command line, past the config's checks."""

    def act(world: World) -> None:
        message = refused(lambda: call(url.replace("SECRET", SECRET)))
        assert SECRET not in message, message

    return act


def _local_file(key: str, path: str) -> Callable[[World], None]:
    """A file of the machine that isn't data, named by somebody who may write configs."""

    def act(world: World) -> None:
        message = refused(lambda: job(raw_job(world, key, path)))
        assert "root:" not in message, message

    return act


def _local_beside_remote(path: str) -> Callable[[World], None]:
    """A file of the machine slipped into a config that is meant for a bucket."""

    def act(world: World) -> None:
        raw = raw_job(world, "input.paths", "s3://bucket/texts/")
        raw["input"] |= {"paths": ["s3://bucket/texts/", path], "format": "text", "text": None}
        assert "is a file of this machine" in refused(lambda: job(raw), 2)

    return act


def _redirect(status: int) -> Callable[[World], None]:
    """A store that sends its clients elsewhere: they must not go."""

    def act(world: World) -> None:
        answer = (
            f"HTTP/1.1 {status} Moved\r\nLocation: http://{world.canary.host}/latest/meta-data\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with Canary(world.folder, answer.encode()) as store:
            settings = {
                "AWS_ENDPOINT_URL": f"http://{store.host}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "testing-secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }  # fmt: skip
            with patch.dict(os.environ, settings):
                refused(lambda: expand(["s3://bucket/x.parquet"]), 3, 4)
            assert store.calls

    return act


def _mapped_names(name: str) -> Callable[[World], None]:
    """What looks like a hub id must be pinned, or nobody is asked."""

    def act(world: World) -> None:
        with patch.dict(os.environ, {"HF_ENDPOINT": f"http://{world.canary.host}"}):
            refused(lambda: job(raw_job(world, "model.name", name)), 2)
            refused(lambda: resolve_model(name, "main", str(world.folder / "cache")), 2)

    return act


CASES = [
    *(Case(f"{key}: {url}", _url(key, url)) for key in KEYS for url in URLS
      if "//" in url or "::" in url or not key.startswith("execution")),
    *(Case(f"{key} with a secret: {url}", _secret(key, url))
      for key in (*KEYS, "execution.address") for url in (*WITH_SECRET, *MISTYPED)),
    *(Case(f"output on the command line with a secret: {url}", _secret_argument(open_store, url))
      for url in (*WITH_SECRET[:3], *MISTYPED) if ":///" not in url),
    *(Case(f"input with a secret: {url}", _secret_argument(lambda url: expand([url]), url))
      for url in (*WITH_SECRET[:3], WITH_SECRET[-1], *MISTYPED) if ":///" not in url),
    *(Case(f"{key} is {path}", _local_file(key, path))
      for key in ("input.paths", "model.name") for path in ("file:///etc/passwd", "/etc/passwd", "file:///etc/shadow",
          "/proc/self/environ")),
    *(Case(f"{path} in a config meant for S3", _local_beside_remote(path))
      for path in ("file:///etc/passwd", "/etc/passwd", "file:///etc/[p]asswd")),
    Case("files of a machine beside data", _local_file("input.paths", "file:///etc/[p]asswd")),
    *(Case(f"a store redirects with {status}", _redirect(status)) for status in (301, 302, 303, 307, 308)),
    *(Case(f"model {name!r}", _mapped_names(name))
      for name in ("evil/model", "evil", "evil/..", "../evil", "evil/model@main", "evil/model/extra", "~evil/model",
          "package:os.path",
                   "package:evil; import os", "package:", "package:../evil", "evil\nmodel")),
]  # fmt: skip
