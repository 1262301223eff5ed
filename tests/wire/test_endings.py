"""No connection lasts for ever: whatever a client has done, it ends once no answer is under way."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.channel import LINGER
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.site import WireSite
from tests.wire.test_channel import GET, POST, AtOnce, Held
from tests.wire.transport import Wire

HOLD, LET_GO = "the client stops reading", "it reads on"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTS = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CLOSES = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
#: What a client sends and does.
MOVES: tuple[tuple[bytes | str, ...], ...] = (
    (),
    (b"\r",),
    (b"\r\n",),
    (b"GET ",),
    (GET,),
    (GET + b"GE",),
    (GET * 12 + b"GE",),
    (POST % 10,),
    (POST % 10 + b"abc",),
    (POST % 1_000_000 + b"abc",),
    (POST % 10 + b"0123456789" + GET,),
    (CHUNKED + b"5\r\nab",),
    (CHUNKED + b"xyz\r\n",),
    (EXPECTS,),
    (EXPECTS + b"ab",),
    (CLOSES,),
    (CLOSES + GET,),
    (b"GET /x HTTP/1.0\r\n\r\n",),
    (b"\0\0\r\n\r\n",),
    (GET, HOLD),
    (GET, HOLD, GET * 50 + b"GE"),
    (GET, HOLD, GET * 50 + b"GE", LET_GO),
    (GET, HOLD, POST % 100 + b"ab"),
    (GET, HOLD, POST % 100 + b"ab", LET_GO),
    (GET, HOLD, b"\0\r\n\r\n"),
    (GET, HOLD, CLOSES),
    (GET, HOLD, CLOSES, LET_GO),
)


class Endings(SynchronousTestCase):
    """Each client is left alone after its last move."""

    def ends(self, root: Any, moves: tuple[bytes | str, ...]) -> None:
        clock, limits = Clock(), Limits()
        site = WireSite(root, reactor=clock, limits=limits)
        wire = Wire(site.buildProtocol(None))
        for move in moves:
            if isinstance(move, bytes):
                wire.receive(move)
            elif move == HOLD:
                wire.producer.pauseProducing()
            elif not wire.over and wire.producer is not None:
                wire.producer.resumeProducing()
        while unanswered := [one for one in getattr(root, "requests", []) if not one.finished]:
            unanswered[0].finish()
        for _ in range(int(limits.idle_timeout + limits.read_timeout + LINGER)):
            clock.advance(1)
        self.assertTrue(wire.over, moves)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual((site.connections, site.active_requests), (set(), 0))

    def test_answered_at_once(self) -> None:
        """Where its answers are there as soon as it asks."""
        for moves in MOVES:
            self.ends(AtOnce(), moves)

    def test_answered_later(self) -> None:
        """Where they are given once it has done all that."""
        for moves in MOVES:
            self.ends(Held(), moves)
