"""Both ends of the relay under a test's control: a client of raw bytes, a realm, an upstream."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from mcp_oauth2_proxy.config.model import Auth, Config, GateSettings, Secret, Server, Upstream
from mcp_oauth2_proxy.config.model import Headers as HeaderSettings
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.keycloak.introspection import Introspection
from mcp_oauth2_proxy.ops.access import AccessLog
from mcp_oauth2_proxy.relay.asking import Asker
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.wire.site import WireSite
from tests.support.keys import CLIENT_ID, ISSUER, NOW, access_claims, key_set, make_token, rsa_key

Pair = tuple[bytes, bytes]
BASE_URL = "https://mcp.example"


def configuration(
    *, server: dict[str, Any] | None = None, auth: dict[str, Any] | None = None, **sections: Any
) -> Config:
    """Return a configuration in front of ``http://upstream:3000/base``."""
    settings = {"base_url": BASE_URL, "issuer_url": ISSUER, "client_id": CLIENT_ID, **(auth or {})}
    return Config(
        upstream=sections.get("upstream", Upstream(url="http://upstream:3000/base")),
        auth=Auth(client_secret=Secret("s3cret"), **settings),
        server=Server(**(server or {})),
        headers=HeaderSettings(mutations=sections.get("mutations", ())),
        gate=GateSettings(**sections.get("gate", {})),
    )


def bearer(**changes: Any) -> bytes:
    """Return an ``Authorization`` line with a good token, or one changed in its claims."""
    return b"Authorization: Bearer " + make_token(access_claims(**changes)).encode()


class ScriptedRealm:
    """A realm whose keys are there, or not, or to be fetched by the test."""

    def __init__(self, keys: KeySet | None = None) -> None:
        self.keys = keys
        self.asked: list[str | None] = []
        self.fetches: list[Deferred[KeySet]] = []
        self.introspections: list[tuple[str, Deferred[bool]]] = []

    def keysFor(self, key_id: str | None) -> Deferred[KeySet]:
        self.asked.append(key_id)
        fetch: Deferred[KeySet] = Deferred()
        self.fetches.append(fetch)
        return fetch

    def introspect(self, access_token: str) -> Deferred[bool]:
        self.introspections.append((access_token, Deferred()))
        return self.introspections[-1][1]


class BodyTransport:
    """What an agent's response gives its reader: a push producer that can be held back."""

    def __init__(self, response: ScriptedResponse) -> None:
        self.response = response
        self.paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.response.abort()


