"""The security cases by number, pass after pass, for as long as there is time.

At the end of each pass come two whole jobs on S3, one of each engine, whose every byte is searched for secrets.
"""

import logging
import tempfile
import time
import uuid
from collections import Counter
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

ENGINES = ("serial", "ray")
PASS = len(ALL) + len(ENGINES)
"""Numbers of one pass: the cases, then a search with each engine."""


def soak(first: int, seconds: float) -> Chunk:
    """Cases from number `first` on. `security_cases` counts each case once, in the first pass, and `repeated_cases` all others:
    all were made when there are `all_security_cases`. What was not looked for (secrets, canaries) is not counted, not even as 0.
    """
    counts: Counter[str] = Counter(all_security_cases=len(ALL)) if first == 0 else Counter()
    end = time.monotonic() + seconds
    number = first
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        model = save_tiny_bert(Path(folder), find_minilm())
        with Canary(Path(folder)) as canary:
            while number == first or time.monotonic() < end:
                turn, place = divmod(number, PASS)
                if place < len(ALL):
                    _attack(place, model, canary, counts)
                    counts["repeated_cases" if turn else "security_cases"] += 1
                else:
                    _search(model, ENGINES[place - len(ALL)], turn, counts)
                number += 1
    return Chunk(number, dict(counts))


def _attack(place: int, model: str, canary: Canary, counts: Counter[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        violation = ALL[place].violation(World(Path(folder), model, canary))
    if violation:
        log.error("security case %d: %s", place, violation)
    counts["security_violations"] += bool(violation)
    counts["canaries_fired"] += bool(violation) and "canary: alive" not in violation


def _search(model: str, engine: str, turn: int, counts: Counter[str]) -> None:
    """Credentials are in the environment of one engine's job and in the profile of the other's: in the first pass the two that
    tests leave out."""
    in_profile = (engine == "ray") != bool(turn % 2)
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
    counts[f"searches.{engine}"] += code == 0
    counts["security_violations"] += code != 0
    counts["secrets_found"] += len(secrets)
