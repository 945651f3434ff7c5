"""Kill -9 in mid-run, then the same command again: are all rows there once, and what was done twice?"""

import logging
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.figures.common import Figure, docstrings, finished, make_job, start, table
from jobs.figures.parity import compare, reference
from jobs.figures.processes import kill
from pipeline.commit.keys import ATTEMPT, UNIT
from pipeline.config.schema import Config
from pipeline.storage.open import open_store
from pipeline.storage.store import Store

ROWS = 3000
UNIT_ROWS = 64
VICTIMS = {"driver": 8, "encode worker": 8, "stage worker": 8, "read worker": 0}
"""Who is killed, after how many committed units. Readers are done long before the encoders, so theirs comes at once."""


def measure(folder: Path) -> Figure:
    """Every victim on local disk and on an S3 server on loopback, through embedded Ray."""
    source = docstrings(folder / "texts", ROWS, "jsonl")
    expected = reference(source)
    found = []
    with s3_bucket() as bucket:
        for place, root in (("local disk", str(folder / "out")), ("S3", f"{bucket}/out")):
            for victim in VICTIMS:
                name = f"{victim.replace(' ', '-')}"
                job = make_job(
                    source, f"{root}-{name}", execution__engine="ray", model__precision="exact", units__rows=UNIT_ROWS,
                    units__text_mib=1,
                )  # fmt: skip
                found.append({"place": place, "victim": victim, **kill_and_rerun(job, victim, folder / name)})
                compare(job.output.path, expected)
    rows = [
        (
            case["place"], case["victim"], case["units"], case["committed"], case["in_flight"], case["redone"],
            case["rerun_rows"],
        )
        for case in found
    ]  # fmt: skip
    text = (
        f"{ROWS:,} docstrings in units of {UNIT_ROWS} rows, embedded Ray. After 8 committed units (a reader: at once) the victim "
        "gets SIGKILL; then the same command is run again. A killed worker is replaced within its run; a killed driver ends it. "
        "After each case the published rows are compared with the source and with sentence-transformers: every id once, "
        "every vector its text's own.\n\n"
        + table(
            (
                "output on",
                "killed",
                "units",
                "committed then",
                "in flight then",
                "encoded twice",
                "rows left to the rerun",
            ),
            rows,
        )
    )
    return Figure("Kill -9 and run again", text, {"cases": found})


def kill_and_rerun(job: Config, victim: str, folder: Path) -> dict[str, int]:
    """Kill once, let the run end as it will, run again."""
    store = open_store(job.output.path)
    process = start(job, folder)
    while (committed := count(store, UNIT)) < VICTIMS[victim]:
        if process.poll() is not None:
            raise RuntimeError(f"the job ended early:\n{process.communicate()[1]}")
    in_flight = count(store, ATTEMPT) - committed
    if victim == "driver":
        process.kill()
        killed = 1
    else:
        killed = 0
        while not killed and process.poll() is None:
            killed = kill(process.pid, victim)
    if not killed:
        raise RuntimeError(f"there was no {victim} to kill")
    attempts = watch(store, process)
    if victim == "driver":
        process.communicate()
        attempts |= {entry.key for entry in store.list(ATTEMPT)}
    else:
        finished(process)
    again = start(job, folder)
    attempts |= watch(store, again)
    summary = finished(again)
    return {
        "units": summary["units"],
        "committed": committed,
        "in_flight": in_flight,
        "redone": len({key for key in attempts if key.endswith(".json")}) - summary["units"],
        "rerun_rows": summary["rows_encoded"],
    }


def count(store: Store, prefix: str) -> int:
    """Keys below a prefix."""
    return sum(1 for _ in store.list(prefix))


def watch(store: Store, process: "subprocess.Popen[str]") -> set[str]:
    """Every attempt that was there at some time until the process ended; they are collected at the end of a run only."""
    seen: set[str] = set()
    while process.poll() is None:
        seen |= {entry.key for entry in store.list(ATTEMPT)}
        time.sleep(0.05)  # between two looks
    return seen


@contextmanager
def s3_bucket() -> Iterator[str]:
    """A bucket of an S3 server in this process, on loopback; the standard AWS settings lead to it."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "figures",
        "AWS_SECRET_ACCESS_KEY": "figures",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        name = f"figures-{uuid.uuid4().hex[:8]}"
        boto3.client("s3").create_bucket(Bucket=name)
        yield f"s3://{name}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()
