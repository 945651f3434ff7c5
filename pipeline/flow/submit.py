"""`embedpipe submit`: the job on a running cluster, through Ray's Jobs API, with the code it needs.

Sent are this program's own source and the config; installed over there must be its dependencies. Credentials are never
sent: what a job is submitted with stands in the cluster's dashboard for all to see.
"""

import asyncio
import errno
import logging
import os
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import pipeline
from pipeline.config.load import dump_config
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, IncompleteError, StorageError, first_line
from pipeline.flow.cluster import wants_token
from pipeline.flow.exposure import refuse_open_dashboard
from pipeline.model.resolve import portable_name
from pipeline.storage.environment import redact
from pipeline.storage.uri import parse

CONFIG_FILE = "job.yaml"
PLAIN_SETTINGS = (
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
)
"""Storage settings that go along: where the data is, never who may read it."""

POLL_S = 1.0
PATIENCE = 20  # polls
ANSWER_S = 30.0
"""A dashboard that was stopped, or hangs, takes a request and says nothing more. One that is only busy has answered by then."""
SILENT_S = 30.0
"""A log that says nothing for so long may have lost its connection."""
KILLED = 128
"""A shell adds the signal's number to this when what it ran was killed."""

_AWAY = (RayError, ConnectionError, requests.ConnectionError, requests.Timeout)
_SERVER_ERROR = re.compile(r"Request failed with status code 5\d\d|5\d\d Server Error")
"""How Ray's client says that the dashboard, or what stands before it, answered 500 or more."""

_NO_ROOM = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS})
"""How a disk says no to Ray's client, which packs what it sends once more. What it says of a network has no number."""

_OVERRIDING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Ray lets these win over the address it is given."""

_PLACE = re.compile(r"(?:\w+://)?(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d+)/?")
_UNFIT = re.compile(r"[\s?#]")
_DASHBOARD = "8265"
_NO_DASHBOARD = frozenset({"6379", "10001"})
"""Where a head listens for nodes and for Ray's own client, unless it is told otherwise."""


def submit_job(
    config: Config,
    address: str,
    *,
    limit: int | None,
    allow_drop: bool,
    replace: bool,
    follow: bool,
    show: Callable[[str], None],
) -> int:
    """Run the job on the cluster whose dashboard is at `address`; the exit code it ended with, 0 when not followed.

    show: is given the job's output as it comes, in pieces that end with a line.
    Raises ConfigError when `address` is no URL, or the cluster refuses or is open to anybody; IncompleteError when it can't be
    reached, or the job was stopped or lost; StorageError when this machine's temporary folder can't take what is sent.
    """
    return send(
        lambda folder: pack(config, folder),
        command(limit=limit, allow_drop=allow_drop, replace=replace),
        address,
        output=config.output.path,
        follow=follow,
        show=show,
    )


def send(
    pack: Callable[[Path], None],
    entrypoint: str,
    address: str,
    *,
    output: str,
    follow: bool,
    show: Callable[[str], None],
    gpus: int = 0,
) -> int:
    """Run a shell command on the cluster, in a copy of the folder that `pack` has filled. See `submit_job` for the rest.

    output: where the result will lie, for people. gpus: that the command itself needs, for as long as it runs.
    """
    _check_url(address)
    refuse_open_dashboard(address)
    shown = redact(address)
    with _packed(pack) as folder, _reported(shown):
        client = _connect(address)
        try:
            job = _patiently(
                lambda: client.submit_job(
                    entrypoint=entrypoint,
                    entrypoint_num_gpus=gpus or None,
                    runtime_env={"working_dir": folder, "env_vars": _settings()},
                    metadata={"program": f"embedpipe {pipeline.__version__}", "output": output},
                )
            )
        except requests.ReadTimeout as error:  # it has the request, and may act on it when it goes on
            raise IncompleteError(
                f"the Ray dashboard at {shown!r} does not answer who sends it the job: {first_line(error)}. The job may run "
                f"all the same: check that the dashboard is up, and run again if `ray job list --address {shown}` does not "
                "show it"
            ) from error
    show(f"submitted as {job} to {shown}\n")
    return _follow(client, job, shown, show) if follow else 0


