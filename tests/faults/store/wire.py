"""HTTP/1.1 messages as the proxy handles them: read whole, changed, written again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

END_OF_HEAD = b"\r\n\r\n"
BODILESS = (204, 304)
HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Message:
    """A request or a response."""

    first: str  # request line or status line
    headers: Headers
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """The value, or ""."""
        return next((value for known, value in self.headers if known.lower() == name), "")

    def without(self, *names: str) -> "Message":
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in names))

    @property
    def method(self) -> str:
        return self.first.split(" ", 1)[0]

    @property
    def target(self) -> str:
        """Path and query as they were sent."""
        return self.first.split(" ", 2)[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    def head(self, *more: tuple[str, str]) -> bytes:
        """First line and headers with the end-to-end ones kept as they are, `more` added."""
        kept = [pair for pair in self.headers if pair[0].lower() not in HOP_HEADERS]
        lines = [self.first, *(f"{name}: {value}" for name, value in (*kept, *more))]
        return "\r\n".join(lines).encode("latin-1") + END_OF_HEAD


async def read_message(stream: asyncio.StreamReader) -> Message | None:
    """First line and headers; None when the peer has hung up instead."""
    try:
        head = await stream.readuntil(END_OF_HEAD)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head[: -len(END_OF_HEAD)].decode("latin-1").split("\r\n")
    return Message(first, tuple(_split(lines)))


def _split(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name, value.strip()


async def read_body(stream: asyncio.StreamReader, message: Message, *, until_closed: bool) -> bytes:
    """The body, put together when it came in chunks."""
    if message.header("transfer-encoding").lower() == "chunked":
        return b"".join([chunk async for chunk in _chunks(stream)])
    length = message.header("content-length")
    if length:
        return await stream.readexactly(int(length))
    return await stream.read() if until_closed else b""


async def _chunks(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        size = int((await stream.readline()).split(b";")[0], 16)
        chunk = await stream.readexactly(size)
        await stream.readline()
        if size == 0:
            return
        yield chunk


async def exchange(host: str, port: int, request: Message) -> Message:
    """Ask the server behind the proxy, over a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    try:
        writer.write(request.head(("Content-Length", str(len(request.body))), ("Connection", "close")) + request.body)
        await writer.drain()
        while (response := await read_message(reader)) is not None and response.status == 100:
            continue
        if response is None:
            raise ConnectionResetError("the server hung up")
        bodiless = request.method == "HEAD" or response.status in BODILESS
        body = b"" if bodiless else await read_body(reader, response, until_closed=True)
        return replace(response, body=body)
    finally:
        writer.close()


def announced(request: Message, response: Message) -> tuple[str, str]:
    """The length that goes with a response: to a HEAD it is that of the body the server didn't send."""
    length = response.header("content-length") if request.method == "HEAD" else ""
    return "Content-Length", length or str(len(response.body))
