"""What the operating system is asked for."""

from __future__ import annotations

import socket
import sys
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.listening import bind, listen
from mcp_oauth2_proxy.wire.site import WireSite
from mcp_oauth2_proxy.wire.sockets import VANISHED, tune


class Vanished(TestCase):
    """Both sides of the proxy notice a peer that has gone without a word."""

    timeout = 20

    def assert_tuned(self, transport: object) -> None:
        self.assert_options(transport.socket)  # type: ignore[attr-defined]

    def assert_options(self, connection: socket.socket) -> None:
        self.assertTrue(connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertTrue(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            raise SkipTest("this system has no TCP_USER_TIMEOUT")
        options = [
            connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        ]
        self.assertEqual(options[3], VANISHED * 1000)
        self.assertEqual(options[0] + options[1] * options[2], VANISHED)

    async def test_on_both_sides(self) -> None:
        """The client's connection and the upstream's carry the same options."""
        site = WireSite(Resource(), reactor=reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        gone: Deferred[None] = Deferred()
        factory = Factory.forProtocol(
            lambda: ClientConnection(
                Deadlines(reactor),  # type: ignore[arg-type]
                head_timeout=5,
                idle_timeout=5,
                released=lambda _: None,
                lost=lambda _: gone.callback(None),
            )
        )
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        connection = await endpoint.connect(factory)
        answer = connection.send(b"GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", None)
        await answer
        self.assert_tuned(connection.transport)
        self.assertIs(connection.transport.protocol, connection, "no endpoint stays between")
        (channel,) = site.connections
        self.assert_tuned(channel.transport)
        connection.abort()
        await gone

    def test_handed_on(self) -> None:
        """What Linux accepts where the proxy listens has them from its first moment, at no cost."""
        if sys.platform != "linux":
            raise SkipTest("other systems may leave it to each connection")
        with bind("127.0.0.1:0") as bound:
            listen(bound)
            client = socket.create_connection(bound.getsockname())
            self.addCleanup(client.close)
            bound.setblocking(True)
            accepted, _ = bound.accept()
        self.addCleanup(accepted.close)
        self.assert_options(accepted)

    def test_what_is_no_tcp(self) -> None:
        """A UNIX socket or a transport in memory has none of these options, and needs none."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        plain = Protocol()
        plain.socket = one  # type: ignore[attr-defined]
        tune(plain)
        tune(object())
        self.assertFalse(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
