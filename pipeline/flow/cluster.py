"""Connecting to Ray, and fitting the steps onto what it has."""

import atexit
import contextlib
import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError, RayError

from pipeline.config.schema import Execution
from pipeline.errors import ConfigError, IncompleteError, StorageError, first_line
from pipeline.flow.exposure import refuse_open_dashboard, refuse_unpickling
from pipeline.storage.environment import WorkerEnvironment, apply_environment
from pipeline.storage.open import open_store
from pipeline.storage.probe import mark, sees

log = logging.getLogger(__name__)

READ_CPUS, STAGE_CPUS = 0.5, 0.25
"""Shares of a core for reading and staging tasks. Not the encoder's, or Ray would fuse reading into its process."""

CONNECT_S = 5.0
START_S = 15.0  # for a cluster that is just starting
_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"

_PLACE = re.compile(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d+)/?")
_LAST_PORT = 65_535

OBJECT_STORE_BYTES = 1 << 30
MAX_THREADS = 8
"""CPU threads of one replica: matrix products of encoder size stop gaining beyond that."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of the model, and what each of them takes."""

    replicas: int
    threads: int | None  # CPU threads of one replica; None on a GPU
    num_cpus: float
    num_gpus: float | None


def connect(address: str | None) -> bool:
    """Connect to a Ray, or start one of our own. True when this process must shut it down.

    Our own listens on loopback only and requires its token. Raises IncompleteError when the cluster can't be reached or
    none comes up, ConfigError when it wants another token or build, or anybody else could run code there.
    """
    refuse_unpickling()
    if ray.is_initialized():
        return False
    with _handlers_kept():
        _init(address)
    return True


@contextlib.contextmanager
def connecting(address: str) -> Iterator[None]:
    """What Ray raises while it connects leaves this block as an error of the tree."""
    try:
        yield
    except AuthenticationError as error:
        raise wants_token(address) from error
    except (ConnectionError, RuntimeError, RayError) as error:
        said = " ".join(str(error).split())
        if said.startswith("Version mismatch"):  # which running again can't mend
            raise ConfigError(
                f"{address}: the cluster has another Ray or Python. {said}. Use one image, or one environment, for all nodes and "
                "the driver"
            ) from error
        raise _away(address, f": {said}") from error


def start_actor(kind: type, address: str | None) -> Any:
    """An actor that takes no core and is started again whenever it dies. Raises as `connect` does."""
    with connecting(address or "this machine"):
        return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(kind).remote()


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """`ray.init` puts a SIGTERM handler of its own in place, which would end the run instead of draining it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _init(address: str | None) -> None:
    for name in ("ray", "ray.data", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    if address is not None:
        _check_place(address)
        _check_listening(address)
        try:
            with connecting(address):
                dashboard = ray.init(address=address, **quiet).dashboard_url
        except ValueError as error:
            raise ConfigError(f"execution.address {address!r} is none that Ray understands: {error}") from error
        _refuse_open(dashboard)
        return
    # Without this Ray listens on every interface, whatever the node's address. The variable is for Ray's own processes;
    # this one has read it already, when ray was imported.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a job on the user's own machine reports to nobody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side would write into the user's terminal
    try:
        with _stderr_closed():
            ray.init(
                address="local",
                num_cpus=max(2, os.cpu_count() or 2),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except OSError as error:
        raise ConfigError(
            f"Ray can't be started here: {error}. It keeps its token below HOME ({Path.home()}) and its sockets below /tmp; both "
            "must be writable. Or set execution.engine to serial"
        ) from error
    except Exception as error:  # of whatever kind: a node that is slow to start is a plain one
        raise IncompleteError(
            f"Ray has not come up here: {error}. This machine may be too busy or too small for it; run again, or set "
            "execution.engine to serial"
        ) from error


def _refuse_open(dashboard: str | None) -> None:
    if not dashboard:
        return
    try:
        refuse_open_dashboard(dashboard if "://" in dashboard else f"http://{dashboard}")
    except ConfigError:
        ray.shutdown()
        raise


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Ray's C++ side tells at its start which log level it was given, whatever the level. What goes wrong is raised."""
    if log.isEnabledFor(logging.DEBUG):
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def plan_pool(execution: Execution) -> Pool:
    """One replica per GPU; without GPUs as many replicas as fill the cores."""
    resources = ray.cluster_resources()
    if _wants_gpus(execution, resources):  # asked for by number, nodes with them may be yet to be started
        return Pool(execution.replicas or int(resources["GPU"]), None, 1, 1)
    if execution.device == "cuda":
        raise ConfigError(
            "execution.device is cuda, but the Ray cluster has no GPU now; where it starts such nodes on demand, say with "
            "execution.replicas how many are wanted"
        )
    cores = int(resources.get("CPU", 1))
    # A head often offers no core, and then nothing runs on it.
    offered = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    node_cores = min((own for own in offered if own >= 1), default=1)
    threads = execution.threads or min(MAX_THREADS, max(1, node_cores))
    replicas = execution.replicas or max(1, cores // threads)
    # What is left over keeps reading and staging going beside the encoders, on each node: one that has no room for a reader
    # would wait for ever, and so would a replica that wants more than any node has. Ray takes whole cores only above one.
    share = min((cores - max(1.0, cores / 16)) / replicas, node_cores - READ_CPUS)
    return Pool(replicas, threads, math.floor(share) if share >= 1 else round(max(share, 0.1), 2), None)


def largest_memory_bytes() -> int:
    """Of a machine's memory what Ray gives to tasks, on the one that has most."""
    return int(max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0))


