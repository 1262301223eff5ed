"""The sockets that a process listens on."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource

from mcp_oauth2_proxy.wire.listening import (
    CannotListen,
    accept_and_close,
    adopt,
    bind,
    listen,
    name_of,
    open_sockets,
)
from mcp_oauth2_proxy.wire.site import WireSite
from tests.support.reactor import global_reactor

GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Adopting(SynchronousTestCase):
    """Only what can be listened on."""

    def test_a_socket_that_listens(self) -> None:
        """Is taken as it is, not handed on to children by accident, and never waited for."""
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        found = adopt(listening.detach())
        self.addCleanup(found.close)
        self.assertEqual(name_of(found), f"127.0.0.1 port {port}")
        self.assertFalse(found.get_inheritable())
        self.assertFalse(found.getblocking())

    def test_anything_else(self) -> None:
        """Is refused with its number, and left open."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        local = socket.socket(socket.AF_UNIX)
        local.bind(str(Path(directory.name) / "s"))
        local.listen()
        quiet, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        for one in (local, quiet, datagrams):
            self.addCleanup(one.close)
            error = self.assertRaises(CannotListen, adopt, one.fileno())
            self.assertIn(f"{one.fileno()} is not a TCP socket that listens", str(error))
            os.fstat(one.fileno())
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.assertIn("is not a socket", str(self.assertRaises(CannotListen, adopt, reading)))


class Opening(SynchronousTestCase):
    """What was handed over, else the address."""

    def test_the_address(self) -> None:
        """Binds, and says what is wrong when it cannot."""
        (bound,) = open_sockets("127.0.0.1:0")
        self.addCleanup(bound.close)
        listen(bound)
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        error = self.assertRaises(CannotListen, bind, address)
        self.assertTrue(str(error).startswith(f"server.listenAddress: cannot listen on {address}: "))

    def test_what_was_handed_over(self) -> None:
        """All of it, and the address is not looked at."""
        given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [one.getsockname()[1] for one in given]
        found = open_sockets("192.0.2.1:1", [one.detach() for one in given])
        for one in found:
            self.addCleanup(one.close)
        self.assertEqual([one.getsockname()[1] for one in found], ports)


class Greeting(Resource):
    """Answers."""

    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        return b"hello"


def answer(client: socket.socket) -> bytes:
    """Return all that is said, and hang up."""
    with client:
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received


class Binding(SynchronousTestCase):
    """From an address to a socket that listens."""

    def test_bound_first(self) -> None:
        """A socket that is bound has its port, but nobody can connect until it listens."""
        with bind("127.0.0.1:0") as bound:
            address = bound.getsockname()
            self.assertRaises(ConnectionRefusedError, socket.create_connection, address, 10)
            listen(bound)
            listen(bound)
            socket.create_connection(address, 10).close()
            with self.assertRaisesRegex(CannotListen, "server.listenAddress: cannot listen on 127"):
                bind(f"127.0.0.1:{address[1]}")

    def test_two_that_race(self) -> None:
        """Of two processes that were bound at the same time the second to listen is told so."""
        with bind("127.0.0.1:0") as one, bind(f"127.0.0.1:{one.getsockname()[1]}") as other:
            listen(one)
            with self.assertRaisesRegex(CannotListen, "in use"):
                listen(other)

    def test_what_may_be_handed_over(self) -> None:
        """A bound socket and one that listens; not one that has no port, or is connected."""
        with bind("127.0.0.1:0") as bound:
            adopt(bound.fileno()).detach()
            listen(bound)
            adopt(bound.fileno()).detach()
            client = socket.create_connection(bound.getsockname(), 10)
            for wrong in (client, socket.socket()):
                with wrong, self.assertRaisesRegex(CannotListen, "not a TCP socket that listens"):
                    adopt(wrong.fileno())


class Closing(TestCase):
    """Clients that the kernel has connected before the proxy took note of them."""

    timeout = 20

    async def test_who_waits_is_served(self) -> None:
        """A request that is in the queue when the socket closes is answered; a later one is refused."""
        reactor = global_reactor()
        site = WireSite(Greeting(), reactor=reactor)
        with bind("127.0.0.1:0") as listening:
            listen(listening)
            address = listening.getsockname()
            port = reactor.adoptStreamPort(listening.fileno(), listening.family, site)
        port.stopReading()
        clients = [socket.create_connection(address, timeout=10) for _ in range(20)]
        for client in clients:
            client.sendall(GET)
        self.assertEqual(site.connections, set())
        accept_and_close(port)
        self.assertEqual(len(site.connections), 20)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, 10)
        answers = [await deferToThread(answer, client) for client in clients]
        self.assertEqual({said[:15] for said in answers}, {b"HTTP/1.1 200 OK"})
        while site.connections:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
