"""Where swept jobs write: a local folder, or a bucket of an S3 server in a process of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from support.s3 import s3_settings

PLACES = ("local", "s3")


class Place(Protocol):
    """Outputs, by name."""

    settings: Mapping[str, str]  # environment of processes that write there

    def root(self, name: str) -> str:
        """Path or URI of an output."""
        ...

    def copy(self, name: str, to: str) -> None:
        """Make an output as another is."""
        ...

    def remove(self, name: str) -> None:
        """Remove an output with all that's in it."""
        ...


class Local:
    """Folders."""

    settings: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def root(self, name: str) -> str:
        return str(self._folder / name)

    def copy(self, name: str, to: str) -> None:
        shutil.copytree(self._folder / name, self._folder / to)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)


class S3:
    """Prefixes of a bucket."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        import boto3

        self.settings = settings
        self._client: Any = boto3.client("s3")
        self._client.create_bucket(Bucket="sweep")

    def root(self, name: str) -> str:
        return f"s3://sweep/{name}"

    def copy(self, name: str, to: str) -> None:
        for key in self._keys(name):
            source = {"Bucket": "sweep", "Key": key}
            self._client.copy_object(Bucket="sweep", Key=to + key.removeprefix(name), CopySource=source)

    def remove(self, name: str) -> None:
        keys = [{"Key": key} for key in self._keys(name)]
        if keys:
            self._client.delete_objects(Bucket="sweep", Delete={"Objects": keys, "Quiet": True})

    def _keys(self, name: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket="sweep", Prefix=f"{name}/")
        return [found["Key"] for page in pages for found in page.get("Contents", ())]


@contextlib.contextmanager
def open_place(name: str, folder: Path) -> Iterator[Place]:
    """A place that is there for the length of the block; this process's environment is that of its clients."""
    if name == "local":
        yield Local(folder)
        return
    with _server() as endpoint:
        settings = s3_settings(endpoint)
        with patch.dict(os.environ, settings):
            yield S3(settings)


_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler
WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
sys.stdout.write("http://{}:{}\\n".format(*server.get_host_and_port()))
sys.stdout.flush()
sys.stdin.read()
"""


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """An S3 server that ends with its stdin, so also when this process is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
