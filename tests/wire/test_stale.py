"""Kept connections that the upstream closes at the worst moments: real sockets, and what arrived, counted."""

from __future__ import annotations

import random
import socket
import struct
from itertools import product
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.iweb import UNKNOWN_LENGTH

from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.errors import UpstreamGone
from mcp_oauth2_proxy.wire.requests import WholeBody
from tests.support.reactor import global_reactor
from tests.wire.test_agent import Upload
from tests.wire.transport import Reader

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNASKED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
#: Seconds after which a test gives up.
PATIENCE = 20


class Peer:
    """An upstream of plain sockets, driven between two turns of the reactor."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.received: list[bytes] = []

    async def accept(self) -> int:
        """Return the number of the next connection."""
        connection: socket.socket = await until(self._accepted)
        connection.setblocking(False)
        self.connections.append(connection)
        self.received.append(b"")
        return len(self.connections) - 1

    def _accepted(self) -> socket.socket | None:
        try:
            return self._listener.accept()[0]
        except BlockingIOError:
            return None

    async def reads(self, number: int, end: bytes) -> bytes:
        """Return what has come on a connection once ``end`` has; then it counts as read."""

        def come() -> bytes | None:
            self.look()
            return self.received[number] if self.received[number].endswith(end) else None

        received: bytes = await until(come)
        return received

    def look(self) -> None:
        """Read what is there."""
        for number, connection in enumerate(self.connections):
            try:
                while piece := connection.recv(65536):
                    self.received[number] += piece
            except OSError:  # nothing more, or closed
                continue

    def close(self, number: int, *, reset: bool = False, saying: bytes = b"") -> None:
        """End a connection now: the other side's kernel knows of it when this returns."""
        connection = self.connections[number]
        if saying:
            connection.sendall(saying)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def refuse(self) -> None:
        """Accept no further connection."""
        self._listener.close()

    def stop(self) -> None:
        for connection in (self._listener, *self.connections):
            connection.close()


async def until(ask: Any) -> Any:
    """Return what ``ask`` says once it is not ``None``; the reactor turns in between."""
    reactor = global_reactor()
    end = reactor.seconds() + PATIENCE
    while (answer := ask()) is None:
        if reactor.seconds() > end:
            raise AssertionError("it did not come")
        await deferLater(reactor, 0)
    return answer


