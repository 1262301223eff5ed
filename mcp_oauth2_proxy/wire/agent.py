"""An ``IAgent`` for relaying: streams both ways at once, keeps header lines, pools connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.errors import NotSent
from mcp_oauth2_proxy.wire.requests import request_head
from mcp_oauth2_proxy.wire.trust import TrustPolicy

#: What a connection timeout of 0 comes to: the operating system gives up long before.
NEVER = 3600.0
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
#: Unused connections kept to one upstream. With fewer than there are clients at work, most requests
#: would open one of their own, which costs five times the request.
MAX_IDLE = 4096

_Key = tuple[bytes, bytes]


@implementer(IAgent)
class WireAgent:
    """See :class:`IAgent`. Times are seconds, 0 meaning no limit.

    A request fails with an error of ``twisted.internet.error`` where no connection could be made, and
    with one of :mod:`mcp_oauth2_proxy.wire.errors` afterwards.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        connect_timeout: float,
        response_header_timeout: float,
        idle_timeout: float,
        tls: IPolicyForHTTPS | None = None,
    ) -> None:
        self._reactor = reactor
        self._deadlines = Deadlines(reactor)
        self._connect_timeout = connect_timeout
        self._head_timeout = response_header_timeout
        self._idle_timeout = idle_timeout
        self._tls = tls
        # Ordered sets: the one used last is taken first, and any may be lost at any time.
        self._idle: dict[_Key, dict[ClientConnection, None]] = {}
        self._upstreams: dict[_Key, tuple[IStreamClientEndpoint, Factory[Any]]] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See :class:`IAgent`. The Deferred fires with the answer's head, though the upload may still run."""
        try:
            scheme, authority, target = _split(uri)
            head = request_head(method, target, authority, headers, bodyProducer)
        except ValueError:
            return fail()
        key = (scheme, authority)
        connection = self._take(key)
        if connection is None:
            connecting: Deferred[Any] = self._connect(key)
            return connecting.addCallback(lambda connection: connection.send(method, head, bodyProducer))
        answer: Deferred[Any] = connection.send(method, head, bodyProducer)
        answer.addErrback(self._another_way, key, method)
        return answer

    def closeIdle(self) -> None:
        """Close the connections that wait for a request."""
        for connections in self._idle.values():
            for connection in list(connections):
                connection.abort()

    def _another_way(self, failure: Failure, key: _Key, method: bytes) -> Failure | Deferred[Any]:
        """Send a request over a new connection of which nothing was sent over its first one, a kept one.

        What may have been sent is not sent again, of whatever method: it may have been acted upon.
        """
        error = failure.value
        if not isinstance(error, NotSent):
            return failure
        another: Deferred[Any] = self._connect(key)
        return another.addCallbacks(lambda connection: connection.carry(method, error), error.give_up)

    def _take(self, key: _Key) -> ClientConnection | None:
        idle = self._idle.get(key)
        while idle:
            connection = idle.popitem()[0]
            if connection.usable():
                return connection
            connection.abort()
        return None

    def _connect(self, key: _Key) -> Deferred[ClientConnection]:
        upstream = self._upstreams.get(key)
        if upstream is None:
            upstream = self._upstreams[key] = self._endpoint(key), self._factory(key)
        endpoint, factory = upstream
        return endpoint.connect(factory)  # type: ignore[return-value]

    def _factory(self, key: _Key) -> Factory[Any]:
        idle = self._idle.setdefault(key, {})

        def released(connection: ClientConnection) -> None:
            if len(idle) < MAX_IDLE:
                idle[connection] = None
            else:
                connection.abort()

        def lost(connection: ClientConnection) -> None:
            idle.pop(connection, None)

        factory = Factory.forProtocol(
            lambda: ClientConnection(
                self._deadlines,
                head_timeout=self._head_timeout,
                idle_timeout=self._idle_timeout,
                released=released,
                lost=lost,
            )
        )
        factory.noisy = False
        return factory

    def _endpoint(self, key: _Key) -> IStreamClientEndpoint:
        scheme, authority = key
        host, port = _host_and_port(authority, _DEFAULT_PORTS[scheme])
        endpoint = _plain_endpoint(self._reactor, host, port, self._connect_timeout or NEVER)
        if scheme == b"https":
            if self._tls is None:
                self._tls = TrustPolicy()
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(host, port), endpoint)
        return endpoint


def _plain_endpoint(reactor: Any, host: bytes, port: int, timeout: float) -> IStreamClientEndpoint:
    """Return the endpoint of a host; an address needs no resolver and its threads."""
    literal = host.decode("ascii")
    if isIPAddress(literal):
        return TCP4ClientEndpoint(reactor, literal, port, timeout=timeout)
    if isIPv6Address(literal):
        return TCP6ClientEndpoint(reactor, literal, port, timeout=timeout)
    return HostnameEndpoint(reactor, host, port, timeout=timeout)


def _split(uri: bytes) -> tuple[bytes, bytes, bytes]:
    """Return scheme, authority and request target, the last as it is.

    :raises ValueError: no absolute http(s) URI.
    """
    scheme, mark, rest = uri.partition(b"://")
    if not mark or scheme not in _DEFAULT_PORTS:
        raise ValueError("an absolute http or https URI is needed")
    authority, _, target = rest.partition(b"/")
    if b"?" in authority:  # a query without a path
        authority, _, query = rest.partition(b"?")
        target = b"?" + query
    return scheme, authority, b"/" + target


def _host_and_port(authority: bytes, default: int) -> tuple[bytes, int]:
    host, mark, port = authority.rpartition(b":")
    if not mark or not port.isdigit():
        return authority.strip(b"[]"), default
    return host.strip(b"[]"), int(port)
