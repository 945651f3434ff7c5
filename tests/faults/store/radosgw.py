"""A real S3 server on loopback where its Debian packages are installed: Ceph's radosgw, everything in memory.

apt-get install radosgw ceph-mon ceph-osd ceph-common
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")
START_SECONDS = 90
SETTINGS = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = {address}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
ms_cluster_mode = crc
ms_client_mode = crc
ms_service_mode = crc
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 1
osd_objectstore = memstore
memstore_device_bytes = 2147483648
run_dir = {folder}
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
pid_file = {folder}/$name.pid
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
rgw_enable_usage_log = false
"""


def missing() -> str:
    """Why radosgw can't be started here; "" if it can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install radosgw ceph-mon ceph-osd ceph-common)"
    return "" if os.geteuid() == 0 else "radosgw is started as root here"


@contextmanager
def radosgw(access_key: str, secret_key: str) -> Iterator[str]:
    """A cluster of one monitor, one store and one gateway; gives the gateway's endpoint. Takes about 12 s to start."""
    with tempfile.TemporaryDirectory(prefix="rgw-", ignore_cleanup_errors=True) as name, ExitStack() as daemons:
        folder = Path(name)
        settings, port = _prepare(folder)
        _run(settings, "ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{folder}/monmap")
        daemons.enter_context(_daemon(settings, "ceph-mon", "-i", "a"))
        osd = str(uuid.uuid4())
        _run(settings, "ceph", "osd", "new", osd)
        _run(settings, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemons.enter_context(_daemon(settings, "ceph-osd", "-i", "0"))
        _run(settings, "radosgw-admin", "user", "create", "--uid=t", "--display-name=t",
             f"--access-key={access_key}", f"--secret={secret_key}")  # fmt: skip
        frontend = f"--rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        daemons.enter_context(_daemon(settings, "radosgw", "-n", "client.admin", frontend, "--rgw_dns_name=127.0.0.1"))
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(endpoint)
        yield endpoint


def _prepare(folder: Path) -> tuple[Path, int]:
    ports = _free_ports(3)
    address = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    fsid = str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    settings = folder / "ceph.conf"
    settings.write_text(SETTINGS.format(fsid=fsid, address=address, folder=folder))
    _run(settings, "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, f"{folder}/monmap")
    return settings, ports[2]


def _run(settings: Path, program: str, *arguments: str) -> None:
    config = () if program == "monmaptool" else ("-c", str(settings))
    done = subprocess.run(
        [program, *config, *arguments], capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(arguments[:2])} failed: {done.stderr[-1000:]}")


@contextmanager
def _daemon(settings: Path, program: str, *arguments: str) -> Iterator[None]:
    """In the foreground, as a child of this process. All is in memory: at the end there is nothing to be put in order."""
    process = subprocess.Popen(
        [program, "-f", "-c", str(settings), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held together, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(endpoint: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # between two tries
        else:
            return
