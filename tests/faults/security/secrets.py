"""Secrets planted in the environment and the AWS profile of whole jobs, and every byte that those jobs write, looked through
for them: as it lies there, and unpacked."""

import base64
import json
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from faults import hooks
from faults.security.unpacked import readings
from support.jobs import write_parquet

NAMES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_CLIENT_SECRET", "GOOGLE_API_KEY",
    "HF_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING", "DATABASE_PASSWORD",
)  # fmt: skip

PROFILES = ".aws"


def planted(endpoint: str) -> dict[str, str]:
    """Settings with a secret in each; those that must be values of a kind are."""
    secrets = {name: f"pl4nted{uuid.uuid4().hex}/{uuid.uuid4().hex[:6]}+x" for name in NAMES}
    return {
        **secrets,
        "HTTPS_PROXY": f"http://someone:{secrets['DATABASE_PASSWORD']}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAPUBLIC",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "HF_HUB_OFFLINE": "1",
    }


def as_profile(settings: dict[str, str], home: Path) -> dict[str, str]:
    """The same settings with the credentials in a profile, as below the HOME that a user has on his own machine."""
    kept = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    folder = home / PROFILES
    folder.mkdir(parents=True)
    lines = [f"{name.lower()} = {settings[name]}" for name in kept]
    (folder / "credentials").write_text("\n".join(["[planted]", *lines, ""]))
    return {name: value for name, value in settings.items() if name not in kept} | {"AWS_PROFILE": "planted"}


def found(settings: dict[str, str], pieces: Iterator[tuple[str, bytes]]) -> list[str]:
    """Which secret is in which piece or in what is packed there, as it is, percent-encoded or in base64; each once."""
    needles = []
    for name in NAMES:
        value = settings[name]
        spelled = {value, urllib.parse.quote(value, safe=""), urllib.parse.quote(value)}
        needles += [(name, text.encode()) for text in spelled]
        needles.append((name, base64.b64encode(value.encode())[:-4]))
    hits = (
        f"{name} in {where}"
        for where, data in pieces
        for text in readings(data)
        for name, needle in needles
        if needle in text
    )
    return list(dict.fromkeys(hits))


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Everything below the folders, logs of a Ray session included, but for where the secrets were planted."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.parent.name != PROFILES:
                yield str(path), path.read_bytes()


def objects(settings: dict[str, str], bucket: str) -> Iterator[tuple[str, bytes]]:
    """Everything in a bucket: keys, metadata and bodies."""
    client = boto3.client(
        "s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )  # fmt: skip
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", ()):
            answer = client.get_object(Bucket=bucket, Key=entry["Key"])
            yield f"the name and metadata of {entry['Key']}", json.dumps([entry["Key"], answer["Metadata"]]).encode()
            yield entry["Key"], answer["Body"].read()


def run_command(
    folder: Path, settings: dict[str, str], model: str, bucket: str, engine: str, *, debug: bool = False, **changes: Any
) -> tuple[int, bytes]:
    """A whole job on S3 as a user starts it, in a HOME and with temporary folders of its own; exit code and all it said."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shard = folder / "work" / "in" / "a.parquet"
    write_parquet(shard, range(200))
    job = {
        "input": {"paths": [str(shard)], "text": "text", "id": "id", "keep": ["lang"], **changes.pop("input", {})},
        "model": {"name": model},
        "units": {"rows": 50},
        "output": {"path": f"s3://{bucket}/out", "partition_by": ["lang"]},
        "execution": {
            "engine": engine,
            "events": str(folder / "work" / "events.jsonl"),
            "log_format": "json",
            "replicas": 1,
        },
    }
    (folder / "work" / "job.yaml").write_text(json.dumps(job))
    inherited = hooks.environment("faults.encoder")
    environment = {
        **{name: value for name, value in inherited.items() if not name.startswith("AWS_")}, **settings,
        "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": str(folder / "tmp"),
        "RAY_BACKEND_LOG_LEVEL": "info",
    }  # fmt: skip
    command = [sys.executable, "-m", "pipeline", *(["--debug"] if debug else []), "run", "-c", "job.yaml", "--json"]
    ended = subprocess.run(command, env=environment, cwd=folder / "work", capture_output=True, check=False, timeout=250)
    return ended.returncode, ended.stdout + ended.stderr
