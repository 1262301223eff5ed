"""Connections that are reset, on the loop that ``serve`` runs on: each end is told, whatever came before."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.reactor import WireReactor

#: Seconds after which the loop is stopped, whatever has happened.
PATIENCE = 5


class Recorder(Protocol):
    """Keeps what it is told, and stops the reactor when the connection is over."""

    def __init__(self, reactor: Any, *, pauses: bool) -> None:
        self.received = b""
        self.reason: BaseException | None = None
        self._reactor = reactor
        self._pauses = pauses

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._pauses:
            self.transport.pauseProducing()  # type: ignore[union-attr]
            self._reactor.callLater(0.01, self.transport.resumeProducing)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.reason = reason.value
        self._reactor.stop()


class Resets(ReactorBuilder, SynchronousTestCase):
    """A peer that sends something and resets the connection before any of it is read."""

    reactorFactory = WireReactor

    def reset_after(self, data: bytes, *, pauses: bool = False) -> Recorder:
        """Return the protocol of a connection that ended so."""
        reactor: Any = self.buildReactor()
        recorder = Recorder(reactor, pauses=pauses)
        port = reactor.listenTCP(0, Factory.forProtocol(lambda: recorder), interface="127.0.0.1")

        def peer() -> None:
            with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.setblocking(False)
                if data:
                    client.send(data)

        reactor.callWhenRunning(peer)
        stop = reactor.callLater(PATIENCE, reactor.stop)
        self.runReactor(reactor)
        if stop.active():
            stop.cancel()
        return recorder

    def test_before_anything(self) -> None:
        """It is lost, and not well."""
        recorder = self.reset_after(b"")
        self.assertIsNotNone(recorder.reason, "it was never told")
        self.assertNotIsInstance(recorder.reason, ConnectionDone)

    def test_behind_a_piece(self) -> None:
        """What had come is handed on, and then the end is told: nothing would ever wake it again."""
        recorder = self.reset_after(b"half a request")
        self.assertEqual(recorder.received, b"half a request")
        self.assertIsNotNone(recorder.reason, "it was never told")
        self.assertNotIsInstance(recorder.reason, ConnectionDone)

    def test_behind_more_than_one_read(self) -> None:
        """The same where it takes more than one read; all that was there is handed on."""
        data = bytes(100_000)  # less than a kernel keeps, more than a read brings
        recorder = self.reset_after(data)
        self.assertEqual(len(recorder.received), len(data))
        self.assertNotIsInstance(recorder.reason, ConnectionDone)
        self.assertIsNotNone(recorder.reason, "it was never told")

    def test_while_nothing_is_read(self) -> None:
        """A protocol that holds its peer back is told as well."""
        recorder = self.reset_after(b"half a request", pauses=True)
        self.assertEqual(recorder.received, b"half a request")
        self.assertIsNotNone(recorder.reason, "it was never told")
