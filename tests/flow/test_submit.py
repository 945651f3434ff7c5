"""A job sent to a real cluster: a Ray head with dashboard and token, on loopback."""

import asyncio
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import requests
from ray.exceptions import AuthenticationError, RpcError
from ray.job_submission import JobDetails, JobStatus, JobType
from support.cluster import Head, ray_head
from support.jobs import ids, make_config, read_rows, write_jsonl

from jobs.figures.processes import descendants
from pipeline.config.load import dump_config, load_config
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, EmbedpipeError, IncompleteError
from pipeline.flow import submit
from pipeline.flow.status import read_status
from pipeline.flow.submit import command, pack, portable
from pipeline.storage.open import open_store

ENDED = JobDetails(type=JobType.SUBMISSION, entrypoint="embedpipe", status=JobStatus.SUCCEEDED)
GONE = RuntimeError("Request failed with status code 404: job raysubmit_1 does not exist.")
PROJECT = Path(__file__).parents[2]
ROWS = 1200


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def job(tmp_path: Path, tiny_model: str) -> Path:
    """A config file; its units are many and small."""
    for shard in range(2):
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", range(ROWS // 2 * shard, ROWS // 2 * (shard + 1)), words=300)
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", units__rows=25, units__text_mib=1
    )
    (tmp_path / "job.yaml").write_text(dump_config(config), encoding="utf-8")
    return tmp_path / "job.yaml"


def embedpipe(head: Head, *arguments: str, token: bool = True) -> "subprocess.Popen[str]":
    """The program as a user of the cluster calls it, in a folder that is not the project's."""
    environment = {**head.environment, "PYTHONPATH": str(PROJECT)}
    if not token:
        environment = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=head.environment["HOME"],
    )  # fmt: skip


def committed_units(output: Path) -> int:
    return sum(1 for _ in open_store(str(output)).list("_embedpipe/unit/"))


def drivers(head: Head) -> list[int]:
    """Processes on the cluster that run a submitted job."""
    return [found.id for found in descendants(head.process) if " -m pipeline run " in found.title]


def test_a_submitted_job_is_killed_submitted_again_and_goes_on(head: Head, job: Path) -> None:
    output = job.parent / "out"
    first = embedpipe(head, "submit", "--config", str(job), "--address", head.dashboard)
    while first.poll() is None and committed_units(output) < 10:
        time.sleep(0.05)  # between two looks
    for driver in drivers(head):
        os.kill(driver, signal.SIGKILL)
    told = first.communicate()
    assert first.returncode == 4, told
    assert "send it again to go on" in told[1]
    before = read_status(str(output)).rows_committed
    assert 0 < before < ROWS

    second = embedpipe(head, "submit", "--config", str(job), "--address", head.dashboard)
    told = second.communicate()
    assert second.returncode == 0, told
    assert f"{ROWS:,} rows in" in told[0]
    assert sorted(read_rows(str(output))) == ids(range(ROWS))
    assert int(told[0].split("this run")[1].split(" rows")[0].strip().replace(",", "")) == ROWS - before


def test_without_the_token_nothing_runs(head: Head, job: Path) -> None:
    """Whoever reaches a Ray dashboard without a token can run code on the cluster."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.dashboard}/api/jobs/")
    refused = embedpipe(head, "submit", "--config", str(job), "--address", head.dashboard, token=False)
    told = refused.communicate()
    assert refused.returncode == 2, told
    assert "RAY_AUTH_TOKEN" in told[1]
    assert "Traceback" not in told[1]
    assert not (job.parent / "out").exists()


def test_the_exit_code_of_the_job_is_that_of_the_command(head: Head, job: Path) -> None:
    wrong = embedpipe(head, "submit", "-c", str(job), "--address", head.dashboard, "--set", "input.text=nowhere")
    told = wrong.communicate()
    assert wrong.returncode == 3, told
    assert "nowhere" in told[0]


def test_a_driver_outside_of_the_jobs_api_connects_by_address(head: Head, job: Path) -> None:
    run = embedpipe(head, "run", "--config", str(job), "--address", head.address, "--set", "units.rows=1000")
    told = run.communicate()
    assert run.returncode == 0, told
    assert sorted(read_rows(str(job.parent / "out"))) == ids(range(ROWS))


def test_counters_are_there_for_prometheus(head: Head) -> None:
    """Counts a few units in a driver of its own, and asks the cluster's endpoint until they show."""
    script = f"""
import sys, time, urllib.request, ray
from pipeline.commit.records import Times
from pipeline.flow.acks import Ack
from pipeline.flow.metrics import Metrics
ray.init(address={head.address!r}, log_to_driver=False)
metrics = Metrics()
times = Times(encode=500, wait=250)
metrics.count(Ack("done", "u", "s", "uri", rows_out=7, tokens=70, quarantined={{"null": 1}}, times=times), "s3://b/out")
metrics.count(Ack("failed", "u", "s", "uri"), "s3://b/out")
names = ["rows_total", "tokens_total", "units_total", "rows_quarantined_total", "encode_seconds_total"]
names.append("wait_seconds_total")
while not all("ray_embedpipe_" + name in found for name in names):
    found = urllib.request.urlopen({head.metrics!r}).read().decode()
    time.sleep(0.2)  # between two looks
print("\\n".join(line for line in found.splitlines() if line.startswith("ray_embedpipe_")))
""".replace("while not all(", "found = ''\nwhile not all(")
    environment = {**head.environment, "PYTHONPATH": str(PROJECT)}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=90)
    assert ran.returncode == 0, ran.stderr
    ours = [line for line in ran.stdout.splitlines() if 'output="s3://b/out"' in line]
    assert [line.split()[-1] for line in ours if line.startswith("ray_embedpipe_rows_total{")] == ["7.0"]
    states = [line for line in ours if line.startswith("ray_embedpipe_units_total{")]
    assert {state for state in ("done", "failed") for line in states if f'state="{state}"' in line} == {
        "done",
        "failed",
    }


