"""Those who come to the proxy itself: clients that log in, monitors, strangers, and what is no HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from tests.soak.traffic import PATIENCE, Line, split_answer

_HOST = b"Host: mcp.example\r\n"
_REGISTRATION = json.dumps({"redirect_uris": ["http://127.0.0.1/cb"], "client_name": "Soak"}).encode()
_JSON = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_FORM = b"grant_type=authorization_code&client_id=nobody&code=none&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb"

#: What they send, and the status that it gets; 0 where the connection is only opened and left.
VISITS: list[tuple[bytes, int]] = [
    (b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n", 200),
    (b"GET /readyz HTTP/1.1\r\n" + _HOST + b"\r\n", 200),
    (b"GET /.well-known/oauth-protected-resource/mcp HTTP/1.1\r\n" + _HOST + b"\r\n", 200),
    (b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\n" + _HOST + b"\r\n", 200),
    (b"POST /oauth/register HTTP/1.1\r\n" + _HOST + _JSON % len(_REGISTRATION) + _REGISTRATION, 201),
    (b"GET /oauth/authorize?client_id=nobody HTTP/1.1\r\n" + _HOST + b"\r\n", 400),
    (
        b"POST /oauth/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        + _HOST
        + b"Content-Length: %d\r\n\r\n" % len(_FORM)
        + _FORM,
        401,
    ),
    (b"POST /mcp HTTP/1.1\r\n" + _HOST + _JSON % 2 + b"{}", 401),
    (b"GET /mcp HTTP/1.1\r\nAuthorization: Bearer x.y.z\r\n" + _HOST + b"\r\n", 401),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    (b"GET /mcp HTTP/1.1\r\nHo", 0),
    (b"", 0),
]


async def visit(
    reactor: Any, random: Random, port: int, more: Callable[[], bool], *, pause: float
) -> Counter[str]:
    """Come one after the other as long as ``more()``; return how often each status was seen."""
    seen: Counter[str] = Counter()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    while more():
        data, expected = random.choice(VISITS)
        line: Line = await connectProtocol(endpoint, Line())
        if data:
            line.transport.write(data)
        answer = None
        while expected and (answer := split_answer(line.received)) is None and not line.lost:
            await line.changes().addTimeout(PATIENCE, reactor)
        if expected and (answer is None or answer[0] != expected):
            raise AssertionError(f"{line.received[:200]!r} for {data[:200]!r}")
        seen[str(expected)] += 1
        line.transport.abortConnection()
        await line.gone
        await deferLater(reactor, pause)
    return seen
