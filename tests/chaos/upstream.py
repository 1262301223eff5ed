"""The MCP server behind the proxy: it says which request it saw, and streams numbered events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.chaos.history import mark

#: Seconds between two events of a stream.
EVENT_EVERY = 0.2


class Upstream(Resource):
    """``saw(nonce, token)`` hears of every call at the moment it arrives, before it is answered.

    A call is a JSON object with a ``nonce``, and ``hold``, the seconds until it is answered. A stream goes on
    after the number of its ``Last-Event-ID``.
    """

    isLeaf = True

    def __init__(self, reactor: Any, saw: Callable[[str, str], None]) -> None:
        super().__init__()
        self._reactor = reactor
        self._saw = saw

    def render_POST(self, request: Request) -> int:
        """Answer a call."""
        assert request.content is not None
        asked = json.loads(request.content.read())
        token = _token(request)
        self._saw(asked["nonce"], token)
        gone: list[object] = []
        request.notifyFinish().addBoth(gone.append)

        def answer() -> None:
            if not gone:
                request.setHeader(b"content-type", b"application/json")
                request.write(json.dumps({"nonce": asked["nonce"], "token": token}).encode())
                request.finish()

        self._reactor.callLater(asked.get("hold", 0), answer)
        return NOT_DONE_YET

    def render_GET(self, request: Request) -> int:
        """Begin, or go on with, a stream of events."""
        request.setHeader(b"content-type", b"text/event-stream")
        name = request.getHeader("mcp-session-id") or ""
        number = int(request.getHeader("last-event-id") or 0)

        def event() -> None:
            nonlocal number
            number += 1
            data = json.dumps({"stream": name, "token": _token(request)})
            request.write(f"id: {number}\ndata: {data}\n\n".encode())

        beat = LoopingCall(event)
        beat.clock = self._reactor
        request.notifyFinish().addBoth(lambda _: beat.stop())
        beat.start(EVENT_EVERY)
        return NOT_DONE_YET


def _token(request: Request) -> str:
    """Return what stands for the request's token."""
    return mark((request.getHeader("authorization") or "").removeprefix("Bearer "))
