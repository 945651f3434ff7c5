"""Who may run code where a job runs: nobody without the cluster's token, and no file."""

import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults.security.canary import Canary
from support.cluster import ray_head
from support.jobs import make_config

from pipeline.errors import ConfigError
from pipeline.flow import cluster
from pipeline.flow.exposure import refuse_open_dashboard, refuse_unpickling
from pipeline.flow.submit import submit_job

ANSWER = "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
OPEN, CLOSED = ANSWER.format("200 OK").encode(), ANSWER.format("401 Unauthorized").encode()


@pytest.mark.ray
def test_a_cluster_takes_no_order_without_its_token(tmp_path: Path) -> None:
    with ray_head(tmp_path, cpus=1) as head:
        for method, path in (
            ("GET", "/api/jobs/"),
            ("POST", "/api/jobs/"),
            ("DELETE", "/api/jobs/x"),
            ("POST", "/api/jobs/x/stop"),
        ):
            body = b'{"entrypoint": "true"}' if method == "POST" else None
            request = urllib.request.Request(
                f"{head.dashboard}{path}", body, {"Content-Type": "application/json"}, method=method
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            assert refused.value.code in (401, 403), (method, path)
        refuse_open_dashboard(head.dashboard.replace("127.0.0.1", "0.0.0.0"))


def test_a_dashboard_open_to_the_network_is_refused_and_nothing_is_sent_to_it(tmp_path: Path, tiny_model: str) -> None:
    for user in ("", "me:a-password@"):
        with Canary(tmp_path, OPEN) as dashboard, pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
            send(f"http://{user}0.0.0.0:{dashboard.port}", tiny_model)
        assert dashboard.calls == 1


@pytest.mark.parametrize("address", ["ray://head:10001", "head:6379", "auto"])
def test_a_dashboard_that_ray_would_look_up_itself_is_sent_nothing(
    address: str, tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster says where it is, so that the one that was judged is not the one that gets the job."""
    with Canary(tmp_path, OPEN) as dashboard:
        found = f"http://0.0.0.0:{dashboard.port}"
        monkeypatch.setattr(
            "ray.dashboard.modules.job.sdk.get_address_for_submission_client",
            lambda asked: asked if asked and asked.startswith("http") else found,
        )
        with pytest.raises(ConfigError, match="is not the URL of a Ray dashboard"):
            send(address, tiny_model)
    assert dashboard.calls == 0


def send(address: str, model: str) -> int:
    config = make_config("s3://b/in/", "s3://b/out", model, execution__engine="ray")
    return submit_job(config, address, limit=None, allow_drop=False, replace=False, follow=False, show=lambda _: None)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", OPEN), ("localhost", OPEN), ("0.0.0.0", CLOSED), ("0.0.0.0", b""), ("0.0.0.0", b"junk\r\n\r\n")],
)
def test_a_dashboard_on_loopback_or_with_a_token_is_taken(host: str, answer: bytes, tmp_path: Path) -> None:
    with Canary(tmp_path, answer) as dashboard:
        refuse_open_dashboard(f"http://{host}:{dashboard.port}")


def test_a_sign_in_page_in_front_of_a_dashboard_does_not_count_as_open(tmp_path: Path) -> None:
    with Canary(tmp_path, OPEN) as page:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://{page.host}/\r\nContent-Length: 0\r\n\r\n".encode()
        with Canary(tmp_path, moved) as dashboard:
            refuse_open_dashboard(f"http://0.0.0.0:{dashboard.port}")
        assert page.calls == 0


def test_a_driver_leaves_a_cluster_whose_dashboard_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: left.append(True))
    with Canary(tmp_path, OPEN) as dashboard:
        monkeypatch.setattr(cluster.ray, "init", lambda **_: SimpleNamespace(dashboard_url=f"0.0.0.0:{dashboard.port}"))
        with pytest.raises(ConfigError, match="is open"):
            cluster.connect("10.0.0.1:6379")
    assert left == [True]


@pytest.mark.parametrize(
    "name",
    [
        "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
        "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
        "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
        "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
        "RAY_DATA_ARROW_EXTENSION_SERIALIZATION_CLOUDPICKLE",
    ],
)
def test_settings_with_which_ray_unpickles_files_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in this Ray's source; one that goes away or comes is for the test below."""
    for value in ("1", "true", "yes"):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=name):
            cluster.connect(None)
    refuse_unpickling({name: "0", "RAY_DATA_X": "1"})


def test_every_such_setting_of_the_installed_ray_is_known() -> None:
    """Another Ray may have another one."""
    import re

    import ray

    known = re.compile(r"RAY_[A-Z_]*(?:AUTOLOAD|UNSAFE|CLOUDPICKLE)[A-Z_]*")
    names = {
        name
        for path in Path(ray.__file__).parent.joinpath("data").rglob("*.py")
        for name in known.findall(path.read_text(encoding="utf-8"))
    }
    assert len(names) >= 4
    for name in names:
        with pytest.raises(ConfigError):
            refuse_unpickling({name: "1"})
