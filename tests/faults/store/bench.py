"""Where jobs meet a store that misbehaves: sources and output in one bucket, both reached through the fault proxy."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from faults import oracle
from faults.encoder import HOOKS
from faults.leftovers import leftovers
from faults.store.proxy import FaultProxy
from support.jobs import make_config, text_of, write_jsonl, write_parquet

from pipeline.config.schema import Config

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SETTINGS = dict.fromkeys(KEYS, "testing") | dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")
READ_SECONDS = 2  # far above what the servers take here, however busy the machine


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    message: str = ""


@dataclass
class Bench:
    """A bucket with sources that can be changed, and jobs over them."""

    proxy: FaultProxy
    client: Any  # boto3, straight to the server
    bucket: str
    model: str
    place: str = "out"
    files: dict[str, range] = field(default_factory=dict)  # name → the rows it holds

    @property
    def output(self) -> str:
        return f"s3://{self.bucket}/{self.place}"

    @property
    def texts(self) -> dict[str, str]:
        """id → text of all rows there are now."""
        return {f"id-{row}": text_of(row, WORDS) for rows in self.files.values() for row in rows}

    def config(self, **changes: Any) -> Config:
        """Eight units, in two partitions."""
        changes = {"units__rows": 150, "units__text_mib": 1, "output__partition_by": ("lang",)} | changes
        return make_config(f"s3://{self.bucket}/in/", self.output, self.model, **changes)

    def put(self, name: str, rows: range) -> None:
        """Write a source file, as JSON lines or Parquet by its name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            (write_parquet if name.endswith(".parquet") else write_jsonl)(path, rows, words=WORDS)
            self.client.put_object(Bucket=self.bucket, Key=f"in/{name}", Body=path.read_bytes())
        self.files[name] = rows

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"in/{name}")
        del self.files[name]

    def run(self, **changes: Any) -> Ended:
        """One run in this process. What is not an error of the program's own tree is raised: it is a bug."""
        from pipeline.errors import EmbedpipeError
        from pipeline.flow.supervisor import run_job

        try:
            return Ended(run_job(self.config(**changes), allow_drop=True).exit_code)
        except EmbedpipeError as error:
            return Ended(error.exit_code, error.message)

    def well_again(self) -> None:
        """No more faults, and nothing on its way."""
        self.proxy.script.set([])
        self.proxy.settle()

    def collect(self) -> None:
        """`embedpipe gc`."""
        from pipeline.flow.maintenance import collect_garbage

        collect_garbage(self.output, dry_run=False)

    def verdict(self) -> oracle.Verdict:
        """What is published against the sources."""
        return oracle.check(self.output, self.texts, self.model)

    def leftovers(self) -> list[str]:
        """Keys below the output that nothing published refers to."""
        return leftovers(oracle.reader(self.output))

    def close(self) -> None:
        """Remove the bucket: the server keeps all in memory."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for found in (found for page in pages for found in page.get("Contents", ())):
            self.client.delete_object(Bucket=self.bucket, Key=found["Key"])
        self.client.delete_bucket(Bucket=self.bucket)

    def uploads(self) -> list[str]:
        """Multi-part uploads that nobody completed."""
        return [upload["Key"] for upload in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]


WORDS = 90


def fill(bench: Bench) -> None:
    """Small files that are read whole, and others that are read by parts."""
    bench.put("a.jsonl", range(90))
    bench.put("b.parquet", range(100, 220))
    bench.put("c.jsonl", range(300, 600))  # this and the next are over 128 KiB
    bench.put("d.parquet", range(1000, 1300))


def change(bench: Bench) -> None:
    """One file is another, one goes, one comes."""
    bench.put("b.parquet", range(100, 150))
    bench.remove("a.jsonl")
    bench.put("e.jsonl", range(2000, 2090))


@contextmanager
def workplace(pause: bool = False) -> Iterator[None]:
    """This process as jobs need it: the scripted encoder, a client that gives up soon, and no pauses but where asked for."""
    from pipeline.flow import encoding, replica
    from pipeline.storage import retry, s3

    with ExitStack() as patches:
        for module in (replica, encoding):  # to be put back; `encoding` may have the name already
            patches.enter_context(mock.patch.object(module, "load_replica"))
        HOOKS["pipeline.flow.replica"](replica)
        encoding.load_replica = replica.load_replica
        patches.enter_context(mock.patch.object(s3, "READ_SECONDS", READ_SECONDS))
        if not pause:
            patches.enter_context(mock.patch.object(retry, "FIRST_PAUSE_SECONDS", 0.0))
        yield


@contextmanager
def through(proxy: FaultProxy, **settings: str) -> Iterator[None]:
    """The environment in which every client goes through the proxy."""
    with mock.patch.dict(os.environ, {**SETTINGS, "AWS_ENDPOINT_URL": proxy.endpoint, **settings}):
        yield


def open_bench(proxy: FaultProxy, backend: str, model: str) -> Bench:
    """A fresh bucket with its sources in it."""
    client = boto3.client("s3", endpoint_url=backend)
    bench = Bench(proxy, client, f"b-{uuid.uuid4().hex[:12]}", model)
    client.create_bucket(Bucket=bench.bucket)
    fill(bench)
    return bench