@contextmanager
def _packed(pack: Callable[[Path], None]) -> Iterator[str]:
    """A temporary folder that `pack` has filled. Raises StorageError where this machine has no room for it."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="embedpipe-submit-", ignore_cleanup_errors=True)
            )
            pack(Path(folder))
        except OSError as error:
            raise _no_room(error) from error
        yield folder


def _no_room(error: OSError) -> StorageError:
    found: object = error
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        found = error.args[0][0][-1]  # of a folder: (from, to, why) for each file
    return StorageError(
        f"the job can't be packed to be sent, in the temporary folder of this machine: {found}. Make room there, or let TMPDIR "
        "name a folder that this process may write to, and run again"
    )


def pack(config: Config, folder: Path) -> None:
    """Lay out what the cluster is sent: the package and the config, with local paths made absolute."""
    pack_code(folder)
    (folder / CONFIG_FILE).write_text(dump_config(portable(config)), encoding="utf-8")


def pack_code(folder: Path) -> None:
    """Lay out the package."""
    package = Path(pipeline.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))


def portable(config: Config) -> Config:
    """The same job as seen from another working directory, on the cluster that it is sent to."""
    source, model = config.input, config.model
    changed = {
        "input": source.model_copy(
            update={
                "paths": tuple(str(parse(path)) for path in source.paths),
                "root": None if source.root is None else str(parse(source.root)),
            }
        ),
        "model": model.model_copy(update={"name": portable_name(model.name)}),
        "output": config.output.model_copy(update={"path": str(parse(config.output.path))}),
        "execution": config.execution.model_copy(update={"address": "auto"}),
    }
    return config.model_copy(update=changed)


def command(*, limit: int | None, allow_drop: bool, replace: bool) -> str:
    """The shell command that the cluster runs."""
    words = ["python", "-m", "pipeline", "run", "--config", CONFIG_FILE]
    words += ["--limit", str(limit)] if limit is not None else []
    words += ["--allow-drop"] * allow_drop + ["--replace"] * replace
    return shlex.join(words)


def _check_url(address: str) -> None:
    """Raises ConfigError for what is no URL of a dashboard. Ray would take it for an address of its own, look for the dashboard
    there, for most of a minute, and send the job to one that nobody has judged."""
    if _is_url(address):
        return
    shown = redact(address if "://" in address else f"://{address}").removeprefix("://")
    meant = ""
    if place := _PLACE.fullmatch(address):
        meant = f"http://{place['host']}:{_DASHBOARD if place['port'] in _NO_DASHBOARD else place['port']}"
    raise ConfigError(
        f"--address {shown!r} is not the URL of a Ray dashboard: expected http://HOST:PORT or https://HOST:PORT, as in "
        f"http://head:8265{f'; did you mean {meant}?' if _is_url(meant) else ''}"
    )


def _is_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its other one
        return False
    return named and address.startswith(("http://", "https://")) and not _UNFIT.search(address)


def _settings() -> dict[str, str]:
    return {name: os.environ[name] for name in PLAIN_SETTINGS if os.environ.get(name) and "@" not in os.environ[name]}


class _Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types
    """Ray's own waits for an answer without end."""

    def _do_request(self, *request: Any, **options: Any) -> requests.Response:
        answer: requests.Response = super()._do_request(*request, **options, timeout=ANSWER_S)
        return answer


def _connect(address: str) -> JobSubmissionClient:
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    aside = {name: os.environ.pop(name) for name in _OVERRIDING if name in os.environ}
    try:
        return _Client(address)
    finally:
        os.environ.update(aside)


