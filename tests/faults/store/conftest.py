"""A fault proxy before the loopback S3 server, and jobs that go through it."""

from collections.abc import Iterator

import pytest
from faults.store.bench import Bench, open_bench, through, workplace
from faults.store.proxy import FaultProxy, fault_proxy


@pytest.fixture(autouse=True)
def quiet_server(caplog: pytest.LogCaptureFixture) -> None:
    """The server notes every request."""
    caplog.set_level("ERROR", logger="werkzeug")


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(moto_endpoint) as made:
        yield made


@pytest.fixture
def bench(proxy: FaultProxy, moto_endpoint: str, tiny_model: str) -> Iterator[Bench]:
    with through(proxy), workplace():
        yield open_bench(proxy, moto_endpoint, tiny_model)
