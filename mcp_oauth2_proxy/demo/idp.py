"""An identity provider that behaves like a Keycloak realm: what the demo logs in at, and a test double.

It is a verified fake: one suite of tests holds for it and for a real Keycloak. It serves over a socket
(``twisted.web.server.Site(double)``) and in memory (``treq.testing.RequestTraversalAgent(double)``), keeps
everything in memory, and takes its clock and its randomness from the caller. It is not for production.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qsl

from twisted.web.resource import Resource
from twisted.web.server import Request

from mcp_oauth2_proxy.demo.discovery import discovery_document
from mcp_oauth2_proxy.demo.grants import Grants, TokenError
from mcp_oauth2_proxy.demo.keys import RealmKeys
from mcp_oauth2_proxy.demo.login import Login, Page, Redirect
from mcp_oauth2_proxy.demo.logout import Deliver, Ending
from mcp_oauth2_proxy.demo.realm import RealmDefinition, parse_pairs
from mcp_oauth2_proxy.demo.sessions import Memory, Randomness


class Clock(Protocol):
    """What tells the time: a reactor or ``twisted.internet.task.Clock``."""

    def seconds(self) -> float:
        """Return seconds since the epoch."""


def _to_nobody(_url: str, _token: str) -> None:
    """Deliver no logout token."""


class RealmDouble:
    """One realm: its rules, keys and memory behind plain methods."""

    def __init__(
        self,
        definition: RealmDefinition,
        *,
        clock: Clock,
        token_bytes: Callable[[int], bytes],
        hostname: str | None,
        secure_cookies: bool,
        deliver: Deliver,
    ) -> None:
        randomness = Randomness(token_bytes)
        self.definition = definition
        self.keys = RealmKeys(token_bytes(64))
        self.memory = Memory()
        self.grants = Grants(definition, self.keys, self.memory, randomness)
        self.ending = Ending(definition, self.keys, self.memory, randomness, deliver)
        self.login = Login(definition, self.memory, randomness, self.ending)
        self.secure_cookies = secure_cookies
        self._clock = clock
        self._hostname = hostname

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.seconds()

    def issuer(self, request: Request) -> str:
        """Return the realm's URL: by ``hostname``, else by the request's Host, as ``start-dev`` does."""
        base = self._hostname
        if base is None:
            host = request.getHeader("host") or "localhost"
            base = f"{'https' if request.isSecure() else 'http'}://{host}"
        return f"{base}/realms/{self.definition.name}"


class KeycloakDouble(Resource):
    """The root of an identity provider with one or more realms at ``/realms/<name>``.

    ``clock.seconds()`` tells the time, ``token_bytes`` makes every random value but the RSA keys.
    ``hostname`` is the public base URL; without it the issuer follows the Host header. Keycloak marks its
    cookies ``Secure`` even on http; ``secure_cookies=False`` is for browsers that mind. ``deliver`` sends
    logout tokens to clients.
    """

    def __init__(
        self,
        realms: Iterable[RealmDefinition],
        *,
        clock: Clock,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
        hostname: str | None = None,
        secure_cookies: bool = True,
        deliver: Deliver = _to_nobody,
    ) -> None:
        Resource.__init__(self)
        self.realms = {
            definition.name: RealmDouble(
                definition,
                clock=clock,
                token_bytes=token_bytes,
                hostname=hostname,
                secure_cookies=secure_cookies,
                deliver=deliver,
            )
            for definition in realms
        }
        branch = _Missing("HTTP 404 Not Found")
        self.putChild(b"realms", branch)
        for name, realm in self.realms.items():
            branch.putChild(name.encode(), _realm_tree(realm))
        branch.fallback = _Missing("Realm does not exist")

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        """Answer every unknown path with Keycloak's JSON 404."""
        return _Missing("HTTP 404 Not Found")


def _realm_tree(realm: RealmDouble) -> Resource:
    root = _Missing("HTTP 404 Not Found")
    well_known = _Missing("HTTP 404 Not Found")
    protocol = _Missing("HTTP 404 Not Found")
    connect = _Missing("HTTP 404 Not Found")
    actions = _Missing("HTTP 404 Not Found")
    root.putChild(b".well-known", well_known)
    well_known.putChild(b"openid-configuration", _Discovery(realm))
    root.putChild(b"protocol", protocol)
    protocol.putChild(b"openid-connect", connect)
    connect.putChild(b"certs", _Keys(realm))
    connect.putChild(b"auth", _Authorization(realm))
    token = _Token(realm)
    token.putChild(b"introspect", _Introspection(realm))
    connect.putChild(b"token", token)
    connect.putChild(b"revoke", _Revocation(realm))
    connect.putChild(b"logout", _EndSession(realm))
    root.putChild(b"login-actions", actions)
    actions.putChild(b"authenticate", _Authenticate(realm))
    return root


def _json(request: Request, status: int, document: Mapping[str, Any]) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    return json.dumps(document, separators=(",", ":")).encode()


