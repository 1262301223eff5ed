"""A facade in memory with a realm of its own: browsers and programs that talk to it, and a clock to turn."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.web.client import readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from twisted.web.resource import Resource
from zope.interface import implementer

from mcp_oauth2_proxy.app import facade_tree, well_known_tree
from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError
from mcp_oauth2_proxy.config.model import Auth, Config, GateSettings, Limits, Secret, Server, Upstream
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.grants import challenge_of
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.gate.endings import Ending, Endings
from mcp_oauth2_proxy.keycloak.interfaces import (
    IRealm,
    KeycloakRefused,
    KeycloakUnavailable,
    LogoutToken,
    ProviderMetadata,
    TokenResponse,
)
from mcp_oauth2_proxy.stores.interfaces import IStore, Listener, Missed, StoreUnavailable, Unsubscribe
from mcp_oauth2_proxy.stores.memory import MemoryStore
from tests.support.memory import MemoryAgent

BASE = "https://mcp.example.com"
ISSUER = "https://auth.example.com/realms/test"
START = 1_800_000_000
VERIFIER = "verifier-verifier-verifier-verifier-verifier"
CALLBACK = "https://client.example/cb"


@implementer(IRealm)
class RealmStandIn:
    """A realm that follows the rules it is asked about: PKCE, redirect URI, nonce, refresh rotation."""

    keys = None

    def __init__(self, now: Callable[[], float] = lambda: START) -> None:
        self.now = now
        self.names_sessions = True
        #: The session that logins join; by default each has its own.
        self.single_sign_on: int | None = None
        self.metadata: ProviderMetadata | None = ProviderMetadata(
            issuer=ISSUER,
            authorization_endpoint=f"{ISSUER}/auth",
            token_endpoint=f"{ISSUER}/token",
            jwks_uri=f"{ISSUER}/certs",
            scopes_supported=("openid", "profile", "email", "offline_access", "mcp:read"),
        )
        self.why_unready: str | None = None
        #: What the next calls fail with, or wait for.
        self.failure: Exception | None = None
        self.held: Deferred[None] | None = None
        self.rotates = True
        self.returns_refresh_token = True
        self.refresh_expires_in = 1800
        self.wrong_nonce = False
        #: What it says of logout tokens; of all others, that they are bad.
        self.logouts: dict[str, LogoutToken] = {}
        self.exchanges = 0
        self.refreshes: list[str] = []
        self.revoked: list[str] = []
        self._logins: dict[str, dict[str, str]] = {}
        #: Good refresh tokens, each with the session it is of, and all that ever were.
        self._valid: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._serial = 0

    def unready(self) -> str | None:
        return self.why_unready

    def keysFor(self, key_id: str | None) -> Deferred[Any]:
        raise NotImplementedError("the facade needs no keys")

    def authorizationUrl(self, parameters: Mapping[str, str]) -> str:
        return f"{ISSUER}/auth?" + urlencode({"client_id": "mcp-proxy", **parameters})

    def answer_to(self, url: str, **changes: str) -> str:
        """Return where Keycloak sends a browser that comes with ``url`` and logs in; ``changes`` replace."""
        asked = dict(parse_qsl(urlsplit(url).query))
        if "error" in changes:
            answer = {"state": asked["state"], "iss": ISSUER, **changes}
        else:
            self._serial += 1
            code = f"kc-code-{self._serial}"
            self._logins[code] = asked
            answer = {"code": code, "state": asked["state"], "iss": ISSUER, **changes}
        return f"{asked['redirect_uri']}?" + urlencode({k: v for k, v in answer.items() if v})

    def exchangeCode(self, code: str, *, code_verifier: str, redirect_uri: str) -> Deferred[TokenResponse]:
        self.exchanges += 1
        asked = self._logins.pop(code, None)
        if self.failure is not None:
            return fail(self.failure)
        if asked is None or challenge_of(code_verifier) != asked["code_challenge"]:
            return fail(KeycloakRefused("invalid_grant", "Code not valid"))
        if redirect_uri != asked["redirect_uri"]:
            return fail(KeycloakRefused("invalid_grant", "Incorrect redirect_uri"))
        nonce = "other" if self.wrong_nonce else asked["nonce"]
        return succeed(self._tokens(f"kc-id-{nonce}", asked["scope"], self.single_sign_on))

    def refresh(self, refresh_token: str, *, scope: str | None = None) -> Deferred[TokenResponse]:
        self.refreshes.append(refresh_token)
        if self.held is not None:
            held: Deferred[TokenResponse] = self.held.addCallback(lambda _: self._refreshed(refresh_token))  # type: ignore[assignment]
            return held
        try:
            return succeed(self._refreshed(refresh_token))
        except (KeycloakRefused, Exception) as error:
            return fail(error)

    def revoke(self, refresh_token: str) -> Deferred[None]:
        if self.failure is not None:
            return fail(KeycloakUnavailable(str(self.failure)))
        self.revoked.append(refresh_token)
        self._end_session_of(refresh_token)
        return succeed(None)

    def _end_session_of(self, refresh_token: str) -> None:
        # As Keycloak does it: the session's share of the client ends, and every token of it.
        ended = self._known.get(refresh_token)
        self._valid = {token: session for token, session in self._valid.items() if session != ended}

    def _refreshed(self, refresh_token: str) -> TokenResponse:
        if self.failure is not None:
            raise self.failure
        if refresh_token not in self._valid:
            # As Keycloak does it: a second use ends the session.
            self._end_session_of(refresh_token)
            raise KeycloakRefused("invalid_grant", "Maximum allowed refresh token reuse exceeded")
        session = self._valid[refresh_token]
        if self.rotates:
            del self._valid[refresh_token]
        return self._tokens(None, "openid profile email", session)

    def _tokens(self, id_token: str | None, scope: str, session: int | None = None) -> TokenResponse:
        self._serial += 1
        refresh_token = f"kc-refresh-{self._serial}"
        self._valid[refresh_token] = self._known[refresh_token] = session or self._serial
        return TokenResponse(
            access_token=f"kc-access-{self._serial}",
            expires_in=300,
            refresh_token=refresh_token if self.returns_refresh_token else None,
            refresh_expires_in=self.refresh_expires_in,
            id_token=id_token,
            scope=scope,
            session=f"session-{session or self._serial}" if self.names_sessions else None,
            subject="anna",
            issued_at=self.now(),
        )

    def validateIdToken(self, id_token: str, *, nonce: str) -> Deferred[Mapping[str, Any]]:
        if id_token != f"kc-id-{nonce}":
            return fail(KeycloakRefused("invalid_token", "the nonce is another"))
        return succeed({"sub": "anna"})

    def introspect(self, access_token: str) -> Deferred[bool]:
        raise NotImplementedError("the facade asks about no access token")

    def logout_token(self, name: str, ending: Ending) -> str:
        """Return a logout token that is good for two minutes."""
        token = f"kc-logout-{name}"
        self.logouts[token] = LogoutToken(name, self.now() + 120, ending)
        return token

    def validateLogoutToken(self, logout_token: str) -> Deferred[LogoutToken]:
        if self.failure is not None:
            return fail(self.failure)
        if logout_token not in self.logouts:
            return fail(KeycloakRefused("invalid_token", "the logout token's iss is not the realm"))
        return succeed(self.logouts[logout_token])


@implementer(IStore)
class FragileStore:
    """A memory store that can be switched off, answer nothing, or refuse what it is asked about some keys.

    ``inner`` is what several of them share: each is then the way of one replica to one and the same store.
    """

    def __init__(self, clock: Clock, inner: MemoryStore | None = None) -> None:
        self.inner = MemoryStore(clock) if inner is None else inner
        self.down = False
        self.silent = False
        self.refuses: str | None = None
        self.keys: list[str] = []

    def _call(self, name: str, key: str, *rest: Any) -> Deferred[Any]:
        self.keys.append(key)
        if self.silent:
            return Deferred()
        if self.down or (
            self.refuses is not None and key.startswith(self.refuses) and name in ("put", "add")
        ):
            return fail(StoreUnavailable("switched off"))
        result: Deferred[Any] = getattr(self.inner, name)(key, *rest)
        return result

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        return self._call("put", key, value, ttl)

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        return self._call("add", key, value, ttl)

    def get(self, key: str) -> Deferred[bytes | None]:
        return self._call("get", key)

    def take(self, key: str) -> Deferred[bytes | None]:
        return self._call("take", key)

    def ping(self) -> Deferred[None]:
        return self._call("get", "ping")

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        return fail(StoreUnavailable("switched off")) if self.down else self.inner.publish(channel, message)

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        return self.inner.subscribe(channel, listener, missed)

    def close(self) -> Deferred[None]:
        return self.inner.close()


@frozen
class Response:
    """An answer, read to its end."""

    code: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        values = self.headers.getRawHeaders(name) or [""]
        return "".join(values[:1])

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def location(self) -> str:
        """Where the browser goes next: by redirect, or by the page that leads on."""
        refresh = re.search(r'http-equiv="refresh" content="0;url=([^"]*)"', self.text)
        return unescape(refresh[1]) if refresh else self.header("Location")

    @property
    def answer(self) -> dict[str, str]:
        """The parameters in the query of :attr:`location`, each once."""
        pairs = parse_qsl(urlsplit(self.location).query, keep_blank_values=True)
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    @property
    def sealed_request(self) -> str:
        """What the consent page's form carries."""
        found = re.search(r'name="request" value="([^"]+)"', self.text)
        assert found is not None, self.text
        return unescape(found[1])