def test_local_paths_are_sent_as_absolute_ones_and_the_cluster_is_the_one_it_runs_on(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = portable(make_config("in/*.jsonl", "out", os.path.relpath(tiny_model), execution__engine="ray"))
    assert sent.input.paths == (f"{tmp_path}/in/*.jsonl",)
    assert sent.output.path == f"{tmp_path}/out"
    assert sent.model.name == tiny_model
    assert sent.execution.address == "auto"


def test_what_is_sent_is_the_package_and_a_config_that_loads(tmp_path: Path, tiny_model: str) -> None:
    config: Config = make_config("s3://b/in/", "s3://b/out", tiny_model, execution__engine="ray")
    pack(config, tmp_path)
    assert load_config(tmp_path / "job.yaml") == portable(config)
    assert (tmp_path / "pipeline" / "py.typed").exists()
    assert not list(tmp_path.rglob("__pycache__"))


def test_options_reach_the_command_that_the_cluster_runs() -> None:
    sent = command(limit=10, allow_drop=True, replace=False)
    assert sent == "python -m pipeline run --config job.yaml --limit 10 --allow-drop"


def test_credentials_do_not_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's environment is shown in the dashboard."""
    from pipeline.flow.submit import _settings

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:planted-secret@store:9000")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert _settings() == {"AWS_REGION": "eu-central-1"}


class Dashboard:
    """Ray's client, with what it meets with: how the log ends, and what each look at the job gives."""

    def __init__(self, log_ends: Exception | Literal["never"] | None, *looks: JobDetails | Exception) -> None:
        self.log_ends, self.looks = log_ends, list(looks)

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        yield "a line\n"
        if self.log_ends == "never":
            await asyncio.Event().wait()
        elif self.log_ends is not None:
            raise self.log_ends

    def get_job_info(self, _: str) -> JobDetails:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look


def follow(dashboard: Dashboard) -> tuple[int, str]:
    """The exit code, and what is shown."""
    shown: list[str] = []
    client: Any = dashboard
    return submit._follow(client, "raysubmit_1", "http://head:8265", shown.append), "".join(shown)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "POLL_S", 0.0)
    monkeypatch.setattr(submit, "SILENT_S", 0.01)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("WebSocket connection closed unexpectedly with close code 1006"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("cut"),
        ConnectionResetError(),
    ],
    ids=repr,
)
@pytest.mark.usefixtures("no_pauses")
def test_a_log_whose_connection_is_lost_does_not_end_the_waiting_for_the_job(error: Exception) -> None:
    """A port-forward or a load balancer drops it while the job goes on: a scheduler would be told that the config is wrong."""
    running = ENDED.model_copy(update={"status": JobStatus.RUNNING})
    code, shown = follow(Dashboard(error, running, requests.ConnectionError("away"), running, ENDED))
    assert code == 0
    assert "a line" in shown
    assert "the connection to the log is lost" in shown


@pytest.mark.usefixtures("no_pauses")
def test_a_log_that_goes_silent_does_not_hold_who_waits_for_the_job() -> None:
    """A firewall forgets a connection on which nothing was said for a while; neither side ever hears of it."""
    running = ENDED.model_copy(update={"status": JobStatus.RUNNING})
    assert follow(Dashboard("never", running, running, ENDED)) == (0, "a line\n")
    with pytest.raises(IncompleteError, match="tells no more about raysubmit_1"):
        follow(Dashboard("never", running, requests.ConnectionError("away")))


@pytest.mark.usefixtures("no_pauses")
def test_a_log_that_ends_is_not_said_to_be_lost() -> None:
    assert follow(Dashboard(None, ENDED)) == (0, "a line\n")


