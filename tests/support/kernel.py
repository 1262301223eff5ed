"""An operating system in memory: sockets with small buffers, and a reactor that turns when a test says so.

The transports over them are Twisted's and ours: buffers, pauses and the order of things are the real ones.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mcp_oauth2_proxy.wire.transports import WritingAtOnce

#: Bytes that a kernel keeps for one direction of a connection, and that a transport reads and keeps:
#: small, so that a few hundred bytes fill everything there is.
SOCKET_BUFFER = 512
TRANSPORT_BUFFER = 256

_numbers = itertools.count(1)


class Socket:
    """One end of a connection. ``wrongs`` collects what nobody may do to a socket."""

    family = socket.AF_UNIX
    #: Whether something that was sent has not arrived: here it always has.
    stuck = False

    def __init__(self, wrongs: list[str]) -> None:
        self.peer: Socket
        self.inbox = bytearray()
        #: The peer has ended its half; the connection was reset; this end has ended its half; it is closed.
        self.ended, self.reset, self.shut, self.closed = False, False, False, False
        self._lingers = True
        self._number = next(_numbers)
        self._wrongs = wrongs

    @property
    def readable(self) -> bool:
        return bool(self.inbox) or self.ended or self.reset

    @property
    def full(self) -> bool:
        """Whether the other end can send no more, since this one does not read."""
        return len(self.inbox) >= SOCKET_BUFFER

    @property
    def room(self) -> int:
        """Bytes that can be sent now; a broken connection takes any, and says so."""
        if self.reset or self.peer.closed:
            return SOCKET_BUFFER
        return SOCKET_BUFFER - len(self.peer.inbox)

    def recv(self, size: int) -> bytes:
        if self.reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        if not self.inbox and not self.ended:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing there")
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def send(self, data: bytes | memoryview) -> int:
        if self.closed or self.shut:
            self._wrongs.append(f"written after the end: {bytes(data)[:40]!r}")
        if self.reset:
            raise BrokenPipeError(errno.EPIPE, "reset")
        if self.room <= 0:
            raise BlockingIOError(errno.EWOULDBLOCK, "full")
        taken = bytes(data[: self.room])
        if self.peer.closed:
            self._break()
        else:
            self.peer.inbox += taken
        return len(taken)

    def shutdown(self, how: int) -> None:
        """End the sending half; the receiving one ends with :meth:`close`."""
        self.shut = True
        self.peer.ended = True

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.inbox or not self._lingers:
            self.peer._break()
        self.peer.ended = True

    def abort(self) -> None:
        """Reset the connection."""
        self._lingers = False
        self.close()

    def _break(self) -> None:
        if not self.closed:
            self.reset = True
            self.inbox.clear()

    def setsockopt(self, _level: int, option: int, _value: object) -> None:
        if option == socket.SO_LINGER:
            self._lingers = False

    def getsockopt(self, _level: int, option: int) -> int:
        """Return whether the connection is broken, which is all that is asked for."""
        return errno.ECONNRESET if option == socket.SO_ERROR and self.reset else 0

    def setblocking(self, _blocking: bool) -> None:
        """Nothing blocks here."""

    def fileno(self) -> int:
        return -1 if self.closed else self._number


class Transport(tcp.Connection):
    """Twisted's TCP transport over a :class:`Socket`."""

    bufferSize = TRANSPORT_BUFFER

    def __init__(self, connection: Any, reactor: Kernel, host: str) -> None:
        super().__init__(connection, None, reactor)  # type: ignore[arg-type]
        self._host = host
        self.connected = True
        reactor.transports.append(self)

    def begin(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)
        if self.connected:
            self.startReading()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._host, 40000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8080)


class TransportAtOnce(WritingAtOnce, Transport):
    """That of ``serve``, which writes without waiting for a turn."""

    bufferSize = TRANSPORT_BUFFER


