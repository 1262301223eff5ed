"""The relay on real sockets: a client and an upstream of raw bytes, the product's wire between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from mcp_oauth2_proxy.config.model import Upstream
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.site import WireSite
from tests.relay.scripted import ScriptedRealm, configuration
from tests.support.keys import access_claims, key_set, make_token, rsa_key
from tests.support.reactor import global_reactor

#: Seconds after which a test gives up waiting for bytes.
PATIENCE = 20


class Raw(Protocol):
    """One end of a connection: what has come, and whoever waits for more."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = False
        self.lost: Deferred[bool] = Deferred()
        self._waiting: list[tuple[Callable[[bytes], bool], Deferred[bytes]]] = []

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.closed = True
        self.lost.callback(True)
        self._look()

    def until(self, wanted: bytes | Callable[[bytes], bool]) -> Deferred[bytes]:
        """Fire with all that has come once ``wanted`` is in it (or is true of it)."""
        done: Deferred[bytes] = Deferred()
        self._waiting.append((wanted if callable(wanted) else lambda come: wanted in come, done))
        self._look()
        return done.addTimeout(PATIENCE, global_reactor())

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        self.transport.abortConnection()

    def _look(self) -> None:
        for waiting in tuple(self._waiting):
            wanted, done = waiting
            if wanted(self.received):
                self._waiting.remove(waiting)
                done.callback(self.received)
            elif self.closed:
                self._waiting.remove(waiting)
                done.errback(AssertionError(f"closed after {self.received[-2000:]!r}"))


class Loopback:
    """A listening proxy and a listening upstream whose connections the test gets one by one."""

    def __init__(
        self,
        *,
        upstream_url: str | None = None,
        head_timeout: float = 10.0,
        hosts: tuple[str, str] = ("127.0.0.1", "127.0.0.1"),
        **server: Any,
    ) -> None:
        """``hosts`` are the addresses of the proxy and of the upstream."""
        self._host, upstream_host = hosts
        self.connections: DeferredQueue[Raw] = DeferredQueue()
        self.clients: list[Raw] = []
        self.upstreams: list[Raw] = []
        factory = Factory.forProtocol(self._upstream_connection)
        factory.noisy = False
        self._upstream = global_reactor().listenTCP(0, factory, interface=upstream_host)
        self.upstream_port: int = self._upstream.getHost().port
        url = upstream_url or f"http://{upstream_host}:{self.upstream_port}"
        config = configuration(server=server, upstream=Upstream(url=url))
        self.agent = WireAgent(
            global_reactor(), connect_timeout=5.0, response_header_timeout=head_timeout, idle_timeout=4.0
        )
        self.endings = Endings(remember=86400)
        self.proxy = ProxyResource(
            config,
            gate=Gate(Policy.from_config(config), self.endings),
            realm=ScriptedRealm(key_set(rsa_key())),  # type: ignore[arg-type]
            client=RelayClient(self.agent),
            clock=global_reactor(),
        )
        self.done: list[Any] = []
        self.site = WireSite(self.proxy, reactor=global_reactor(), on_done=self.done.append)
        self._proxy = global_reactor().listenTCP(0, self.site, interface=self._host)

    def _upstream_connection(self) -> Raw:
        raw = Raw()
        self.upstreams.append(raw)
        self.connections.put(raw)
        return raw

    async def client(self, address: str | None = None) -> Raw:
        """Return a new connection to the proxy, from this machine's ``address``."""
        port = self._proxy.getHost().port
        from_there = None if address is None else (address, 0)
        endpoint = TCP4ClientEndpoint(global_reactor(), self._host, port, bindAddress=from_there)
        raw: Raw = await connectProtocol(endpoint, Raw())
        self.clients.append(raw)
        return raw

    async def send(
        self,
        line: bytes,
        *headers: bytes,
        body: bytes = b"",
        subject: str = "alice",
        address: str | None = None,
    ) -> Raw:
        """Send one authorised request on a new connection and return the connection."""
        raw = await self.client(address)
        raw.write(request(line, *headers, body=body, subject=subject))
        return raw

    async def accept(self) -> Raw:
        """Return the upstream's next connection."""
        raw: Raw = await self.connections.get().addTimeout(PATIENCE, global_reactor())
        return raw

    async def stop(self) -> None:
        """Close everything; trial finds what is left."""
        await self._proxy.stopListening()
        await self._upstream.stopListening()
        self.agent.closeIdle()
        for raw in (*self.clients, *self.upstreams):
            if not raw.closed:
                raw.abort()
                await raw.lost


def request(line: bytes, *headers: bytes, body: bytes = b"", subject: str = "alice") -> bytes:
    """Return the bytes of one authorised request."""
    token = make_token(access_claims(now=time.time(), sub=subject)).encode()
    lines = [line + b" HTTP/1.1", b"Host: mcp.example", b"Authorization: Bearer " + token, *headers]
    return b"\r\n".join([*lines, b"", body])