@implementer(IBodyProducer)
class Body:
    """A request body that is written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Everything is written already."""

    def resumeProducing(self) -> None:
        """Everything is written already."""

    def stopProducing(self) -> None:
        """Everything is written already."""


@frozen
class Registered:
    """A client as it remembers itself."""

    client_id: str
    secret: str | None
    redirect_uri: str

    def basic(self) -> dict[str, str]:
        """Return the header of client_secret_basic."""
        return {"Authorization": "Basic " + b64encode(f"{self.client_id}:{self.secret}".encode()).decode()}


class Browser:
    """A person's browser: it keeps cookies and asks for pages."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.cookies: dict[str, str] = {}

    def request(self, method: str, url: str, *, headers: Mapping[str, str] = {}, **options: Any) -> Response:
        sent = {"Accept": "text/html,*/*;q=0.8", **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = self._world.request(method, url, headers=sent, **options)
        for line in response.headers.getRawHeaders("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0" not in line:
                self.cookies[name] = value
        return response

    def get(self, url: str, **options: Any) -> Response:
        return self.request("GET", url, **options)

    def decide(self, page: Response, decision: str = "allow") -> Response:
        """Press a button of the consent ``page``."""
        form = {"request": page.sealed_request, "decision": decision}
        return self.request("POST", "/oauth/consent", form=form)


class DocumentsStandIn:
    """The hosts of metadata documents: what is fetched from them, or how that fails."""

    def __init__(self) -> None:
        self.answers: dict[str, Fetched | Exception] = {}
        self.asked: list[str] = []

    def publish(self, url: str, lifetime: float = 3600.0, **members: Any) -> dict[str, Any]:
        """Serve a document at ``url``: a public client's, unless ``members`` say otherwise."""
        document = {"client_id": url, "client_name": "Example", "redirect_uris": [CALLBACK], **members}
        self.answers[url] = Fetched(document, lifetime)
        return document

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        answer = self.answers.get(url, FetchError("status 404", gone=True))
        if isinstance(answer, Exception):
            raise answer
        return answer


