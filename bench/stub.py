"""``python -m bench.stub PORT DOCUMENTS``: the realm's documents, the fixed answers and the event streams.

It is no peer: it runs on the load's core and its cost is not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop
from httptools import HttpRequestParser

from bench.traffic import (
    ANSWER,
    BULK_BLOCK,
    BULK_BLOCKS,
    BULK_BYTES,
    BULK_PATH,
    CALL,
    CALL_PATH,
    EVENT_PACE,
    EVENTS,
    EVENTS_PATH,
    FIRST_EVENT,
    GET_PATH,
    STREAM_PATH,
    STREAMED,
    STREAMED_PATH,
    BulkCheck,
    event,
)

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_BULK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


_STREAM = _STREAM_HEAD + chunk(FIRST_EVENT)


def json_answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole HTTP answer."""
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_NOT_FOUND = json_answer(b"{}", b"404 Not Found")
_BAD_REQUEST = json_answer(b"{}", b"400 Bad Request")


class Stub(asyncio.Protocol):
    """One connection; the peers are trusted to speak HTTP."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._body = b""
        self._bulk = BulkCheck()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._sending: asyncio.Task[None] | None = None

    def pause_writing(self) -> None:
        """Wait with the bulk body."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Go on with it."""
        self._may_write.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody is there any more."""
        if self._sending is not None:
            self._sending.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Note the target; it may come in pieces."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Keep the body, to tell a right one from a wrong one."""
        if self._url == BULK_PATH:
            self._bulk.feed(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self._url == EVENTS_PATH:
            self._sending = asyncio.ensure_future(self._send_events())
        elif self._url == BULK_PATH and self._parser.get_method() == b"GET":
            self._sending = asyncio.ensure_future(self._send_bulk())
        elif self._url == BULK_PATH:
            self._transport.write(json_answer(ANSWER) if self._bulk.whole() else _BAD_REQUEST)
            self._bulk = BulkCheck()
        elif self._url in (CALL_PATH, STREAMED_PATH) and self._body != CALL:
            self._transport.write(_BAD_REQUEST)
        elif self._url == STREAMED_PATH:
            # The head first, as servers do it that do not know yet what will follow.
            self._transport.write(_STREAM_HEAD)
            asyncio.get_running_loop().call_soon(self._transport.write, chunk(STREAMED) + chunk(b""))
        else:
            self._transport.write(self._answers.get(self._url, _NOT_FOUND))
        self._url = self._body = b""

    async def _send_events(self) -> None:
        self._transport.write(_STREAM_HEAD)
        for number in range(EVENTS):
            await asyncio.sleep(EVENT_PACE)
            self._transport.write(chunk(event(number)))
        self._transport.write(chunk(b""))

    async def _send_bulk(self) -> None:
        self._transport.write(_BULK_HEAD % BULK_BYTES)
        for _ in range(BULK_BLOCKS):
            await self._may_write.wait()
            self._transport.write(BULK_BLOCK)


async def serve(port: int, answers: dict[bytes, bytes]) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(answers), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main(port: str, documents: str) -> None:
    """Serve the fixed answers and the documents of the JSON file of that name."""
    answers = {GET_PATH: json_answer(ANSWER), CALL_PATH: json_answer(ANSWER), STREAM_PATH: _STREAM}
    for path, text in json.loads(Path(documents).read_text()).items():
        answers[path.encode()] = json_answer(text.encode())
    uvloop.run(serve(int(port), answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
