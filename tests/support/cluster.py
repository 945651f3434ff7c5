"""A real Ray head with dashboard and token, in processes of its own, on loopback and on ports that are free."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Head:
    """Where it is, and what a client must have in its environment."""

    process: int  # id; all others of the head are below it
    address: str  # of the GCS
    dashboard: str  # URL
    metrics: str  # URL
    environment: dict[str, str]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on. All are held until the last is known, so none comes twice."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def ray_head(home: Path, *, cpus: int = 2) -> Iterator[Head]:
    """Start a head and stop it with all its processes at the end."""
    port, dashboard, metrics, agent, client = free_ports(5)
    temporary = tempfile.mkdtemp(prefix="ray-")  # its sockets' names must stay short
    python = Path(sys.executable).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "HOME": str(home),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_worker_niceness": "0",  # its 15 is 4% of a core beside the other tests
    }
    command = [
        str(python / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
        f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}",
        f"--ray-client-server-port={client}", f"--num-cpus={cpus}", "--object-store-memory=500000000", f"--temp-dir={temporary}",
    ]  # fmt: skip
    log = Path(temporary, "start.log")
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for_text(log, "Ray runtime started", process)
        yield Head(
            process.pid,
            f"127.0.0.1:{port}",
            f"http://127.0.0.1:{dashboard}",
            f"http://127.0.0.1:{metrics}",
            environment,
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def wait_for_text(log: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when the log holds the text; fail with the log when the process ends before."""
    while text not in log.read_text(errors="replace"):
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(log.read_text(errors="replace"))