@frozen
class World:
    """One running proxy's facade, with everything around it."""

    clock: Clock = field(factory=Clock)
    realm: RealmStandIn = field(
        default=Factory(lambda world: RealmStandIn(world.clock.seconds), takes_self=True)
    )
    documents: DocumentsStandIn = field(factory=DocumentsStandIn)
    store: FragileStore = field(init=False)
    config: Config = field(init=False)
    changes: dict[str, Any] = field(factory=dict)
    limits: Limits = field(factory=Limits)
    server: Server = field(factory=Server)
    gate: GateSettings = field(factory=GateSettings)
    shared_store: FragileStore | None = None
    agent: MemoryAgent = field(init=False)
    facade: Facade = field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.clock.seconds() == 0:
            self.clock.advance(START)
        auth = evolve(
            Auth(base_url=BASE, issuer_url=ISSUER, client_id="mcp-proxy", client_secret=Secret("kc-secret")),
            **self.changes,
        )
        config = Config(
            upstream=Upstream(url="http://upstream"),
            auth=auth,
            limits=self.limits,
            server=self.server,
            gate=self.gate,
        )
        store = self.shared_store or FragileStore(self.clock)
        facade = Facade(
            config,
            realm=self.realm,
            store=store,
            sealer=Sealer.from_config(auth, self.clock.seconds),
            clock=self.clock,
            fetch=self.documents.fetch,
            endings=Endings(remember=config.gate.remember_logouts),
        )
        root = Resource()
        root.putChild(b"oauth", facade_tree(facade))
        root.putChild(b".well-known", well_known_tree(facade))
        object.__setattr__(self, "facade", facade)
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "config", config)
        object.__setattr__(self, "agent", MemoryAgent(root, self.clock))

    def start(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Deferred[Response]:
        """Send a request; the answer may come later."""
        lines = Headers({name: [value] for name, value in headers.items()})
        if form is not None:
            body = urlencode(form).encode()
            lines.setRawHeaders("Content-Type", ["application/x-www-form-urlencoded"])
        absolute = url if "://" in url else BASE + url
        producer = None if body is None else Body(body)

        def read(response: IResponse) -> Deferred[Response]:
            return readBody(response).addCallback(
                lambda content: Response(response.code, response.headers, content)
            )

        asked: Deferred[Response] = self.agent.request(
            method.encode(), absolute.encode(), lines, producer
        ).addCallback(read)
        self.settle()
        return asked

    def settle(self) -> None:
        """Let what is on its way arrive."""
        self.agent.flush()

    def request(self, method: str, url: str, **options: Any) -> Response:
        """Send a request and return its answer, which must have come."""
        answers: list[Any] = []
        self.start(method, url, **options).addBoth(answers.append)
        self.settle()
        assert answers, "no answer yet"
        answer = answers[0]
        if not isinstance(answer, Response):
            answer.raiseException()
        result: Response = answer
        return result

    def register(self, redirect_uri: str = CALLBACK, **document: Any) -> Registered:
        """Register a client, a public one unless ``document`` says otherwise."""
        document = {"token_endpoint_auth_method": "none", "redirect_uris": [redirect_uri], **document}
        answer = self.post_json("/oauth/register", document)
        assert answer.code == 201, answer.text
        return Registered(answer.json["client_id"], answer.json.get("client_secret"), redirect_uri)

    def post_json(self, path: str, document: object) -> Response:
        """POST a JSON document."""
        return self.request(
            "POST", path, headers={"Content-Type": "application/json"}, body=json.dumps(document).encode()
        )

    def authorize_url(self, client: Registered, **changes: str | None) -> str:
        """Return a good authorization request's URL, with ``changes``; ``None`` leaves a parameter out."""
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "the-client-state",
            "scope": "openid mcp:read",
            **changes,
        }
        return "/oauth/authorize?" + urlencode({k: v for k, v in parameters.items() if v is not None})

    def code_for(self, client: Registered, browser: Browser | None = None, **changes: str | None) -> str:
        """Take a person through consent and login; return the code that the client gets."""
        browser = browser or Browser(self)
        page = browser.get(self.authorize_url(client, **changes))
        leaving = browser.decide(page) if "decision" in page.text else page
        back = browser.get(self.realm.answer_to(leaving.location))
        return back.answer["code"]

    def redeem(
        self, client: Registered, code: str, *, headers: Mapping[str, str] = {}, **form: str
    ) -> Response:
        """Redeem a code as a client does that puts everything into the body."""
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "code_verifier": VERIFIER,
            **({"client_secret": client.secret} if client.secret else {}),
            **form,
        }
        return self.request("POST", "/oauth/token", headers=headers, form=body)

    def refresh_form(self, client: Registered, token: str) -> dict[str, str]:
        """Return the form of a refresh."""
        return {"grant_type": "refresh_token", "refresh_token": token, "client_id": client.client_id}

    def refresh(self, client: Registered, token: str, **form: str) -> Response:
        """Refresh as a public client."""
        return self.request("POST", "/oauth/token", form={**self.refresh_form(client, token), **form})
