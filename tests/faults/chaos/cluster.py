"""A Ray cluster of a head and three nodes on this machine, whose processes may be killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import TracebackType

from faults.chaos.processes import MARK, Process, family, gone, strike, until
from faults.hooks import environment

NODES = 3
JOB = re.compile(r"(?:worker-[0-9a-f]+|python-core-driver)-([0-9a-f]{8})")
RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it listens on every interface
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # its 15 is 4% of a core beside anything else
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_num_workers_soft_limit": "12",  # of idle ones: beyond its two cores a node would end and begin them all the time
    # What is noticed after a minute or more in production is noticed after seconds here; stopped workers, though, not before
    # the job's own watchdog finds them.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "12",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}


class Cluster:
    """A context manager. Its jobs' processes belong to it too, and end with it."""

    def __init__(self, *, encode_s: float = 0.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rc-"))  # sockets lie in it, so the name must stay short
        self.name = self.folder.name
        self.traps = self.folder / "traps"
        self.traps.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **environment("faults.encoder", "faults.chaos.traps"),
            **RAY,
            MARK: self.name,
            "RAY_AUTH_TOKEN": uuid.uuid4().hex,
            "HOME": str(self.folder),
            "TOKENIZERS_PARALLELISM": "false",
            "FAULTS_TRAPS": str(self.traps),
            "FAULTS_ENCODE_S": str(encode_s),
        }
        self._host = subprocess.Popen(
            [sys.executable, "-m", "faults.chaos.host", str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self.environment, start_new_session=True,
        )  # fmt: skip
        self.address, gcs, head = self._answer().split()
        self.gcs, self.head = int(gcs), int(head)
        self.nodes: list[int] = []  # ids of raylets
        self.mend()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill all of it. Again and again: while one is killed another may be born."""
        until(lambda: not self._kill_all(), 30)
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.wait()
        self._host.stdin.close()
        self._host.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def alive(self) -> bool:
        """Whether jobs can run: the head can't be replaced."""
        return not gone(self.gcs) and not gone(self.head)

    def mend(self) -> None:
        """Put a new node in place of each dead one."""
        self.nodes = [node for node in self.nodes if not gone(node)]
        while len(self.nodes) < NODES:
            self.nodes.append(self._add())

    def give_up(self, node: int) -> None:
        """A node that doesn't answer is replaced, whatever becomes of it."""
        self.nodes.remove(node)
        self.mend()

    def processes(self, title: str = "") -> list[Process]:
        """Its living processes whose title begins so (a regular expression)."""
        return [process for process in family(self.name) if re.match(title, process.title)]

    def strike(self, process: int, number: signal.Signals) -> bool:
        """Send a signal to one of its processes; whether it was one."""
        return strike(process, self.name, number)

    def job_of(self, process: int) -> str:
        """Ray's number for the job that a driver or worker belongs to, by the names of its logs; "" where they don't tell."""
        names = [path.name for path in self.folder.glob(f"session_latest/logs/*-{process}.out")]
        names += [path.name for path in self.folder.glob(f"session_latest/logs/python-core-driver-*_{process}.log")]
        found = [match[1] for name in names if (match := JOB.match(name))]
        return found[0] if found else ""

    def _kill_all(self) -> int:
        return sum(strike(process.id, self.name, signal.SIGKILL) for process in self.processes())

    def _add(self) -> int:
        assert self._host.stdin is not None
        self._host.stdin.write("\n")
        self._host.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._host.stdout is not None
        answer = self._host.stdout.readline()
        assert answer, "the cluster's host process has ended"
        return answer
