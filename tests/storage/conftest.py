"""An HTTP proxy before the S3 server that misbehaves on request, and pauses cut to nothing."""

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>"
SENT_BACK = frozenset({"content-type", "etag", "content-range", "last-modified", "accept-ranges"})


@dataclass
class Fault:
    """What happens to the next `times` requests with this method whose path contains `path`."""

    method: str
    action: str  # "503 SlowDown"; "answer <XML>"; lost, truncated, flipped, unconditional, swallowed, undeletable
    times: int = 1
    path: str = ""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    length: int  # of the body


@dataclass
class FaultProxy:
    backend: str
    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pick(self, request: Request) -> str | None:
        with self.lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.method == request.method and fault.path in request.path and fault.times > 0:
                    fault.times -= 1
                    return fault.action
        return None

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.seen)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, len(body))
        action = self.proxy.pick(request)
        if action and action[0].isdigit():
            status, _, code = action.partition(" ")
            self.answer(int(status), {}, ERROR % code.encode())
            return
        if action and action.startswith("answer "):
            self.answer(200, {"content-type": "application/xml"}, action.partition(" ")[2].encode())
            return
        if action == "swallowed":
            self.answer(200, {"ETag": '"0"'}, b"")
            return
        if action == "undeletable":
            error = b"<Error><Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            self.answer(200, {}, b"<DeleteResult>" + error + b"</DeleteResult>")
            return
        if action == "unconditional":
            headers.pop("if-none-match", None)
        status, sent, data = self.forward(headers, body)
        if action == "lost":
            self.close_connection = True
            return
        if action == "flipped":
            data = data[:-1] + bytes([data[-1] ^ 1 << self.proxy.count(self.command) % 8])  # each time another bit
        self.answer(status, sent, data, truncated=action == "truncated")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def forward(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.proxy.backend).netloc, timeout=30)
        try:
            headers.pop("expect", None)
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            data = response.read()
            sent = {name: value for name, value in response.getheaders() if name.lower() in SENT_BACK}
            if self.command == "HEAD":
                sent["Content-Length"] = response.getheader("Content-Length", "0")
            return response.status, sent, data
        finally:
            connection.close()

    def answer(self, status: int, headers: dict[str, str], data: bytes, truncated: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if truncated else data)
        if truncated:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def proxy(s3_bucket: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stands before the S3 server; all settings point to it, and retries don't wait."""
    made = FaultProxy(s3_environment)
    handler = type("BoundHandler", (Handler,), {"proxy": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    monkeypatch.setattr("pipeline.storage.retry.FIRST_PAUSE_SECONDS", 0.0)
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
