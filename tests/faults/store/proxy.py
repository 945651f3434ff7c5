"""A proxy before an S3 server on loopback that does to requests and answers what its script says."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from faults.store.rules import ANSWER, Rule, Script
from faults.store.wire import Message, announced, exchange, read_body, read_message

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>as the script wants it, {}</Message></Error>'
)
UNDELETED = (
    "<DeleteResult><Error><Key>one of them</Key><Code>AccessDenied</Code>"
    "<Message>as the script wants it</Message></Error></DeleteResult>"
)
DRIPS = 20
SPOILS_BODY = ("reset body", "truncated", "stalled", "drip", "flipped")


class Cut(Exception):
    """The client's connection is to be cut without a word."""


class FaultProxy:
    """Requests to `endpoint` reach `backend`, or don't, as `script` says."""

    def __init__(self, backend: str) -> None:
        place = urlsplit(backend)
        self._host, self._port = str(place.hostname), int(place.port or 80)
        self._late: set[asyncio.Task[None]] = set()
        self.script = Script()
        self.endpoint = ""

    def settle(self) -> None:
        """Wait until every late request has arrived."""
        while self._late:
            time.sleep(0.01)  # between two looks

    async def serve(self, ready: threading.Event, done: asyncio.Event) -> None:
        """Until `done`. Requests still held back by then are never sent."""
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=2**20)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await done.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, kept alive for as many requests as it likes."""
        try:
            while (head := await read_message(reader)) is not None:
                rule = self.script.pick(head)
                if rule is not None and rule.fault == "reset":
                    self.script.count("reset")
                    raise Cut
                if head.header("expect").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request = replace(head, body=await read_body(reader, head, until_closed=False))
                await self._answer(request, rule, writer)
        except (Cut, ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:  # the proxy ends
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, request: Message, rule: Rule | None, writer: asyncio.StreamWriter) -> None:
        response = await self._ask(request, rule)
        head = response.head(announced(request, response))
        if rule is not None and rule.fault in SPOILS_BODY and request.method != "HEAD" and len(response.body) > 1:
            self.script.count(rule.fault)
            await self._spoil(head, response.body, rule, writer)
        else:
            writer.write(head + response.body)
            await writer.drain()

    async def _ask(self, request: Message, rule: Rule | None) -> Message:
        """What the store says, or is said to say."""
        fault = rule.fault if rule is not None else ""
        if ANSWER.fullmatch(fault):
            self.script.count(fault)
            return _error(request, fault)
        if rule is not None and fault == "late":
            self.script.count(fault)
            task = asyncio.create_task(self._later(request, rule.seconds))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            raise Cut
        if fault == "undeletable" and request.method == "POST":
            self.script.count(fault)
            return Message("HTTP/1.1 200 OK", (("Content-Type", "application/xml"),), UNDELETED.encode())
        if fault == "unconditional" and request.header("if-none-match"):
            self.script.count(fault)
            request = request.without("if-none-match")
        if fault == "flipped upload" and request.body:
            self.script.count(fault)
            request = replace(request, body=self._flip(request.body))
        response = await exchange(self._host, self._port, request)
        if fault == "lost":
            self.script.count(fault)
            raise Cut
        if fault == "hidden" and response.status == 404:
            self.script.count(fault)
            return _error(request, "403 AccessDenied")
        return response

    async def _later(self, request: Message, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(ConnectionError):
            await exchange(self._host, self._port, request)

    async def _spoil(self, head: bytes, body: bytes, rule: Rule, writer: asyncio.StreamWriter) -> None:
        """Send a body in a way that no client should have to see."""
        if rule.fault == "flipped":
            writer.write(head + self._flip(body))
        elif rule.fault == "drip":
            writer.write(head)
            step = -(-len(body) // DRIPS)
            for start in range(0, len(body), step):
                writer.write(body[start : start + step])
                await writer.drain()
                await asyncio.sleep(rule.seconds / DRIPS)
        else:
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            if rule.fault == "truncated":
                writer.close()  # an end in good order, unlike a reset
                await writer.wait_closed()
            elif rule.fault == "stalled":
                await asyncio.sleep(rule.seconds)
            raise Cut
        await writer.drain()

    def _flip(self, body: bytes) -> bytes:
        place = self.script.draw(8 * len(body))
        changed = bytearray(body)
        changed[place // 8] ^= 1 << place % 8
        return bytes(changed)


def _error(request: Message, answer: str) -> Message:
    status, _, code = answer.partition(" ")
    token = request.header("x-amz-security-token")  # some stores repeat it
    body = b"" if request.method == "HEAD" else ERROR.format(code, token).encode()
    return Message(f"HTTP/1.1 {status} {code}", (("Content-Type", "application/xml"),), body)


@contextmanager
def fault_proxy(backend: str) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own, on a port of its own choosing."""
    proxy = FaultProxy(backend)
    ready = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        await proxy.serve(ready, done)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="fault proxy", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the fault proxy did not start")
    try:
        yield proxy
    finally:
        loop, done = stop[0]
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
