"""The fault proxy does what it says, and nothing when it isn't told to: else the tests behind it prove nothing."""

import http.client
import socket
import time
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from faults.store.proxy import FaultProxy
from faults.store.rules import Rule

BODY = bytes(range(256)) * 40
SIGNED = {"Authorization": "AWS testing:not-looked-at"}
CUT = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)


@pytest.fixture
def key(s3_bucket: str) -> str:
    """Path of an object that holds BODY."""
    bucket = s3_bucket.removeprefix("s3://")
    boto3.client("s3").put_object(Bucket=bucket, Key="k", Body=BODY)
    return f"/{bucket}/k"


def ask(
    proxy: FaultProxy, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request(method, path, body, SIGNED | (headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def stored(path: str) -> bytes | None:
    bucket, _, name = path.removeprefix("/").partition("/")
    try:
        return bytes(boto3.client("s3").get_object(Bucket=bucket, Key=name)["Body"].read())
    except ClientError:
        return None


def test_without_rules_everything_passes_unchanged(
    proxy: FaultProxy, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads, listings, ranges and HEAD as boto3 sends them, over connections that are kept alive."""
    client = boto3.client("s3", endpoint_url=proxy.endpoint, config=Config(max_pool_connections=1))
    bucket = s3_bucket.removeprefix("s3://")
    client.put_object(Bucket=bucket, Key="a b/ü%", Body=BODY)
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert client.head_object(Bucket=bucket, Key="a b/ü%")["ContentLength"] == len(BODY)
    assert client.get_object(Bucket=bucket, Key="a b/ü%", Range="bytes=10-19")["Body"].read() == BODY[10:20]
    assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü%", "empty"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="empty", Body=b"x", IfNoneMatch="*")
    client.delete_object(Bucket=bucket, Key="empty")
    assert not proxy.script.injected
    assert proxy.script.requests == {"PUT": 3, "HEAD": 1, "GET": 2, "DELETE": 1}


def test_a_body_in_chunks_arrives_whole(proxy: FaultProxy, key: str) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:1000], BODY[1000:])) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(proxy.endpoint.rpartition(":")[2])), timeout=5) as plain:
        plain.sendall(f"PUT {key}2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks)
        assert plain.recv(12) == b"HTTP/1.1 200"
    assert stored(key + "2") == BODY


@pytest.mark.parametrize("answer", ["503 SlowDown", "403 ExpiredToken", "409 ConditionalRequestConflict"])
def test_an_answer_is_given_in_the_stores_place(proxy: FaultProxy, key: str, answer: str) -> None:
    proxy.script.set([Rule(answer)])
    status, body = ask(proxy, "PUT", key + "new", b"x")
    assert (str(status), f"<Code>{answer[4:]}</Code>".encode() in body) == (answer[:3], True)
    assert stored(key + "new") is None
    assert ask(proxy, "HEAD", key) == (status, b"")
    assert proxy.script.injected == {answer: 2}


@pytest.mark.parametrize(("fault", "arrives"), [("reset", False), ("lost", True)])
def test_a_connection_is_cut_before_or_after_the_store_has_acted(
    proxy: FaultProxy, key: str, fault: str, arrives: bool
) -> None:
    proxy.script.set([Rule(fault, times=1)])
    with pytest.raises(CUT):
        ask(proxy, "PUT", key + "new", b"x")
    assert stored(key + "new") == (b"x" if arrives else None)
    assert ask(proxy, "GET", key)[1] == BODY
    assert proxy.script.injected == {fault: 1}


def test_a_late_request_reaches_the_store_after_its_client_has_given_up(proxy: FaultProxy, key: str) -> None:
    proxy.script.set([Rule("late", times=1, seconds=0.2)])
    with pytest.raises(CUT):
        ask(proxy, "PUT", key + "new", b"x")
    assert stored(key + "new") is None
    deadline = time.monotonic() + 10
    while stored(key + "new") is None and time.monotonic() < deadline:
        pass
    assert stored(key + "new") == b"x"


@pytest.mark.parametrize("fault", ["reset body", "truncated"])
def test_a_body_ends_too_early(proxy: FaultProxy, key: str, fault: str) -> None:
    proxy.script.set([Rule(fault, method="GET", times=1)])
    with pytest.raises(CUT):
        ask(proxy, "GET", key)
    assert ask(proxy, "GET", key)[1] == BODY
    assert proxy.script.injected == {fault: 1}


def test_a_stalled_body_never_comes_to_its_end(proxy: FaultProxy, key: str) -> None:
    proxy.script.set([Rule("stalled", seconds=60)])
    connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=0.3)
    connection.request("GET", key, headers=SIGNED)
    with pytest.raises(TimeoutError):
        connection.getresponse().read()
    connection.close()


def test_a_dripping_body_comes_whole_but_slowly(proxy: FaultProxy, key: str) -> None:
    proxy.script.set([Rule("drip", seconds=0.3)])
    begun = time.monotonic()
    assert ask(proxy, "GET", key)[1] == BODY
    assert time.monotonic() - begun >= 0.25


def test_one_bit_is_flipped_on_the_way_down_or_up(proxy: FaultProxy, key: str) -> None:
    def bits(left: bytes, right: bytes) -> int:
        return sum((a ^ b).bit_count() for a, b in zip(left, right, strict=True))

    proxy.script.set([Rule("flipped", method="GET"), Rule("flipped upload", method="PUT")])
    assert bits(ask(proxy, "GET", key)[1], BODY) == 1
    ask(proxy, "PUT", key + "up", BODY)
    assert bits(stored(key + "up") or b"", BODY) == 1


def test_a_store_can_be_made_to_ignore_conditions_and_to_hide_what_is_missing(proxy: FaultProxy, key: str) -> None:
    assert ask(proxy, "PUT", key, b"x", {"If-None-Match": "*"})[0] == 412
    proxy.script.set([Rule("unconditional", method="PUT"), Rule("hidden")])
    assert ask(proxy, "PUT", key, b"x", {"If-None-Match": "*"})[0] == 200
    assert ask(proxy, "GET", key + uuid.uuid4().hex)[0] == 403
    assert ask(proxy, "GET", key)[0] == 200


def test_deletions_can_be_denied(proxy: FaultProxy, key: str) -> None:
    proxy.script.set([Rule("undeletable", path="[?&]delete"), Rule("403 AccessDenied", method="DELETE")])
    bucket = key.split("/")[1]
    client = boto3.client("s3", endpoint_url=proxy.endpoint)
    assert client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})["Errors"]
    assert ask(proxy, "DELETE", key)[0] == 403
    assert stored(key) == BODY


def test_rules_choose_by_method_path_header_turn_and_chance(proxy: FaultProxy, key: str) -> None:
    proxy.script.set([Rule("500 InternalError", method="GET", path="/k$", header="range: ", after=1, times=2)])
    assert ask(proxy, "GET", key)[0] == 200
    ranged = [ask(proxy, "GET", key, headers={"Range": "bytes=0-1"})[0] for _ in range(5)]
    assert ranged == [206, 500, 500, 206, 206]
    proxy.script.set([Rule("503 SlowDown", share=0.3)], seed=1)
    first = [ask(proxy, "HEAD", key)[0] for _ in range(60)]
    proxy.script.set([Rule("503 SlowDown", share=0.3)], seed=1)
    assert [ask(proxy, "HEAD", key)[0] for _ in range(60)] == first
    assert 8 <= first.count(503) <= 28
    assert proxy.script.injected == {"503 SlowDown": first.count(503)}


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'explode'"):
        Rule("explode")