class Stale(TestCase):
    """``endings`` are the ways in which an upstream ends a connection that it kept."""

    timeout = 60
    endings: tuple[dict[str, Any], ...] = ({}, {"reset": True}, {"saying": UNASKED})

    def setUp(self) -> None:
        self.peer = Peer()
        self.addCleanup(self.peer.stop)
        self.agent = WireAgent(
            global_reactor(), connect_timeout=5, response_header_timeout=PATIENCE, idle_timeout=PATIENCE
        )

    async def tearDown(self) -> None:
        """Nothing is left open: trial looks for what is left in the reactor."""
        self.agent.closeIdle()
        await until(lambda: None if any(self.agent._idle.values()) else True)

    def send(self, method: bytes = b"POST", body: Any = None) -> Deferred[Any]:
        return self.agent.request(
            method, b"http://127.0.0.1:%d/%b" % (self.peer.port, method.lower()), None, body
        )

    async def answered(self, waiting: Deferred[Any], number: int, end: bytes) -> None:
        """Let the upstream answer what ends with ``end``, and see that the answer comes."""
        await self.peer.reads(number, end)
        self.peer.connections[number].sendall(OK)
        self.peer.received[number] += b"|"
        response = await waiting.addTimeout(PATIENCE, global_reactor())
        self.assertEqual(response.code, 200)
        reader = Reader()
        response.deliverBody(reader)
        await until(lambda: reader.reason and True)
        self.assertEqual(reader.data, b"ok")

    async def kept(self) -> int:
        """Return the number of a connection that has been used and is kept."""
        waiting = self.send(b"GET")
        number = await self.peer.accept()
        await self.answered(waiting, number, b"\r\n\r\n")
        return number

    def arrived(self, what: bytes = b"POST /post") -> int:
        """Return how often a request has arrived, on all connections together."""
        self.peer.look()
        return sum(received.count(what) for received in self.peer.received)

    async def test_closed_before(self) -> None:
        """A connection whose end is there, though nobody has read it yet, is not used."""
        for ending in self.endings:
            number = await self.kept()
            self.peer.close(number, **ending)
            waiting = self.send()
            await self.answered(waiting, await self.peer.accept(), b"Content-Length: 0\r\n\r\n")
            self.agent.closeIdle()
        self.assertEqual(self.arrived(), len(self.endings))

    async def test_many_closed_before(self) -> None:
        """An upstream that starts again leaves a pool of ends behind: none of them costs a request."""
        numbers = []
        waiting = [self.send(b"GET") for _ in range(20)]
        for _ in waiting:
            numbers.append(await self.peer.accept())
        for number in numbers:
            await self.peer.reads(number, b"\r\n\r\n")
            self.peer.connections[number].sendall(OK)
        for one in waiting:
            (await one).deliverBody(Reader())
        await until(lambda: True if sum(map(len, self.agent._idle.values())) == 20 else None)
        for number in numbers:
            self.peer.close(number)
        waiting = [self.send() for _ in range(20)]
        for one in waiting:
            await self.answered(one, await self.peer.accept(), b"\r\n\r\n")
        self.assertEqual(self.arrived(), 20)

    async def test_closed_before_a_byte_was_sent(self) -> None:
        """The request moves to another connection, with the body that had been written with it."""
        for ending in self.endings:
            for length, framed in ((5, b"\r\n\r\nhello"), (UNKNOWN_LENGTH, b"5\r\nhello\r\n0\r\n\r\n")):
                number = await self.kept()
                upload = Upload(length)
                waiting = self.send(body=upload)
                upload.consumer.write(b"hello")
                upload.done.callback(None)
                self.peer.close(number, **ending)
                await self.answered(waiting, await self.peer.accept(), framed)
                self.assertEqual(upload.events, [])
                self.agent.closeIdle()
        self.assertEqual(self.arrived(), 2 * len(self.endings))

    async def test_with_a_whole_body(self) -> None:
        """So does one whose body goes out with its head."""
        for ending in self.endings:
            number = await self.kept()
            waiting = self.send(body=WholeBody(b"hello"))
            self.peer.close(number, **ending)
            await self.answered(waiting, await self.peer.accept(), b"\r\n\r\nhello")
            self.agent.closeIdle()
        self.assertEqual(self.arrived(), len(self.endings))

    async def test_in_the_middle_of_an_upload(self) -> None:
        """A body that is still coming is held back meanwhile, and goes on where it was."""
        number = await self.kept()
        upload = Upload(10)
        waiting = self.send(body=upload)
        upload.consumer.write(b"first")
        self.peer.close(number)
        another = await self.peer.accept()
        await self.peer.reads(another, b"\r\n\r\nfirst")
        self.assertEqual(upload.events, ["pause", "resume"])
        upload.consumer.write(b"later")
        upload.done.callback(None)
        await self.answered(waiting, another, b"\r\n\r\nfirstlater")
        self.assertEqual(self.arrived(), 1)

    async def test_the_body_ends_while_it_moves(self) -> None:
        """What the client sends between two connections is neither lost nor out of order."""
        number = await self.kept()
        upload = Upload()
        waiting = self.send(body=upload)
        upload.consumer.write(b"first")
        self.peer.close(number)
        await until(lambda: "pause" in upload.events or None)
        upload.consumer.write(b"later")
        upload.done.callback(None)
        framed = b"5\r\nfirst\r\n5\r\nlater\r\n0\r\n\r\n"
        await self.answered(waiting, await self.peer.accept(), framed)
        self.assertEqual(self.arrived(), 1)

    async def test_the_body_breaks_while_it_moves(self) -> None:
        """A client that breaks off meanwhile leaves no request that looks whole."""
        number = await self.kept()
        upload = Upload(10)
        waiting = self.send(body=upload)
        upload.consumer.write(b"first")
        self.peer.close(number)
        await until(lambda: "pause" in upload.events or None)
        upload.done.errback(RuntimeError("the client has gone"))
        await self.assertFailure(waiting, UpstreamGone)
        await self.peer.accept()
        self.assertNotIn(b"later", b"".join(self.peer.received))

    async def test_nowhere_to_move(self) -> None:
        """Where the upstream is gone altogether that is the error, and the body is let go."""
        number = await self.kept()
        upload = Upload(10)
        waiting = self.send(body=upload)
        self.peer.refuse()
        self.peer.close(number)
        await self.assertFailure(waiting, ConnectionRefusedError)
        self.assertEqual(upload.events, ["pause", "stop"])
        self.assertEqual(self.arrived(), 0)

    async def test_given_up_while_it_moves(self) -> None:
        """A client that leaves meanwhile is not spoken for."""
        number = await self.kept()
        upload = Upload(10)
        waiting = self.send(body=upload)
        self.peer.close(number)
        await until(lambda: "pause" in upload.events or None)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError, ConnectingCancelledError)
        self.assertEqual(upload.events, ["pause", "stop"])
        self.assertEqual(self.arrived(), 0)

    async def test_what_may_have_been_sent(self) -> None:
        """A request of which a byte may have arrived is never sent again, a GET neither."""
        for method, ending in product((b"POST", b"GET", b"DELETE"), ({}, {"reset": True})):
            number = await self.kept()
            waiting = self.send(method)
            await self.peer.reads(number, b"\r\n\r\n")
            self.peer.close(number, **ending)
            await self.assertFailure(waiting, UpstreamGone)
            self.assertIs(self.peer._accepted(), None)

    async def test_any_moment(self) -> None:
        """Whenever the end comes: no POST arrives twice, and one that fails has been sent."""
        chance = random.Random(9112)
        for _ in range(60):
            number, before = await self.kept(), self.arrived()
            turns, ending = chance.randrange(4), chance.choice(self.endings)
            early = chance.random() < 0.3
            if early:
                self.peer.close(number, **ending)
            waiting = self.send()
            outcome: list[Any] = []
            waiting.addBoth(outcome.append)
            for _ in range(turns):
                await deferLater(global_reactor(), 0)
            if not early:
                self.peer.look()
                sent = self.arrived() > before
                self.peer.close(number, **ending)
            moved = await until(lambda outcome=outcome: self.peer._accepted() or (outcome or None))
            if isinstance(moved, socket.socket):
                moved.setblocking(False)
                self.peer.connections.append(moved)
                self.peer.received.append(b"")
                await self.answered(Deferred.fromCoroutine(self.first(outcome)), -1, b"\r\n\r\n")
                self.assertEqual(self.arrived(), before + 1)
            elif not ending.get("saying"):
                self.assertIsInstance(outcome[0].value, UpstreamGone)
                self.assertFalse(early)
                self.assertTrue(sent or turns, "it had not been sent")
            self.agent.closeIdle()

    async def first(self, outcome: list[Any]) -> Any:
        """Return what a request came to."""
        return await until(lambda: outcome[0] if outcome else None)