def _fields(encoded: bytes) -> tuple[dict[str, str], bool]:
    """Parse a query or a form body; empty values count."""
    return parse_pairs(parse_qsl(encoded.decode("utf-8", "replace"), keep_blank_values=True))


def _query(request: Request) -> tuple[dict[str, str], bool]:
    return _fields(request.uri.partition(b"?")[2])


def _form(request: Request) -> tuple[dict[str, str], bool]:
    kind = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded" or request.content is None:
        return {}, False
    return _fields(request.content.read())


def _cookies(request: Request) -> dict[str, str]:
    try:
        parsed = SimpleCookie(request.getHeader("cookie") or "")
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}


class _Missing(Resource):
    """A path that is not there, in Keycloak's words; ``fallback`` answers for unknown children."""

    fallback: Resource | None = None

    def __init__(self, message: str) -> None:
        Resource.__init__(self)
        self._message = message

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        return self.fallback or self

    def render(self, request: Request) -> bytes:
        return _json(request, 404, {"error": self._message})


class _Endpoint(Resource):
    """An endpoint of a realm; a method it does not know is Keycloak's 405."""

    isLeaf = True

    def __init__(self, realm: RealmDouble) -> None:
        Resource.__init__(self)
        self._realm = realm

    def render(self, request: Request) -> Any:
        if getattr(self, f"render_{request.method.decode('ascii', 'replace')}", None) is None:
            return _json(request, 405, {"error": "HTTP 405 Method Not Allowed"})
        request.setHeader(b"cache-control", b"no-store, must-revalidate, max-age=0")
        request.setHeader(b"referrer-policy", b"no-referrer")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"x-frame-options", b"SAMEORIGIN")
        return Resource.render(self, request)

    def _answer(self, request: Request, decision: Page | Redirect) -> bytes:
        """Write a page or a redirect with its cookies."""
        path = f"/realms/{self._realm.definition.name}/"
        flags = "Secure;HttpOnly;SameSite=None" if self._realm.secure_cookies else "HttpOnly"
        for name, value in decision.cookies.items():
            line = f"{name}={value};Version=1;Path={path};{flags}"
            request.responseHeaders.addRawHeader(b"set-cookie", line.encode())
        if isinstance(decision, Redirect):
            request.setResponseCode(302)
            request.setHeader(b"location", decision.location.encode())
            return b""
        request.setResponseCode(decision.status)
        request.setHeader(b"content-type", b"text/html;charset=utf-8")
        return decision.body

    def _granted(self, request: Request, grant: Callable[..., dict[str, Any]], *form: Any) -> bytes:
        """Write what ``grant`` makes of a client's form, or why it does not."""
        try:
            document = grant(
                *form,
                request.getHeader("authorization"),
                issuer=self._realm.issuer(request),
                now=self._realm.now(),
            )
        except TokenError as error:
            return _json(request, error.status, error.body())
        return _json(request, 200, document)


class _Discovery(_Endpoint):
    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"cache-control", b"no-cache, must-revalidate, no-transform, no-store")
        return _json(request, 200, discovery_document(self._realm.definition, self._realm.issuer(request)))


class _Keys(_Endpoint):
    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"cache-control", b"no-cache")
        return _json(request, 200, self._realm.keys.jwks())


class _Authorization(_Endpoint):
    def render_GET(self, request: Request) -> bytes:
        parameters, duplicated = _query(request)
        decision = self._realm.login.authorize(
            parameters,
            duplicated,
            _cookies(request),
            issuer=self._realm.issuer(request),
            now=self._realm.now(),
        )
        return self._answer(request, decision)


class _Authenticate(_Endpoint):
    def render_POST(self, request: Request) -> bytes:
        decision = self._realm.login.submit(
            _query(request)[0],
            _form(request)[0],
            _cookies(request),
            issuer=self._realm.issuer(request),
            now=self._realm.now(),
        )
        return self._answer(request, decision)


class _Token(_Endpoint):
    isLeaf = False

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        return _Missing("HTTP 404 Not Found")

    def render_POST(self, request: Request) -> bytes:
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"pragma", b"no-cache")
        return self._granted(request, self._realm.grants.token, *_form(request))


class _Introspection(_Endpoint):
    def render_POST(self, request: Request) -> bytes:
        return self._granted(request, self._realm.grants.introspect, _form(request)[0])


class _Revocation(_Endpoint):
    def render_POST(self, request: Request) -> bytes:
        try:
            document = self._realm.grants.revoke(_form(request)[0], request.getHeader("authorization"))
        except TokenError as error:
            return _json(request, error.status, error.body())
        return b"" if document is None else _json(request, 200, document)


class _EndSession(_Endpoint):
    def render_GET(self, request: Request) -> bytes:
        parameters, _ = _query(request)
        hint = self._realm.keys.verify(parameters.get("id_token_hint", ""))
        decision = self._realm.login.log_out(
            parameters,
            _cookies(request),
            hint,
            issuer=self._realm.issuer(request),
            now=self._realm.now(),
        )
        return self._answer(request, decision)
