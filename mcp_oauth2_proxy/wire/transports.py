"""TCP connections that hand what is written to the kernel at once, as far as the kernel takes it.

Twisted's own wait for the event loop to say that the socket is writable, which it nearly always is: two
system calls and a turn of the loop for each write.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EINPROGRESS
from typing import Any

from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, getConnectError
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Client, Connection, Server


class WritingAtOnce(Connection):
    """A TCP connection that does so. Its reactor is a :class:`~mcp_oauth2_proxy.wire.reactor.WireReactor`."""

    reactor: Any

    def doRead(self) -> ConnectionLost | ConnectionDone | None:  # type: ignore[override]
        """See :class:`twisted.internet.interfaces.IReadDescriptor`.

        uvloop tells of an error (a reset) once, lets the reader run once, and never speaks of the socket
        again: where that reader found data, which had come before the reset, nobody would hear of it. So
        the socket is asked, and what is left is read on the spot. Its end then is none: it was a reset.
        """
        why = self._read()
        if why is None and self.connected and self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            while why is None and self.connected and self.reactor.reads(self):
                why = self._read()
            return CONNECTION_LOST
        return why

    def _read(self) -> ConnectionLost | ConnectionDone | None:
        """Do what Twisted's ``doRead`` does, in one call for three: it comes twice for each request."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def write(self, data: bytes) -> None:
        """See :class:`twisted.internet.interfaces.ITransport`."""
        if (
            self.TLS
            or not self.connected
            or self._writeDisconnected
            or self._tempDataLen
            or self.dataBuffer
            or not 0 < len(data) <= self.SEND_LIMIT
            or (self.producer is not None and not self.streamingProducer)  # asked again once doWrite has sent
        ):
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            # The socket is full, or the connection is lost: then the write that fails in a turn of its own
            # tells so. Nobody expects to lose a connection while writing.
            sent = 0
        if sent < len(data):
            super().write(data[sent:])


class ServerTransport(WritingAtOnce, Server):
    """The transport of an accepted connection."""


class ClientTransport(WritingAtOnce, Client):
    """The transport of a connection that was made here.

    Twisted's begins in a turn of its own, is told of by both reader and writer, asks twice, and leaves the
    event loop between being connected and reading.
    """

    def _finishInit(
        self, whenDone: Callable[[], None] | None, skt: socket.socket, error: Exception | None, reactor: Any
    ) -> None:
        if whenDone is None or self._requiresResolution:
            super()._finishInit(whenDone, skt, error, reactor)
            return
        Connection.__init__(self, skt, None, reactor)  # type: ignore[arg-type]
        self._setRealAddress(self.addr)  # which calls what follows

    def doConnect(self) -> None:
        """Begin. Whatever comes of it is told in another turn."""
        refused = self.socket.connect_ex(self.realAddress)
        if refused in (0, EINPROGRESS):
            self.doWrite = self._connected  # type: ignore[method-assign]
            self.startWriting()
        else:
            self.reactor.callLater(0, self.failIfNotConnected, _why(refused))

    def _connected(self) -> None:
        refused = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            self.failIfNotConnected(_why(refused))
            return
        del self.doWrite
        self.startReading()
        self.stopWriting()
        self._connectDone()


def _why(refused: int) -> ConnectError:
    error: ConnectError = getConnectError((refused, os.strerror(refused)))
    return error
