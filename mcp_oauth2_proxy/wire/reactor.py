"""The reactor of ``mcp-oauth2-proxy serve``: Twisted's asyncio reactor on uvloop, with two detours left out.

Under any other reactor everything works the same, and costs more.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IConnector, IListeningPort
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.tcp import Client, Connector, Port
from twisted.python.log import callWithLogger

from mcp_oauth2_proxy.wire.transports import ClientTransport, ServerTransport


class _Loop(uvloop.Loop):
    """uvloop's loop, which hands an event on without a logging context.

    Twisted makes one for each event, for its legacy logging; nothing here reads it.
    """

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """See :class:`asyncio.AbstractEventLoop`."""
        super().add_reader(fd, *_without_context(callback, *args))

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """See :class:`asyncio.AbstractEventLoop`."""
        super().add_writer(fd, *_without_context(callback, *args))


def _without_context(callback: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    # callWithLogger(logger, function, *arguments)
    return args[1:] if callback is callWithLogger else (callback, *args)


class _Port(Port):
    transport = ServerTransport


class _Connector(Connector):
    def _makeTransport(self) -> Client:
        return ClientTransport(self.host, self.port, self.bindAddress, self, self.reactor)


class WireReactor(AsyncioSelectorReactor):
    """Twisted's reactor with connections that write at once, on this loop or the ``loop`` that is given."""

    def __init__(self, loop: AbstractEventLoop | None = None) -> None:
        loop = loop or _Loop()
        super().__init__(loop)
        #: Calls a function once the present turn of the event loop is over.
        self.soon = loop.call_soon

    def reads(self, transport: Any) -> bool:
        """Return whether ``transport`` wants to read."""
        return transport in self._readers

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> DelayedCall:
        """See :class:`twisted.internet.interfaces.IReactorTime`.

        Twisted's sorts each call in at once. Nearly all of them are timeouts: they come after one that is
        waited for already, and are cancelled before it has come.
        """
        call = PosixReactorBase.callLater(self, delay, callable, *args, **kw)
        if self._scheduledAt is None or self._asyncioEventloop.time() + delay < self._scheduledAt:
            self._reschedule()
        return call

    def listenTCP(
        self, port: int, factory: Factory[Any], backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """See :class:`twisted.internet.interfaces.IReactorTCP`."""
        return _listening(_Port(port, factory, backlog, interface, self))

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Factory[Any]) -> Any:
        """See :class:`twisted.internet.interfaces.IReactorSocket`; of TCP sockets only."""
        return _listening(_Port._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory))

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> IConnector:
        """See :class:`twisted.internet.interfaces.IReactorTCP`."""
        connector = _Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector


def _listening(port: Port) -> Port:
    port.startListening()
    return port
