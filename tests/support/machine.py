"""This machine's operating system, in the place of the one in memory: real sockets on the loopback interface.

The reactors are the real ones, turned by hand; only the clock is the test's. So a test turns until nothing
moves, or until what it waits for has come about, and never sleeps.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from mcp_oauth2_proxy.wire import sockets
from mcp_oauth2_proxy.wire.reactor import WireReactor
from tests.support.kernel import SOCKET_BUFFER, TRANSPORT_BUFFER

try:
    from twisted.internet.epollreactor import EPollReactor as Reactor
except ImportError:
    from twisted.internet.pollreactor import PollReactor as Reactor

#: Bytes that a socket may hold each way: Linux takes no less, and doubles it for what is sent.
BUFFER = 2304
#: What is received is bounded by the window alone: a buffer too small for it would have packets dropped,
#: which come again in their own time.
_BOUNDS = (
    (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER),
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * BUFFER if hasattr(socket, "TCP_WINDOW_CLAMP") else BUFFER),
    *(
        (socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, BUFFER)
        for _ in range(hasattr(socket, "TCP_WINDOW_CLAMP"))
    ),
)
#: Turns without an event after which nothing moves: what is sent over the loopback interface has arrived
#: when ``send`` returns, or a moment later where the kernel is busy.
QUIET = 3
#: Turns without what is waited for, after which it is not believed to come.
PATIENCE = 200_000
_HOST = "127.0.0.1"
#: ioctl(2): bytes of a socket that are not sent yet (Linux), or not acknowledged (others, who delay that).
_NOT_SENT = 0x894B if sys.platform == "linux" else termios.TIOCOUTQ


def _bound(sock: socket.socket) -> None:
    for option in _BOUNDS:
        sock.setsockopt(*option)


class End:
    """The test's end of a connection: what :class:`tests.support.kernel.Socket` is in memory."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._reset = False

    def _poll(self, events: int) -> int:
        if self._socket.fileno() < 0:
            return 0
        poll = select.poll()
        poll.register(self._socket, events)
        return sum(told for _, told in poll.poll(0))

    @property
    def reset(self) -> bool:
        return self._reset or bool(self._poll(0) & select.POLLERR)

    @property
    def room(self) -> int:
        """Bytes that can be sent now, or fewer."""
        return SOCKET_BUFFER if self._poll(select.POLLOUT) & select.POLLOUT else 0

    @property
    def inbox(self) -> bytes:
        """What has come and is not read, or the beginning of it."""
        try:
            return self._socket.recv(SOCKET_BUFFER, socket.MSG_PEEK)
        except OSError:
            return b""

    #: Whether the peer can send no more: this machine keeps more than any answer of the tests.
    full = False

    @property
    def stuck(self) -> bool:
        """Whether the peer has no room for something that was written, so that no end of it can arrive."""
        if self._socket.fileno() < 0:
            return False
        return any(fcntl.ioctl(self._socket, _NOT_SENT, bytes(4)))

    def recv(self, size: int) -> bytes:
        try:
            return self._socket.recv(size)
        except (ConnectionResetError, BrokenPipeError) as error:
            self._reset = True
            raise ConnectionResetError(*error.args) from None

    def send(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except (ConnectionResetError, BrokenPipeError):
            self._reset = True
            return 0

    def shutdown(self, how: int) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:  # it has been reset
            self._reset = True

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self._socket.fileno() >= 0:
            # On, for no time (struct linger).
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"".join(n.to_bytes(4, "little") for n in (1, 0))
            )
        self.close()


class _ByHand:
    """A reactor that notes its connections and its events, and does one turn at a time."""

    def __init__(self) -> None:
        #: Every connection there was, since somebody looked.
        self.transports: dict[Any, None] = {}
        self.events = 0
        super().__init__()
        self._own = {*self.getReaders(), *self.getWriters()}  # type: ignore[attr-defined]

    def addReader(self, reader: Any) -> None:
        if isinstance(reader, tcp.Connection) and reader not in self.transports:
            self.transports[reader] = None
            reader.bufferSize = TRANSPORT_BUFFER
            reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        super().addReader(reader)  # type: ignore[misc]

    def dispose(self) -> None:
        """Close what the reactor has open for itself."""
        for one in self._own:
            one.connectionLost(None)

    def watched(self) -> list[Any]:
        """Return what is waited for beside the reactor's own."""
        reactor: Any = self
        return [one for one in (*reactor.getReaders(), *reactor.getWriters()) if one not in self._own]


class OfServe(_ByHand, WireReactor):
    """The reactor of ``serve``."""

    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        self.events += selectable not in self._own
        super()._readOrWrite(selectable, read)

    def turn(self) -> None:
        self._asyncioEventloop.call_soon(self._asyncioEventloop.stop)
        self._asyncioEventloop.run_forever()