@implementer(IResponse)
class ScriptedResponse:
    """An answer of the upstream that the test writes."""

    version = (b"HTTP", 1, 1)
    request = None
    previousResponse = None

    def __init__(self, code: int, phrase: bytes, pairs: list[Pair]) -> None:
        self.code = code
        self.phrase = phrase
        self.rawHeaders = pairs
        self.headers = Headers()
        for name, value in pairs:
            self.headers.addRawHeader(name, value)
        length = self.headers.getRawHeaders(b"content-length")
        self.length: Any = int(length[0]) if length else UNKNOWN_LENGTH
        self.aborted = False
        self.transport = BodyTransport(self)
        self._protocol: Any = None
        self._waiting: list[bytes] = []
        self._end: Failure | None = None

    def setPreviousResponse(self, response: object) -> None:
        raise AssertionError("nothing is redirected here")

    def deliverBody(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.makeConnection(self.transport)
        for data in self._waiting:
            protocol.dataReceived(data)
        if self._end is not None:
            protocol.connectionLost(self._end)

    def abort(self) -> None:
        self.aborted = True

    def send(self, data: bytes) -> None:
        """Let a piece of the body arrive."""
        if self._protocol is None:
            self._waiting.append(data)
        else:
            self._protocol.dataReceived(data)

    def end(self, reason: Exception | None = None) -> None:
        """Let the body end: whole, or for ``reason``."""
        failure = Failure(reason or ResponseDone())
        if self._protocol is None:
            self._end = failure
        else:
            self._protocol.connectionLost(failure)


class Sent:
    """One request that has reached the agent."""

    def __init__(self, method: bytes, uri: bytes, pairs: list[Pair], body: IBodyProducer | None) -> None:
        self.method = method
        self.uri = uri
        self.pairs = pairs
        self.body: Any = body
        self.cancelled = False
        self.uploaded: Deferred[None] | None = None
        self.result: Deferred[IResponse] = Deferred(lambda _: setattr(self, "cancelled", True))

    def value(self, name: bytes) -> bytes | None:
        """Return the value of a header that is there once, or ``None``."""
        values = [value for key, value in self.pairs if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None

    def take_body(self, consumer: IConsumer) -> None:
        """Begin to read the request's body: the upstream's connection is there."""
        self.uploaded = self.body.startProducing(consumer)
        # As an agent: an upload that breaks off fails the request.
        self.uploaded.addErrback(self.fail)

    def answer(
        self, code: int = 200, pairs: list[Pair] | None = None, phrase: bytes = b"OK"
    ) -> ScriptedResponse:
        """Let the head of an answer arrive."""
        response = ScriptedResponse(code, phrase, pairs or [])
        self.result.callback(response)
        return response

    def fail(self, reason: Exception | Failure) -> None:
        """Let the request fail."""
        self.result.errback(reason)


@implementer(IAgent)
class ScriptedAgent:
    """An upstream that only keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        sent = Sent(method, uri, list(headers.pairs), bodyProducer)
        self.sent.append(sent)
        return sent.result


class Sink:
    """The upstream's side of an upload."""

    def __init__(self) -> None:
        self.received = b""
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.received += data


class ScriptedClient:
    """One client connection, byte by byte."""

    def __init__(self, site: WireSite, clock: Clock, peer: str = "203.0.113.7") -> None:
        self.clock = clock
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", peer, 40000))
        self.transport.abortConnection = self._abort
        self.aborted = False
        self.protocol: Any = site.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def _abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self.protocol.connectionLost(Failure(ConnectionAborted()))

    def send(self, data: bytes) -> None:
        """Let bytes of the client arrive."""
        self.protocol.dataReceived(data)
        self.clock.advance(0)

    def request(self, line: bytes, *headers: bytes, body: bytes = b"") -> None:
        """Send one request to ``mcp.example``."""
        self.send(b"\r\n".join([line + b" HTTP/1.1", b"Host: mcp.example", *headers, b"", body]))

    def leave(self) -> None:
        """Let the client hang up."""
        self.protocol.connectionLost(Failure(ConnectionResetError()))
        self.clock.advance(0)

    @property
    def received(self) -> bytes:
        """Return everything that has been written to the client."""
        self.clock.advance(0)
        return self.transport.value()

    def head(self) -> tuple[int, list[Pair]]:
        """Return the status and header lines of the (first) answer."""
        first, *lines = self.received.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
        pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return int(first.split(b" ")[1]), pairs

    def head_without_date(self) -> tuple[int, list[Pair]]:
        """Return the same without the ``Date`` that a server adds to an answer that has none."""
        status, pairs = self.head()
        return status, [pair for pair in pairs if pair[0] != b"Date"]

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header of the answer that is there once, or ``None``."""
        values = [value for key, value in self.head()[1] if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None

    def body(self) -> bytes:
        """Return what follows the head of the answer, framing included."""
        return self.received.split(b"\r\n\r\n", 1)[1]


class Scene:
    """A proxy between scripted ends. ``done`` are the requests that are over."""

    def __init__(self, config: Config | None = None, *, realm: ScriptedRealm | None = None) -> None:
        self.config = config or configuration()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.realm = realm or ScriptedRealm(key_set(rsa_key()))
        self.agent = ScriptedAgent()
        self.done: list[Any] = []
        self.endings = Endings(remember=self.config.gate.remember_logouts)
        policy, remember = Policy.from_config(self.config), self.config.gate.introspect
        asking = Introspection(self.realm.introspect, clock=self.clock, remember=remember)
        self.proxy = ProxyResource(
            self.config,
            gate=Gate(policy, self.endings),
            realm=self.realm,  # type: ignore[arg-type]
            client=RelayClient(self.agent),
            clock=self.clock,
            asker=Asker(asking, policy) if remember else None,
        )
        access = AccessLog()
        self.site = WireSite(
            self.proxy,
            reactor=self.clock,
            on_done=lambda request: (self.done.append(request), access(request)),
        )

    def client(self, peer: str = "203.0.113.7") -> ScriptedClient:
        """Return a new client connection."""
        return ScriptedClient(self.site, self.clock, peer)

    def relayed(
        self, line: bytes = b"GET /mcp", *headers: bytes, body: bytes = b""
    ) -> tuple[ScriptedClient, Sent]:
        """Send one authorised request and return both ends of it."""
        client = self.client()
        client.request(line, bearer(), *headers, body=body)
        return client, self.agent.sent[-1]
