"""A dashboard that takes connections and says nothing more: it was stopped, or hangs. Ray's client would wait for ever."""

import http.server
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import IncompleteError
from pipeline.flow import submit

JOB = "GET /api/jobs/raysubmit_1"
LOG = f"{JOB}/logs/tail"
SUBMIT = "POST /api/jobs/"
ANSWERS = {
    "GET /api/version": {"ray_version": "2.60.0"},
    SUBMIT: {"job_id": "raysubmit_1", "submission_id": "raysubmit_1"},
}


@dataclass
class Dashboard:
    """Says nothing to requests that are in `silent`, until it is let go."""

    silent: tuple[str, ...] = (JOB, LOG)
    address: str = ""
    seen: list[str] = field(default_factory=list)
    on_request: Callable[[str], None] = lambda _: None
    let_go: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked = f"{self.command} {self.path}"
            made.seen.append(asked)
            made.on_request(asked)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if asked in made.silent:
                made.let_go.wait()
                return
            body = json.dumps(ANSWERS.get(asked, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    made.let_go.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ANSWER_S": 0.3, "SILENT_S": 0.01, "POLL_S": 0.0, "PATIENCE": 2}.items():
        monkeypatch.setattr(submit, name, value)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What was started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(address: str, show: Callable[[str], None] = lambda _: None) -> int:
    def pack(folder: Path) -> None:
        (folder / "job.yaml").write_text("{}", encoding="utf-8")

    return submit.send(pack, "true", address, output="s3://b/out", follow=True, show=show)


def test_a_dashboard_that_takes_the_connection_and_says_nothing_is_one_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stopped:  # the kernel takes connections for it
        address = f"http://127.0.0.1:{stopped.getsockname()[1]}"
        with pytest.raises(IncompleteError, match="timed out") as refused:
            send(address)
    assert refused.value.message.startswith(f"no Ray dashboard answers at '{address}': ")
    assert refused.value.message.endswith("Check that it is up and --address is right, and run again")


def test_a_job_whose_sending_nobody_confirms_may_run_all_the_same(dashboard: Dashboard) -> None:
    """The dashboard that goes on acts on what it was sent; who is told only to run again wonders at two jobs."""
    dashboard.silent = (SUBMIT,)
    with pytest.raises(
        IncompleteError, match=r"does not answer who sends it the job: .*The job may run all the same"
    ) as unsure:
        send(dashboard.address)
    assert f"run again if `ray job list --address {dashboard.address}` does not show it" in unsure.value.message
    assert dashboard.seen.count(SUBMIT) == 1, "not sent twice by itself"


def test_a_dashboard_that_falls_silent_is_told_of_and_asked_again_for_a_while(dashboard: Dashboard) -> None:
    """As is one that is away."""
    shown: list[str] = []
    with pytest.raises(IncompleteError, match=r"tells no more about raysubmit_1: .*timed out"):
        send(dashboard.address, shown.append)
    assert [line.partition(" (")[0] for line in shown[1:]] == [
        "the connection to the log is lost",
        "the dashboard tells nothing of raysubmit_1",
    ]
    assert dashboard.seen.count(JOB) == 4  # beside the log, and then until the patience is out


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("silent", [(JOB, LOG), (JOB,)], ids=["beside the log", "after the log"])
def test_ctrl_c_ends_the_command_while_a_dashboard_that_hangs_is_asked(
    silent: tuple[str, ...], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that the event loop waits for would hold it until the request is given up."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(asked: str) -> None:
        if asked == JOB:
            signal.pthread_kill(main, signal.SIGINT)

    dashboard.silent, dashboard.on_request = silent, interrupt
    monkeypatch.setattr(submit, "ANSWER_S", 60.0)
    began = time.monotonic()
    with pytest.raises(IncompleteError, match="no longer following; the job goes on"):
        send(dashboard.address)
    assert time.monotonic() - began < 30