class Kernel(Clock):
    """A reactor. Nothing is read or connected before :meth:`turn`, nor written, unless ``at_once``."""

    def __init__(self, *, at_once: bool = False) -> None:
        super().__init__()
        self.at_once = at_once
        self.wrongs: list[str] = []
        #: Every transport there was.
        self.transports: list[Transport] = []
        self.readers: dict[Transport, None] = {}
        self.writers: dict[Transport, None] = {}
        #: Whether somebody listens where the endpoint connects to; its ends of the connections, in order.
        self.listening = True
        self.accepted: list[Socket] = []
        self._connecting: list[tuple[Factory[Any], Deferred[Any]]] = []
        self._clients: list[Socket] = []
        self._sockets: list[Socket] = []

    def addReader(self, reader: Any) -> None:
        self.readers[reader] = None

    def addWriter(self, writer: Any) -> None:
        self.writers[writer] = None

    def removeReader(self, reader: Any) -> None:
        self.readers.pop(reader, None)

    def removeWriter(self, writer: Any) -> None:
        self.writers.pop(writer, None)

    def reads(self, reader: Any) -> bool:
        """See :class:`mcp_oauth2_proxy.wire.reactor.WireReactor`."""
        return reader in self.readers

    def transport(self, connection: Socket, host: str) -> Transport:
        """Return a transport over one end of a connection."""
        return (TransportAtOnce if self.at_once else Transport)(connection, self, host)

    def pair(self) -> tuple[Socket, Socket]:
        """Return both ends of a new connection."""
        one, other = Socket(self.wrongs), Socket(self.wrongs)
        one.peer, other.peer = other, one
        self._sockets += one, other
        return one, other

    def accept(self, factory: Any, host: str) -> Socket:
        """Let a client connect to ``factory``, and return the client's end."""
        mine, theirs = self.pair()
        self._clients.append(mine)
        transport = self.transport(theirs, host)
        transport.begin(factory.buildProtocol(transport.getPeer()))
        return mine

    def connect(self, factory: Factory[Any]) -> Deferred[Any]:
        """Connect, as an endpoint does, at the next turn."""
        made: Deferred[Any] = Deferred()
        self._connecting.append((factory, made))
        return made

    def turn(self) -> bool:
        """Do what a reactor does once; return whether there was anything to do."""
        busy = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        connecting, self._connecting = self._connecting, []
        for factory, made in connecting:
            busy = True
            self._finish_connecting(factory, made)
        for transport in list(self.readers):
            if transport in self.readers and transport.socket.readable:  # type: ignore[attr-defined]
                busy = True
                self._disconnect(transport, transport.doRead(), reading=True)
        for transport in list(self.writers):
            if transport in self.writers and transport.socket.room > 0:  # type: ignore[attr-defined]
                busy = True
                self._disconnect(transport, transport.doWrite(), reading=False)
        return busy

    def arrivals(self, transport: Any) -> Callable[[], bool]:
        """See :func:`mcp_oauth2_proxy.wire.sockets.arrivals`."""
        return lambda: transport.socket.readable

    def ended(self, transport: Any) -> bool:
        """See :func:`mcp_oauth2_proxy.wire.sockets.ended`."""
        return transport.socket.ended or transport.socket.reset

    def settle(self) -> None:
        """Turn until nothing is left to do."""
        for _ in range(100_000):
            if not self.turn():
                return
        raise AssertionError("it never comes to rest")

    def until(self, _come: Callable[[], bool]) -> None:
        """Turn until that has come about; here all that can come has come once nothing moves."""
        self.settle()

    def left(self) -> list[object]:
        """Return the connections, producers and timers there are, and what is waited for."""
        found = [one for one in self.transports if one.connected or one.producer is not None]
        return [*found, *self.readers, *self.writers, *self.getDelayedCalls()]

    def forget(self) -> None:
        """Keep nothing of the connections there were."""
        self.transports.clear()

    def close(self) -> list[object]:
        """Close the test's own ends; return the sockets that others have left open."""
        for end in (*self._clients, *self.accepted):
            end.close()
        return [one for one in self._sockets if not one.closed]

    def _finish_connecting(self, factory: Factory[Any], made: Deferred[Any]) -> None:
        if made.called:  # cancelled
            return
        if not self.listening:
            made.errback(ConnectionRefusedError())
            return
        mine, theirs = self.pair()
        self.accepted.append(theirs)
        transport = self.transport(mine, "127.0.0.1")
        protocol = factory.buildProtocol(None)
        transport.begin(protocol)
        made.callback(protocol)

    def _disconnect(self, transport: Transport, why: object, *, reading: bool) -> None:
        """Do what Twisted's reactors do with the answer of ``doRead`` and ``doWrite``."""
        if why is None:
            return
        self.removeReader(transport)
        self.removeWriter(transport)
        reason = ConnectionDone() if isinstance(why, ConnectionDone) and reading else ConnectionLost()
        transport.connectionLost(Failure(reason))
