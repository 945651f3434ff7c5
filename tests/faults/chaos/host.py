"""The process that a cluster hangs on: `python -m faults.chaos.host FOLDER` starts a head without cores of its own.

Each line on stdin is a node to be added; the answer on stdout is its raylet's process id. Everything is on loopback, and the
cluster's secret is in the environment. It ends with its stdin, also when the test was killed, and takes its processes along.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from faults.chaos.processes import family, strike
from ray._private.node import Node
from ray._private.parameter import RayParams

STORE_BYTES = 80 << 20
NODE_CPUS, NODE_GPUS = 2, 4
"""What a node says it has. Replicas go by its GPUs, so that the cores are left for readers and stagers of several drivers."""


def start(folder: str, gcs_address: str | None, cpus: int, gpus: int) -> Node:
    """A head (without an address) or a node more."""
    settings = RayParams(
        gcs_address=gcs_address, num_cpus=cpus, num_gpus=gpus, object_store_memory=STORE_BYTES, temp_dir=folder,
        node_ip_address="127.0.0.1", min_worker_port=0, max_worker_port=0, dashboard_agent_listen_port=0,
        include_dashboard=False, include_log_monitor=False, no_monitor=True,
    )  # fmt: skip
    return Node(settings, head=gcs_address is None, shutdown_at_exit=False, spawn_reaper=False)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _raylet(node: Node) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def serve(folder: str) -> None:
    """Until stdin ends."""
    logging.disable()
    head = start(folder, None, 0, 0)
    _say(f"{head.gcs_address} {head.all_processes['gcs_server'][0].process.pid} {_raylet(head)}")
    for _ in sys.stdin:
        _say(str(_raylet(start(folder, head.gcs_address, NODE_CPUS, NODE_GPUS))))
    name = Path(folder).name
    for process in family(name):
        if process.id != os.getpid():
            strike(process.id, name, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    serve(sys.argv[1])
