"""A transport in memory that does what a TCP transport does, when the test says so."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer


@implementer(ITCPTransport, IPushProducer)
class Wire:
    """What ``protocol`` writes is in ``sent``; :meth:`close` and :meth:`reset` are the peer's doing."""

    disconnecting = False

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.sent = b""
        #: Whether the protocol wants to read, has ended its side, and whether the connection is over.
        self.reading, self.half_closed, self.over = True, False, False
        self.producer: Any = None
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """Let bytes arrive, as one read of the socket."""
        if not self.over:
            self.protocol.dataReceived(data)

    def taken(self) -> bytes:
        """Return what was sent since the last look."""
        sent, self.sent = self.sent, b""
        return sent

    def close(self) -> None:
        """The peer closes."""
        self._end(ConnectionDone())

    def _end(self, reason: Exception) -> None:
        if not self.over:
            self.over = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))

    def write(self, data: bytes) -> None:
        if not self.over:
            self.sent += data

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end(ConnectionDone())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self._end(ConnectionAborted())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 31337)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8080)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits here."""

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nobody vanishes here."""

    def getTcpKeepAlive(self) -> bool:
        return True


class Reader(Protocol):
    """Collects a body and the reason of its end."""

    def __init__(self) -> None:
        self.data = b""
        self.reason: BaseException | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.reason = reason.value
