"""A gate before the S3 server that keeps IAM policies, so that a role can be tried on a real run."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"

DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no statement allows it</Message></Error>"

Statement = dict[str, Any]
StartResponse = Callable[..., Any]


def statements(*names: str) -> list[Statement]:
    """The statements of policy files in infra/iam, actions and resources as lists."""
    found = [s for name in names for s in json.loads((INFRA / "iam" / f"{name}.json").read_text())["Statement"]]
    for statement in found:
        for key in ("Action", "Resource"):
            statement[key] = [statement[key]] if isinstance(statement[key], str) else statement[key]
    return found


@dataclass(frozen=True)
class Access:
    """What one request does to one object or bucket."""

    action: str
    resource: str  # "bucket" or "bucket/key"
    conditional: bool = False


@dataclass
class Gate:
    """WSGI: lets through what the role's policies allow, and notes what was asked."""

    app: Any
    endpoint: str = ""
    policy: list[Statement] = field(default_factory=list)
    buckets: dict[str, str] = field(default_factory=dict)  # name in the policies → the test's own
    seen: list[Access] = field(default_factory=list)
    refused: list[Access] = field(default_factory=list)

    def play(self, *names: str) -> None:
        """From here on requests come with these policies, and nothing is noted yet."""
        self.policy = statements(*names)
        self.seen.clear()
        self.refused.clear()

    def actions(self, accesses: Iterable[Access]) -> set[str]:
        return {access.action for access in accesses}

    def allows(self, access: Access) -> bool:
        for statement in self.policy:
            arns = [arn.removeprefix("arn:aws:s3:::") for arn in statement["Resource"]]
            for name, own in self.buckets.items():
                arns = [re.sub(rf"^{name}(?=/|$)", own, arn) for arn in arns]
            condition = statement.get("Condition", {})
            assert condition in ({}, {"Null": {"s3:if-none-match": "false"}}), "the gate knows no other condition"
            if (
                access.action in statement["Action"]
                and any(fnmatchcase(access.resource, arn) for arn in arns)
                and (access.conditional or not condition)
            ):
                return True
        return False

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = _Body(body)
        asked = list(_accesses(environ, body))
        self.seen += asked
        denied = [access for access in asked if not self.allows(access)]
        self.refused += denied
        if denied and denied[0].action == "s3:DeleteObject":  # a batch is always answered 200
            start_response("200 OK", [("Content-Type", "application/xml")])
            errors = "".join(f"<Error><Key>{a.resource}</Key><Code>AccessDenied</Code></Error>" for a in denied)
            return [f"<DeleteResult>{errors}</DeleteResult>".encode()]
        if denied:
            return _deny(start_response)
        answer: list[Any] = []
        data = list(self.app(environ, lambda *given: answer.append(given)))
        if answer[0][0].startswith("404") and not self.allows(
            Access("s3:ListBucket", asked[0].resource.split("/")[0])
        ):  # S3 tells only those who may list that a key is missing
            return _deny(start_response)
        start_response(*answer[0])
        return data


class _Body:
    """A request body to be read once more."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else size
        data, self._data = self._data[:end], self._data[end:]
        return data


def _deny(start_response: StartResponse) -> list[bytes]:
    start_response("403 Forbidden", [("Content-Type", "application/xml")])
    return [DENIED]


def _accesses(environ: dict[str, Any], body: bytes) -> Iterator[Access]:
    method, query = environ["REQUEST_METHOD"], parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    bucket, _, key = environ["PATH_INFO"].removeprefix("/").partition("/")
    if method == "POST" and "delete" in query and not key:
        for found in re.findall(rb"<Key>(.*?)</Key>", body):
            yield Access("s3:DeleteObject", f"{bucket}/{found.decode()}")
    elif method == "GET" and "list-type" in query and not key:
        yield Access("s3:ListBucket", bucket)
    elif method in ("GET", "HEAD") and key and not query:
        yield Access("s3:GetObject", f"{bucket}/{key}")
    elif method == "PUT" and key and not query:
        yield Access("s3:PutObject", f"{bucket}/{key}", environ.get("HTTP_IF_NONE_MATCH") == "*")
    else:
        yield Access(f"{method} {environ['QUERY_STRING']}", f"{bucket}/{key}")


@pytest.fixture
def gate(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Stands before the same buckets as the S3 server of all tests; all settings point to it."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *args: object) -> None:
            """Nothing."""

    made = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, made, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
