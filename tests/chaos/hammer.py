"""Calls without a pause, over connections that stay: what a restart would cut shows here first."""

from __future__ import annotations

import secrets
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.chaos.clients import RENEW, Client
from tests.chaos.history import Refused, Sent, Tried, mark
from tests.keycloak_contract.harness import unverified

if TYPE_CHECKING:
    from tests.chaos.world import World

#: Connections of a hammer, and the seconds that each rests at most between two calls.
CONNECTIONS, REST = 16, 0.02


class _Caller(Protocol):
    """One connection that makes one call after the other with the latest token of ``client``."""

    transport: Any

    def __init__(self, world: World, client: Client, name: str, random: Random) -> None:
        self.answered = 0
        self.ended: Deferred[None] = Deferred()
        self._world = world
        self._client = client
        self._name = name
        self._random = random
        self._received = b""
        self._nonce = b""
        self._began = world.pace.now()

    def connectionMade(self) -> None:
        self._call()

    def _call(self) -> None:
        session = self._client.member.session
        if self._world.stopping:
            self.transport.loseConnection()
        elif session is None or session.expires - self._world.pace.now().wall < RENEW:
            self._world.reactor.callLater(REST, self._call)
        else:
            nonce = secrets.token_hex(8)
            claims = unverified(session.access)[1]
            self._began = self._world.saw(
                Sent(self._name, "nginx", nonce, mark(session.access), claims["sid"], claims["exp"])
            )
            self._nonce = nonce.encode()
            body = b'{"nonce": "%b"}' % self._nonce
            head = f"POST /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {session.access}\r\n"
            self.transport.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def dataReceived(self, data: bytes) -> None:
        # An answer here is one chunk, or has a length; either way it ends with what the call was.
        self._received += data
        if self._received.startswith(b"HTTP/1.1 401 ") and self._received.endswith(b"}"):
            self._world.saw(Refused(self._name, self._nonce.decode()))
            self._again()
        elif not self._received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 401 ")):
            self._tell(self._received[:60].decode("latin-1"))
            self.transport.loseConnection()
        elif self._nonce in self._received and self._received.endswith((b"}", b"}\r\n0\r\n\r\n")):
            self.answered += 1
            self._again()

    def _again(self) -> None:
        self._received = b""
        self._tell("")
        self._world.reactor.callLater(self._random.uniform(0, REST), self._call)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._world.stopping:
            self._tell(f"nginx hung up: {reason.getErrorMessage()}")
        self.ended.callback(None)

    def _tell(self, trouble: str) -> None:
        self._world.saw(Tried(self._name, "keep calling", self._began, trouble))


class Hammer:
    """Calls by way of nginx, with the sessions of ``clients``."""

    def __init__(self, world: World, clients: list[Client]) -> None:
        self._callers = [
            _Caller(world, clients[number % len(clients)], f"hammer {number}", Random(number))
            for number in range(CONNECTIONS)
        ]
        self._world = world

    async def start(self) -> None:
        """Begin; it ends when the world does."""
        for caller in self._callers:
            endpoint = TCP4ClientEndpoint(self._world.reactor, "127.0.0.1", self._world.nginx.port)
            await connectProtocol(endpoint, caller)

    @property
    def answered(self) -> int:
        """Return how many calls were answered."""
        return sum(caller.answered for caller in self._callers)