def has_gpus(execution: Execution) -> bool:
    """Whether `plan_pool` would plan for GPUs now."""
    return _wants_gpus(execution, ray.cluster_resources())


def _wants_gpus(execution: Execution, resources: dict[str, float]) -> bool:
    asked = execution.device == "cuda" and execution.replicas is not None
    return asked or (execution.device != "cpu" and int(resources.get("GPU", 0)) > 0)


def check_shared(output: str, environment: WorkerEnvironment) -> None:
    """Refuse a local output that some node of the cluster doesn't see. Object stores are seen by all."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if "://" in output or len(nodes) == 1:
        return
    store = open_store(output)
    keys = [mark(store)]
    try:
        for node in nodes:
            place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(num_cpus=0, scheduling_strategy=place)(_sees)
            while not _answer(look.remote(output, keys[-1], environment), node["NodeID"]):
                if sees(store, keys[-1]):
                    raise StorageError(
                        f"{output} is a local path, and node {node['NodeManagerHostname']} of the cluster does not see what "
                        "is written there. Use an object store, or a file system that all nodes mount at the same place"
                    )
                keys.append(mark(store))  # another run's collection took the mark away
    finally:
        store.delete(keys)


def _answer(asked: Any, node: str) -> bool:
    """What a node says; yes for one that has died meanwhile, as it writes nothing any more."""
    try:
        return bool(ray.get(asked))
    except RayError:
        if any(other["NodeID"] == node and other["Alive"] for other in ray.nodes()):
            raise
        return True


class LostCluster:
    """Notices when Ray's control service is gone for good.

    A while later Ray ends this process, from C++, without a word and with an exit code that means a bug. Whoever reads that
    should rather be told what happened, and that a re-run goes on.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        """address: of the control service (GCS), host:port."""
        self._address, self._clock = address, clock
        self._answered = clock()

    def check(self) -> None:
        """Ends the process with exit code 4 once nothing has answered for three quarters of the time Ray itself waits."""
        if answers(self._address):
            self._answered = self._clock()
        elif self._clock() - self._answered > 0.75 * float(os.environ.get(_RECONNECT, "60")):
            leave(f"the Ray cluster at {self._address} is gone. What is committed stays; run the same command again")


def leave(why: str) -> NoReturn:
    """End this process, which waits for Ray and can't be told not to."""
    log.error("%s", why)
    logging.shutdown()
    os._exit(IncompleteError.exit_code)


def forget() -> None:
    """Have Ray not take its leave of a cluster that is gone when this process ends: it'd wait for it, and then end the process
    with an exit code that means a bug."""
    atexit.unregister(ray.shutdown)


def answers(address: str) -> bool:
    """Whether anybody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError:
        return False
    return True


def wants_token(address: str) -> ConfigError:
    """A Ray that refuses the token this process has, or that it has none."""
    return ConfigError(
        f"{address}: the cluster wants its token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) "
        "to the one it was started with"
    )


def _away(address: str, why: str = "") -> IncompleteError:
    """It may be wrong, or belong to a cluster that is starting or has died: a scheduler does right to try again. What Ray says of
    a wrong token is the same."""
    return IncompleteError(
        f"no Ray cluster answers at {address!r}{why}. Check that it is up, and that execution.address and RAY_AUTH_TOKEN are "
        "right, and run again"
    )


def _check_place(address: str) -> None:
    """Raises ConfigError for a host or port that can be nobody's: asking for them isn't even an OSError, and Ray's own client
    would wait for half a minute."""
    place = _PLACE.fullmatch(address)
    if place is None:
        return  # `auto`, and what Ray says something of itself
    try:
        place["host"].strip("[]").encode("idna")
    except UnicodeError as error:
        raise ConfigError(
            f"execution.address {address!r}: {place['host']!r} can't be the name of a host ({first_line(error)}); expected "
            "HOST:PORT, as in head:6379"
        ) from error
    if len(place["port"]) > len(str(_LAST_PORT)) or not 0 < int(place["port"]) <= _LAST_PORT:
        raise ConfigError(f"execution.address {address!r}: expected a port from 1 to {_LAST_PORT}, as in head:6379")


def _check_listening(address: str) -> None:
    """Raises IncompleteError where nobody does: Ray itself would end this process from C++, without a word."""
    if not re.fullmatch(r"[^/]+:\d+", address):
        return  # `auto`, `ray://…`
    until = time.monotonic() + START_S
    while not answers(address):
        if time.monotonic() > until:
            raise _away(address)
        time.sleep(1.0)  # between two tries


def _sees(output: str, key: str, environment: WorkerEnvironment) -> bool:
    apply_environment(environment)
    return sees(open_store(output), key)
