"""The forwarder does to connections what it says, over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.chaos.gate import Gate
from tests.support.reactor import global_reactor


class Echo(Protocol):
    """Says what it hears."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Ear(Protocol):
    """Waits for something to be said, or for the end."""

    transport: Any

    def connectionMade(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        heard, self.heard = self.heard, Deferred()
        heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class Gates(TestCase):
    """A gate in front of an echo."""

    timeout = 30

    def setUp(self) -> None:
        self.reactor = global_reactor()
        echo = self.reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(echo.stopListening)
        self.echo = echo.getHost().port
        self.gate = Gate(self.reactor, self.echo)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.closed()))

    async def closed(self) -> None:
        await self.gate.shut()
        while self.gate.ends:
            await deferLater(self.reactor, 0.01)

    async def connect(self, port: int = 0) -> Ear:
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port or self.gate.port)
        ear = Ear()
        await connectProtocol(endpoint, ear)
        return ear

    async def said(self, ear: Ear, words: bytes) -> None:
        heard = ear.heard
        ear.transport.write(words)
        self.assertEqual(await heard, words)

    async def test_open(self) -> None:
        """What is said comes back, and hanging up hangs up."""
        ear = await self.connect()
        await self.said(ear, b"one")
        await self.said(ear, b"two")
        ear.transport.loseConnection()
        await ear.ended

    async def test_shut(self) -> None:
        """Connections end, new ones are refused, and after opening all is well on the same port."""
        ear = await self.connect()
        await self.said(ear, b"one")
        await self.gate.shut()
        await ear.ended
        with self.assertRaises(ConnectionRefusedError):
            await self.connect()
        self.gate.open()
        again = await self.connect()
        await self.said(again, b"two")
        again.transport.loseConnection()
        await again.ended

    async def test_stall(self) -> None:
        """Nothing moves on old connections and new ones; afterwards what was said arrives."""
        old = await self.connect()
        await self.said(old, b"one")
        self.gate.stall()
        new = await self.connect()
        heard = [old.heard, new.heard]
        for ear in (old, new):
            ear.transport.write(b"later")
        beside = await self.connect(self.echo)
        for words in (b"one", b"two", b"three"):  # what flowed would have come before the third
            await self.said(beside, words)
        self.assertEqual([one.called for one in heard], [False, False])
        self.gate.open()
        self.assertEqual([await one for one in heard], [b"later", b"later"])
        for ear in (old, new, beside):
            ear.transport.loseConnection()
            await ear.ended
