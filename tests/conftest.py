"""Fixtures every room shares: a clean environment, an S3 server in this process, the real model."""

import gc
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

NICENESS = "RAY_worker_niceness"

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is loaded. Its threads wait for each other by spinning, which takes the cores from the processes beside it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ray gives its workers a niceness of 15: beside other processes they get 4% of a core, and a test of seconds takes minutes.
    os.environ.setdefault(NICENESS, "0")

LONGEST_FIRST = (
    "faults/simulation/test_simulation", "faults/sweep", "faults/chaos", "faults/poison", "faults/simulation",
    "faults/security/test_secrets", "faults/security", "faults/corpus", "faults/store", "faults/ground",
    "flow/test_kill", "bench", "flow/test_ray", "cli/test_terminal", "test_readme", "flow/test_submit", "train", "quality",
    "flow/test_times", "evaluate", "flow", "scale", "encode",
)  # fmt: skip
"""Places that begin first, so that processes side by side end at about the same time. Those with a Ray of their own are apart:
several of them at once take turns more than they work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort, and leave everything else in its order."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(here).as_posix()
        return next((at for at, first in enumerate(LONGEST_FIRST) if place.startswith(first)), len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may see the developer's own accounts or reach a hub."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "RAY_")) and name != NICENESS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One HOME for all tests of a process, not the developer's. Ray keeps its token there, and looks for it only once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """An S3 server on loopback, on a port of its own choosing; it accepts any key."""
    from support.s3 import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_environment(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The standard AWS settings for the loopback server; gives its endpoint."""
    from support.s3 import s3_settings

    for name, value in s3_settings(moto_endpoint).items():
        monkeypatch.setenv(name, value)
    return moto_endpoint


@pytest.fixture
def s3_bucket(s3_environment: str) -> str:
    """`s3://<fresh bucket>` on the loopback server."""
    import boto3

    name = f"b-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, once on local disk and once on S3."""
    if request.param == "local":
        return str(tmp_path / "out")
    bucket: str = request.getfixturevalue("s3_bucket")
    return f"{bucket}/out"


@pytest.fixture(scope="session")
def minilm() -> str:
    """Directory of all-MiniLM-L6-v2, carried by an installed package."""
    from support.models import find_minilm

    return find_minilm()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> str:
    """Directory of a two-layer model with random weights, 32 dimensions: real code paths in milliseconds."""
    from support.models import save_tiny_bert

    model = save_tiny_bert(tmp_path_factory.mktemp("tiny"), minilm)
    # Loading a model looks for garbage. Through torch and all that came with it that takes 0.4 s each time, a quarter of a test.
    gc.collect()
    gc.freeze()
    return model