@pytest.mark.parametrize(
    "error",
    [GONE, requests.ConnectionError("refused"), requests.ReadTimeout(), AuthenticationError("renewed")],
    ids=repr,
)
@pytest.mark.usefixtures("no_pauses")
def test_a_dashboard_that_stays_away_is_one_to_send_the_job_to_again(error: Exception) -> None:
    """The head died, with the job or without it: what a scheduler does right is to run the command again."""
    with pytest.raises(IncompleteError, match="tells no more about raysubmit_1"):
        follow(Dashboard(RuntimeError("closed"), error))


@pytest.mark.usefixtures("no_pauses")
def test_a_dashboard_that_is_away_now_and_then_is_waited_for() -> None:
    """Patience is for one absence, not for all of a night's together."""
    running = ENDED.model_copy(update={"status": JobStatus.RUNNING})
    absences = [requests.ConnectionError(), requests.ConnectionError(), running] * submit.PATIENCE
    assert follow(Dashboard(None, *absences, ENDED))[0] == 0


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server that answers each request with a status and a body; gives its address."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (503, b"no endpoints", IncompleteError, "no Ray dashboard answers at"),
        (502, b"bad gateway", IncompleteError, "no Ray dashboard answers at"),
        (404, b"a shop", ConfigError, "no Ray dashboard answers as it should"),
        (200, b"<html>a sign-in page</html>", ConfigError, "no Ray dashboard answers as it should"),
        (200, b"{}", ConfigError, "no Ray dashboard answers as it should"),
        (401, b"who are you", ConfigError, "the cluster wants its token"),
    ],
)
def test_who_answers_in_place_of_a_dashboard_is_told_apart(
    answering: Any, status: int, body: bytes, kind: type[EmbedpipeError], said: str, tiny_model: str
) -> None:
    """One that is starting, behind whatever stands before it, is there a minute later. What is something else, never."""
    with pytest.raises(kind, match=said):
        send(answering(status, body), tiny_model)


def test_a_dashboard_that_is_not_there_is_one_to_try_again(tiny_model: str) -> None:
    """As is a cluster that isn't: it may be starting."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        with pytest.raises(IncompleteError, match="Check that it is up and --address is right, and run again"):
            send(f"http://127.0.0.1:{closed.getsockname()[1]}", tiny_model)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("head:8265", "http://head:8265"),
        ("10.0.0.1:8265", "http://10.0.0.1:8265"),
        ("[::1]:8265/", "http://[::1]:8265"),
        ("HTTPS://head:8265", "http://head:8265"),
        ("head:6379", "http://head:8265"),
        ("ray://head:10001", "http://head:8265"),
        *((address, "") for address in ("", "auto", "local", "head", "/x", "http://", "http://[::1", "http://head:x")),
        *((address, "") for address in ("http://head:99999", "http://he ad:1", "http://head:1?x", "anyscale://head")),
    ],
)
def test_an_address_that_is_no_url_is_refused_at_once_with_the_right_spelling(
    address: str, meant: str, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """Ray takes it for an address of its own: it waits for most of a minute, imports a module of that name, or finds a dashboard
    behind it that nobody has asked whether it is open to everybody."""
    monkeypatch.setattr(submit, "_Client", lambda *_: pytest.fail("Ray was asked"))
    with pytest.raises(ConfigError, match="expected http://HOST:PORT or https://HOST:PORT") as refused:
        send(address, tiny_model)
    assert refused.value.message.endswith(f"did you mean {meant}?" if meant else "as in http://head:8265")


def test_an_address_that_is_refused_is_shown_without_its_password(tiny_model: str) -> None:
    with pytest.raises(ConfigError) as refused:
        send("me:planted-secret@head:8265", tiny_model)
    assert "'***@head:8265'" in refused.value.message


@pytest.mark.parametrize(
    "url", ["http://head:8265", "https://gateway.example.com/ray/", "http://[::1]:8265", "http://me:x@head:1"]
)
def test_a_url_is_handed_to_ray_as_it_is(url: str, monkeypatch: pytest.MonkeyPatch, tiny_model: str) -> None:
    """What Ray itself can't do with it is no bug of this program either."""
    asked: list[str] = []

    def client(address: str) -> None:
        asked.append(address)
        raise RpcError("Timed out while waiting for GCS to become available.")

    monkeypatch.setattr(submit, "refuse_open_dashboard", lambda _: None)
    monkeypatch.setattr(submit, "_Client", client)
    with pytest.raises(IncompleteError, match="no Ray dashboard answers at"):
        send(url, tiny_model)
    assert asked == [url]


def send(address: str, model: str) -> int:
    config = make_config("s3://b/in/", "s3://b/out", model, execution__engine="ray")
    return submit.submit_job(
        config, address, limit=None, allow_drop=False, replace=False, follow=True, show=lambda _: None
    )
