"""The security cases by number, for as long as there is time.

With each pass over all of them comes a whole job on S3, whose every byte is searched for secrets.
"""

import logging
import tempfile
import time
import uuid
from pathlib import Path

import boto3
from faults.ledger import Chunk
from faults.security.canary import Canary
from faults.security.case import World
from faults.security.cases import ALL
from faults.security.secrets import as_profile, files, found, objects, planted, run_command
from support.models import find_minilm, save_tiny_bert
from support.s3 import s3_server

log = logging.getLogger(__name__)


def soak(first: int, seconds: float) -> Chunk:
    """Cases from number `first` on; the number after the last of a pass is that of its job."""
    counts = {"security_cases": 0, "security_violations": 0, "canaries_fired": 0, "secrets_found": 0}
    end = time.monotonic() + seconds
    number = first
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        model = save_tiny_bert(Path(folder), find_minilm())
        with Canary(Path(folder)) as canary:
            while number == first or time.monotonic() < end:
                place = number % (len(ALL) + 1)
                if place < len(ALL):
                    _attack(place, model, canary, counts)
                else:
                    _search(model, number // (len(ALL) + 1), counts)
                counts["security_cases"] += 1
                number += 1
    return Chunk(number, counts)


def _attack(place: int, model: str, canary: Canary, counts: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        violation = ALL[place].violation(World(Path(folder), model, canary))
    if violation:
        log.error("security case %d: %s", place, violation)
        counts["security_violations"] += 1
        counts["canaries_fired"] += "canary: alive" not in violation


def _search(model: str, turn: int, counts: dict[str, int]) -> None:
    engine, in_profile = ("serial", "ray")[turn % 2], turn // 2 % 2
    with s3_server() as endpoint, tempfile.TemporaryDirectory(prefix="s-") as folder:
        settings = planted(endpoint)
        bucket = f"b-{uuid.uuid4().hex[:12]}"
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        ).create_bucket(Bucket=bucket)
        given = as_profile(settings, Path(folder) / "home") if in_profile else settings
        code, said = run_command(Path(folder), given, model, bucket, engine)
        secrets = found(settings, iter([*objects(settings, bucket), *files(Path(folder)), ("output", said)]))
    if code or secrets:
        log.error("a whole job with engine %s: exit code %d, %s", engine, code, secrets)
    counts["security_violations"] += code != 0
    counts["secrets_found"] += len(secrets)
