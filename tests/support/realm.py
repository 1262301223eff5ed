"""A realm whose answers a test writes itself, behind treq's client, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, field, frozen
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from mcp_oauth2_proxy.config.model import Auth, Secret
from mcp_oauth2_proxy.keycloak.discovery import WELL_KNOWN
from mcp_oauth2_proxy.keycloak.realm import Realm
from tests.support.keys import CLIENT_ID, ISSUER, NOW, Signer, jwks, rsa_key


@frozen
class Asked:
    """One request that reached the realm."""

    method: str
    path: str
    form: dict[str, str] = field(factory=dict)
    headers: dict[str, list[str]] = field(factory=dict)


class ScriptedRealm(Resource):
    """Answers by path. An answer is (status, body), or ``None`` for a request that stays open.

    ``down`` makes every connection fail.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.answers: dict[str, tuple[int, bytes] | None] = {}
        self.open: list[Request] = []
        self.gone = 0
        self.down = False

    def answer(self, path: str, body: object, status: int = 200) -> None:
        """Answer ``path`` with ``body``: bytes as they are, everything else as JSON."""
        self.answers[path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())

    def count(self, path: str) -> int:
        """Return how often ``path`` was asked for."""
        return sum(asked.path == path for asked in self.asked)

    def render(self, request: Request) -> bytes | int:
        """Answer one request."""
        path = request.path.decode()
        form = dict(parse_qsl(request.content.read().decode(), keep_blank_values=True))
        headers = {
            name.decode().lower(): [value.decode() for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append(Asked(request.method.decode(), path, form, headers))
        answer = self.answers.get(path, (404, b'{"error":"not found"}'))
        if answer is None:
            self.open.append(request)
            request.notifyFinish().addErrback(self._client_left)
            return NOT_DONE_YET
        status, body = answer
        request.setResponseCode(status)
        return body

    def _client_left(self, _: object) -> None:
        self.gone += 1


@implementer(IBodyProducer)
class AtOnce:
    """A request body that is written in one go, where treq's own would need a running reactor."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """See IBodyProducer."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """See IBodyProducer."""

    def resumeProducing(self) -> None:
        """See IBodyProducer."""

    def stopProducing(self) -> None:
        """See IBodyProducer."""


@implementer(IAgent)
@define
class Switch:
    """An agent in memory whose connections are refused while the realm is down."""

    realm: ScriptedRealm
    inner: RequestTraversalAgent = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inner = RequestTraversalAgent(self.realm)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See IAgent."""
        if self.realm.down:
            raise ConnectionRefusedError(b"nobody listens")
        answer: Deferred[IResponse] = self.inner.request(method, uri, headers, bodyProducer)
        return answer

    def flush(self) -> None:
        """Move what is still under way between the two ends."""
        self.inner.flush()


REALM_PATH = "/realms/demo"
DISCOVERY = REALM_PATH + WELL_KNOWN
CERTS = REALM_PATH + "/protocol/openid-connect/certs"
TOKEN = REALM_PATH + "/protocol/openid-connect/token"
AUTHORIZE = REALM_PATH + "/protocol/openid-connect/auth"
CLIENT_SECRET = "s3cr3t:%+ü"


def discovery_document(issuer: str = ISSUER, **changes: Any) -> dict[str, Any]:
    """Return what a realm publishes; a change to ``None`` leaves a member out."""
    base = f"{issuer}/protocol/openid-connect"
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{base}/auth",
        "token_endpoint": f"{base}/token",
        "jwks_uri": f"{base}/certs",
        "revocation_endpoint": f"{base}/revoke",
        "end_session_endpoint": f"{base}/logout",
        "scopes_supported": ["openid", "profile", "mcp:read"],
        **changes,
    }
    return {name: value for name, value in document.items() if value is not None}


class Steady(Random):
    """Randomness without surprise: every interval is drawn at its middle."""

    def uniform(self, a: float, b: float) -> float:
        """Return the middle."""
        return (a + b) / 2


@define
class Played:
    """A :class:`Realm` service and the scripted realm it talks to."""

    clock: Clock
    server: ScriptedRealm
    agent: Switch
    realm: Realm
    fatal: list[str]

    def publish(self, *keys: Signer) -> None:
        """Publish these keys as the realm's key set."""
        self.server.answer(CERTS, jwks(*keys))


def play(
    *,
    random: Random | None = None,
    prepare: Callable[[ScriptedRealm], None] | None = None,
    **settings: Any,
) -> Played:
    """Return a realm service at :data:`NOW`, not started; what it asks answers as Keycloak does."""
    clock = Clock()
    clock.advance(NOW)
    server = ScriptedRealm()
    server.answer(DISCOVERY, discovery_document())
    server.answer(CERTS, jwks(rsa_key()))
    if prepare is not None:
        prepare(server)
    agent = Switch(server)
    fatal: list[str] = []
    auth = Auth(
        **{
            "base_url": "https://mcp.example",
            "issuer_url": ISSUER,
            "client_id": CLIENT_ID,
            "client_secret": Secret(CLIENT_SECRET),
            **settings,
        }
    )
    realm = Realm(
        auth,
        http=HTTPClient(agent, data_to_body_producer=AtOnce),
        clock=clock,
        random=random or Steady(),
        on_fatal=fatal.append,
    )
    return Played(clock, server, agent, realm, fatal)