class OfTwistd(_ByHand, Reactor):
    """The reactor that twistd picks, and Twisted's own transports."""

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        self.events += selectable not in self._own
        super()._doReadOrWrite(selectable, fd, event)

    def turn(self) -> None:
        self.runUntilCurrent()
        self.doIteration(0)


class Machine(Clock):
    """A clock, and two reactors to choose from; it acts like :class:`tests.support.kernel.Kernel`."""

    arrivals = staticmethod(sockets.arrivals)
    ended = staticmethod(sockets.ended)

    def __init__(self, serve: OfServe, twistd: OfTwistd) -> None:
        super().__init__()
        self._reactors = {True: serve, False: twistd}
        self._reactor: Any = serve
        # Twisted opens something with the first port, for all that follow (a reserve for when there is none).
        serve.listenTCP(0, Factory(), interface=_HOST).stopListening()
        serve.turn()
        self._descriptors = _descriptors()
        self._ends: list[End] = []
        self.accepted: list[End] = []
        self.listening = True
        # One port with somebody behind it, and one with nobody.
        self._upstream, self._nobody = socket.socket(), socket.socket()
        for one in (self._upstream, self._nobody):
            _bound(one)
            one.bind((_HOST, 0))
        self._upstream.listen(100)
        self._upstream.setblocking(False)
        self._port: tcp.Port | None = None
        #: What nobody caught.
        self.wrongs: list[str] = []
        serve._asyncioEventloop.set_exception_handler(lambda _, context: self.wrongs.append(str(context)))

    @property
    def at_once(self) -> bool:
        """Whether what is written is sent without a turn: as ``serve`` does, or as twistd."""
        return self._reactor is self._reactors[True]

    @at_once.setter
    def at_once(self, at_once: bool) -> None:
        self._reactor = self._reactors[at_once]

    @property
    def transports(self) -> list[Any]:
        return list(self._reactor.transports)

    def accept(self, factory: Any, host: str) -> End:
        """Connect to ``factory``, which is the only one, and return the client's end."""
        if self._port is None:
            factory.noisy = False
            port = self._port = self._reactor.listenTCP(0, factory, interface=_HOST)
            _bound(port.socket)
        client = socket.socket()
        _bound(client)
        client.connect((_HOST, self._port.getHost().port))
        return self._end(client)

    def _end(self, connected: socket.socket) -> End:
        end = End(connected)
        self._ends.append(end)
        return end

    def connect(self, factory: Factory[Any]) -> Deferred[Any]:
        """Connect as the agent does: to somebody, or to nobody."""
        port = (self._upstream if self.listening else self._nobody).getsockname()[1]
        made: Deferred[Any] = TCP4ClientEndpoint(self._reactor, _HOST, port).connect(factory)
        return made

    def turn(self) -> bool:
        """Let the reactor turn once; return whether anything happened."""
        busy = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        now, before = self._reactor.seconds(), self._reactor.events
        busy = busy or any(call.getTime() <= now for call in self._reactor.getDelayedCalls())
        self._reactor.turn()
        while True:
            try:
                self.accepted.append(self._end(self._upstream.accept()[0]))
            except BlockingIOError:
                return busy or self._reactor.events != before
            busy = True

    def settle(self) -> None:
        """Turn until nothing moves any more."""
        quiet = turns = 0
        while quiet < QUIET:
            turns += 1
            assert turns < PATIENCE, "it never comes to rest"
            quiet = 0 if self.turn() else quiet + 1

    def until(self, come: Callable[[], bool]) -> None:
        """Turn until that has come about, and nothing moves."""
        for _ in range(PATIENCE):
            if come():
                break
            self.turn()
        self.settle()

    def left(self) -> list[object]:
        """Return the connections, producers and timers there are, and what is waited for."""
        found = [one for one in self.transports if one.connected or one.producer is not None]
        watched = [one for one in self._reactor.watched() if one is not self._port]
        return [*found, *watched, *self.getDelayedCalls(), *self._reactor.getDelayedCalls()]

    def forget(self) -> None:
        """Keep nothing of the connections there were."""
        self._reactor.transports.clear()

    def close(self) -> list[str]:
        """Close what is the test's own; return the descriptors that others have left open."""
        for end in self._ends:
            end.close()
        if self._port is not None:
            self._port.stopListening()
        self.settle()
        self._upstream.close()
        self._nobody.close()
        self.forget()
        return sorted(_descriptors() - self._descriptors)


def _descriptors() -> set[str]:
    names = os.listdir("/dev/fd")
    # The one that the directory was read with is among them, and closed by now.
    return {name for name in names if os.path.exists(f"/dev/fd/{name}")}