def _patiently(ask: Callable[[], str]) -> str:
    """A dashboard that has just started has no agent yet to run jobs, and answers 500."""
    for _ in range(PATIENCE):
        try:
            return ask()
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            time.sleep(POLL_S)  # between two tries
    return ask()


def _follow(client: JobSubmissionClient, job: str, address: str, show: Callable[[str], None]) -> int:
    """Pass the job's output on until it has ended; its exit code."""
    try:
        asyncio.run(_tail(client, job, show))
        details = _ended(client, job, show)
    except KeyboardInterrupt:
        raise IncompleteError(
            f"no longer following; the job goes on. `ray job stop --address {address} {job}` ends it, and `embedpipe "
            "status` tells how far it is"
        ) from None
    return _exit_code(details, job)


async def _tail(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> None:
    """The log, until it ends or its connection is lost, by which the job itself loses nothing.

    What lies between may drop a connection without a word: while the log is silent the job is asked whether it has ended. Who
    doesn't answer that is waited for elsewhere, and not for ever.
    """
    log = client.tail_job_logs(job)
    while True:
        coming = asyncio.ensure_future(_next(log))
        try:
            while not (await asyncio.wait([coming], timeout=SILENT_S))[0]:
                if (await _unjoined(lambda: client.get_job_info(job))).status.is_terminal():
                    return
            lines = await coming
        except (aiohttp.ClientError, RayError, RuntimeError, OSError) as error:
            show(f"the connection to the log is lost ({first_line(error)}); the job goes on, and is waited for\n")
            return
        finally:
            coming.cancel()
        if lines is None:
            return
        show(lines)


async def _next(log: AsyncIterator[str]) -> str | None:
    return await anext(log, None)


async def _unjoined(ask: Callable[[], JobDetails]) -> JobDetails:
    """What `ask` gives, from a thread that nobody joins. For one of `asyncio.to_thread` the end of the loop waits, and with it
    whoever presses Ctrl-C while a dashboard that hangs is asked."""
    answer: Future[JobDetails] = Future()
    answer.set_running_or_notify_cancel()  # from here on it is the thread's alone: who no longer waits can't cancel it

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="ask-dashboard", daemon=True).start()
    return await asyncio.wrap_future(answer)


def _ended(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> JobDetails:
    """The job once it has ended, which the log may tell sooner than its status."""
    silent = 0
    while True:
        try:
            details = client.get_job_info(job)
        except (RayError, RuntimeError, OSError) as error:
            silent += 1
            if silent == 1:
                show(f"the dashboard tells nothing of {job} ({first_line(error)}); it is asked again for a while\n")
            if silent > PATIENCE:
                raise IncompleteError(
                    f"the dashboard tells no more about {job}: {first_line(error)}. The job may go on, or have ended with its "
                    "cluster; what is committed stays, and sending it again does no harm"
                ) from error
        else:
            silent = 0
            if details.status.is_terminal():
                return details
        time.sleep(POLL_S)  # between two looks


def _exit_code(details: JobDetails, job: str) -> int:
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        raise IncompleteError(f"{job} was stopped; what is committed stays, send it again to go on")
    code = details.driver_exit_code
    if code is not None and 0 < code < KILLED:
        return int(code)
    how = "its driver did not start" if code is None else f"its driver was killed (status {code})"
    raise IncompleteError(f"{job} failed: {how}: {details.message}. What is committed stays, send it again to go on")


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """What Ray raises leaves this block as an error of the tree."""
    try:
        yield
    except AuthenticationError as error:
        raise wants_token(address) from error
    except (RayError, RuntimeError, OSError, ValueError, LookupError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _no_room(error) from error
        if isinstance(error, _AWAY) or _SERVER_ERROR.match(str(error)):  # one that is starting, or has died
            raise IncompleteError(
                f"no Ray dashboard answers at {address!r}: {first_line(error)}. Check that it is up and --address is right, and "
                "run again"
            ) from error
        raise ConfigError(
            f"{address}: no Ray dashboard answers as it should: {first_line(error)}. Check --address"
        ) from error
