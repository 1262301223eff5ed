"""A TCP forwarder whose two ends can be told apart, stalled and cut, as networks do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Gate(Factory):
    """Stands on a port of its own in front of ``target``, another port of 127.0.0.1.

    :meth:`shut` refuses connections and cuts those there are; :meth:`stall` accepts and moves nothing.
    """

    noisy = False

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor = reactor
        self.target = target
        self.stalled = False
        self.ends: set[_End] = set()
        self._port: Any = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._port.getHost().port

    def buildProtocol(self, addr: Any) -> Protocol:
        """Return the near end of a new connection."""
        return _Near(self)

    async def shut(self) -> None:
        """Be gone: nobody listens, nobody is connected."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self.cut()

    def open(self) -> None:
        """Be there again, on the same port; let everything flow."""
        if self._port is None:
            self._port = self.reactor.listenTCP(self.port, self, interface="127.0.0.1")
        self.stalled = False
        for end in list(self.ends):
            end.flow()

    def stall(self) -> None:
        """Move nothing from now on."""
        self.stalled = True
        for end in self.ends:
            end.hold()

    def cut(self) -> None:
        """Cut every connection there is; new ones are welcome."""
        for end in list(self.ends):
            end.transport.abortConnection()


class _End(Protocol):
    """One side of a forwarded connection; what arrives is written to ``other``, at the pace it takes."""

    transport: Any

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.other: _End | None = None
        self._wanted = True

    def connectionMade(self) -> None:
        self.gate.ends.add(self)
        self.hold()

    def hold(self) -> None:
        self.transport.pauseProducing()

    def flow(self) -> None:
        if self._wanted and not self.gate.stalled and self.other is not None:
            self.transport.resumeProducing()

    # The other end's transport asks for a pause, or for more.

    def pauseProducing(self) -> None:
        self._wanted = False
        self.hold()

    def resumeProducing(self) -> None:
        self._wanted = True
        self.flow()

    def stopProducing(self) -> None:
        self.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gate.ends.discard(self)
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.unregisterProducer()
            other.transport.loseConnection()

    def join(self, other: _End) -> None:
        self.other = other
        self.transport.registerProducer(other, True)
        self.flow()


class _Near(_End):
    """The side of whoever connects."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.gate.reactor.connectTCP("127.0.0.1", self.gate.target, _Dial(self), timeout=5)


class _Dial(ClientFactory):
    """Connects to the target for one near end."""

    noisy = False

    def __init__(self, near: _Near) -> None:
        self._near = near

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Far(self._near)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._near.transport.abortConnection()


class _Far(_End):
    """The side of the target."""

    def __init__(self, near: _Near) -> None:
        super().__init__(near.gate)
        self._near = near

    def connectionMade(self) -> None:
        super().connectionMade()
        if self._near not in self.gate.ends:
            self.transport.abortConnection()
            return
        self.join(self._near)
        self._near.join(self)
