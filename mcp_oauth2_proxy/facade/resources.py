"""The facade's endpoints: each loads, decides by the rules of its module, and answers."""

from __future__ import annotations

import hmac
from typing import ClassVar
from urllib.parse import urlsplit

from twisted.logger import Logger

from mcp_oauth2_proxy.config.model import Consent, Registration
from mcp_oauth2_proxy.facade import logout
from mcp_oauth2_proxy.facade.answers import NO_STORE, Answer, json_answer
from mcp_oauth2_proxy.facade.authorization import AuthorizationRequest, read_authorization
from mcp_oauth2_proxy.facade.clients import Client
from mcp_oauth2_proxy.facade.cookies import parse_cookies, remember_consent, remembered_consents
from mcp_oauth2_proxy.facade.errors import (
    OAuthError,
    Reason,
    RedirectedError,
    RegistrationTokenError,
    SealError,
    invalid_request,
)
from mcp_oauth2_proxy.facade.metadata import (
    MAX_AGE,
    authorization_server,
    protected_resource,
    suffix_path,
)
from mcp_oauth2_proxy.facade.pages import ConsentView
from mcp_oauth2_proxy.facade.parameters import parse_form, parse_json_object
from mcp_oauth2_proxy.facade.redirects import answer_url, parse_redirect_uri
from mcp_oauth2_proxy.facade.registration import read_registration, registration_response
from mcp_oauth2_proxy.facade.resource import Exchange, FacadeResource, OAuthNotFound
from mcp_oauth2_proxy.facade.revocation import revoke
from mcp_oauth2_proxy.facade.sealing import Purpose, digest
from mcp_oauth2_proxy.facade.token_endpoint import issue_tokens
from mcp_oauth2_proxy.ops.limits import LimitKind

__all__ = [
    "AuthorizationServerMetadata",
    "AuthorizeResource",
    "CallbackResource",
    "ConsentResource",
    "LogoutResource",
    "OAuthNotFound",
    "ProtectedResourceMetadata",
    "RegisterResource",
    "RevokeResource",
    "TokenResource",
]

_METADATA_HEADERS = (("Cache-Control", f"public, max-age={MAX_AGE}"),)


class _Metadata(FacadeResource):
    """A public document at a well-known URL and its path-suffixed forms."""

    isLeaf = True

    def suffix(self, exchange: Exchange) -> str:
        """Return the path, below the base URL, that the URL's suffix means."""
        return suffix_path(exchange.request.postpath or [], self.facade.base_url)


class ProtectedResourceMetadata(_Metadata):
    """``/.well-known/oauth-protected-resource[/path]`` (RFC 9728)."""

    async def answer(self, exchange: Exchange) -> Answer:
        """Return the document of the resource at the suffix: every path is one."""
        document = protected_resource(self.facade.auth, self.suffix(exchange))
        return json_answer(200, document, _METADATA_HEADERS)


class AuthorizationServerMetadata(_Metadata):
    """``/.well-known/oauth-authorization-server`` and ``openid-configuration`` (RFC 8414)."""

    async def answer(self, exchange: Exchange) -> Answer:
        """Return the document, whatever the suffix: there is one issuer.

        Clients from before RFC 9728 put the MCP server's path there, and some look nowhere else.
        """
        return json_answer(200, authorization_server(self.facade.auth), _METADATA_HEADERS)


class RegisterResource(FacadeResource):
    """``/oauth/register`` (RFC 7591)."""

    limit = LimitKind.REGISTER
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    _log = Logger()

    async def answer(self, exchange: Exchange) -> Answer:
        """Register the client that the body describes."""
        self._check_policy(exchange)
        document = parse_json_object(await exchange.body(), exchange.header("Content-Type"))
        facade = self.facade
        record = read_registration(document, supported=facade.supported, permitted=facade.permitted)
        ttl = self.facade.auth.client_ttl
        response = registration_response(record, sealer=self.facade.sealer, ttl=ttl)
        client = digest("client", response["client_id"])[:22]
        exchange.note(client=client)
        self._log.info(
            "client {client} registered: {method}, for {targets}",
            client=client,
            method=record["m"],
            targets=", ".join(parse_redirect_uri(uri).target for uri in record["r"]),
        )
        return json_answer(201, response)

    def _check_policy(self, exchange: Exchange) -> None:
        """Refuse whom ``auth.registration`` does not let register (RFC 7591 section 3)."""
        auth = self.facade.auth
        if auth.registration is Registration.OFF:
            raise OAuthError(
                "access_denied",
                403,
                "clients cannot register themselves here; ask who runs this server for a client_id",
                reason=Reason.REGISTRATION_OFF,
            )
        if auth.registration is Registration.OPEN or auth.registration_token is None:
            return
        given = b" ".join(exchange.headers("Authorization"))
        expected = b"Bearer " + auth.registration_token.reveal().encode("utf-8")
        if not hmac.compare_digest(given, expected):
            what = "is wrong" if given else "is missing"
            raise RegistrationTokenError(f"the initial access token {what}")


class AuthorizeResource(FacadeResource):
    """``/oauth/authorize`` (RFC 6749 section 4.1.1): consent, then the way to Keycloak."""

    limit = LimitKind.AUTHORIZE
    is_page = True

    async def answer(self, exchange: Exchange) -> Answer:
        """Judge the request, and ask the person unless this browser has allowed the same before."""
        facade = self.facade
        parameters = exchange.query()
        parameters.refuse_repeated("client_id")
        client = await facade.directory.find(parameters.require("client_id"), status=400)
        exchange.note(client=client.digest)
        request = read_authorization(
            parameters,
            client,
            base_url=facade.base_url,
            supported=facade.supported,
            permitted=facade.permitted,
        )
        try:
            facade.require_ready()
            jar = parse_cookies(exchange.headers("Cookie"))
            if self._consented(request, jar):
                departure = await facade.login.begin(request, jar)
                return self.leave(departure.url, done=False).with_cookies(departure.cookies)
        except OAuthError as error:
            raise RedirectedError(
                error,
                redirect_uri=request.redirect_uri,
                state=request.state,
                unasked=not client.by_operator,
            ) from error
        return self._ask(request, client, jar)

    def _consented(self, request: AuthorizationRequest, jar: dict[str, str]) -> bool:
        consent = self.facade.auth.consent
        if consent is not Consent.REMEMBER:
            return consent is Consent.NEVER
        known = remembered_consents(jar.get(self.facade.cookies.remembered), self.facade.sealer)
        return _consent_key(request) in known

    def _ask(self, request: AuthorizationRequest, client: Client, jar: dict[str, str]) -> Answer:
        facade = self.facade
        # One identifier for the browser, kept while it lives: two open pages both work.
        browser = facade.cookies.browser_id(jar) or facade.random()
        form = {"request": request.to_record(), "browser": digest("browser", browser)}
        view = ConsentView(
            client_name=client.name,
            publisher=client.publisher,
            redirect_uri=request.redirect_uri,
            scopes=request.scopes,
            resource=request.resource or facade.base_url,
            provider=urlsplit(facade.auth.issuer_url).netloc,
            action="consent",
            sealed_request=facade.sealer.seal(Purpose.CONSENT, form),
            remembers=facade.auth.consent is Consent.REMEMBER,
        )
        cookie = facade.cookies.set(facade.cookies.browser, browser)
        return facade.pages.consent(view).with_cookies([cookie])


class ConsentResource(FacadeResource):
    """``/oauth/consent``: the consent page's answer. It leaves by a page, never by a redirect."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    limit = LimitKind.AUTHORIZE
    is_page = True

    async def answer(self, exchange: Exchange) -> Answer:
        """Check that this very browser was asked, then go on to Keycloak, or back with ``access_denied``."""
        facade = self.facade
        if exchange.header("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise invalid_request("the answer came from another site", Reason.CONSENT_FORGED)
        form = parse_form(await exchange.body(), exchange.header("Content-Type"))
        form.refuse_repeated()
        jar = parse_cookies(exchange.headers("Cookie"))
        request = self._asked(form.require("request"), facade.cookies.browser_id(jar))
        exchange.note(client=request.client)
        decision = form.require("decision")
        if decision == "deny":
            exchange.note(reason=Reason.CONSENT_DENIED.value)
            url = answer_url(
                request.redirect_uri,
                {
                    "error": "access_denied",
                    "error_description": "the person declined",
                    "state": request.state,
                    "iss": facade.base_url,
                },
            )
            return facade.pages.leave(url, done=True)
        if decision != "allow":
            raise invalid_request("decision must be allow or deny", Reason.UNSUPPORTED)
        # The registration may have run out while the page was open.
        await facade.directory.find(request.client_id, status=400)
        facade.require_ready()
        departure = await facade.login.begin(request, jar)
        cookies = [*departure.cookies]
        if facade.auth.consent is Consent.REMEMBER:
            known = jar.get(facade.cookies.remembered)
            value = remember_consent(known, _consent_key(request), facade.sealer)
            cookies.append(facade.cookies.remember(value))
        return facade.pages.leave(departure.url, done=False).with_cookies(cookies)

    def _asked(self, sealed: str, browser: str | None) -> AuthorizationRequest:
        try:
            form = self.facade.sealer.open(Purpose.CONSENT, sealed, self.facade.auth.session_ttl)
            request = AuthorizationRequest.from_record(form["request"])
        except SealError as error:
            if error.expired:
                raise invalid_request("this page was open for too long", Reason.CONSENT_EXPIRED) from None
            raise invalid_request("this page was not made here", Reason.CONSENT_FORGED) from None
        if browser is None or digest("browser", browser) != form["browser"]:
            cookie = self.facade.cookies.browser
            raise invalid_request(
                "this browser is not the one that was asked",
                Reason.CONSENT_BROWSER,
                f"the cookie {cookie} {'is missing' if browser is None else 'is of another browser'}",
            )
        return request


class CallbackResource(FacadeResource):
    """``/oauth/callback``: Keycloak's answer, by the person's browser."""

    limit = LimitKind.AUTHORIZE
    is_page = True

    async def answer(self, exchange: Exchange) -> Answer:
        """Finish the login and lead back to the client with a code."""
        jar = parse_cookies(exchange.headers("Cookie"))
        departure = await self.facade.login.finish(exchange.query(), jar)
        exchange.note(client=departure.client)
        return self.leave(departure.url, done=departure.done).with_cookies(departure.cookies)


class TokenResource(FacadeResource):
    """``/oauth/token`` (RFC 6749 section 3.2)."""

    limit = LimitKind.TOKEN
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    _log = Logger()

    async def answer(self, exchange: Exchange) -> Answer:
        """Answer a token request."""
        form = parse_form(await exchange.body(), exchange.header("Content-Type"))
        issued = await issue_tokens(self.facade, form, exchange.headers("Authorization"))
        exchange.note(client=issued.client)
        self._log.info(
            "tokens issued to client {client} for {grant} ref={reference}",
            client=issued.client,
            grant=issued.grant,
            reference=exchange.reference,
        )
        return json_answer(200, issued.response)


class RevokeResource(FacadeResource):
    """``/oauth/revoke`` (RFC 7009)."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    limit = LimitKind.TOKEN
    _log = Logger()

    async def answer(self, exchange: Exchange) -> Answer:
        """Answer a revocation request: 200 says that the token is worth nothing any more."""
        form = parse_form(await exchange.body(), exchange.header("Content-Type"))
        client = await revoke(self.facade, form, exchange.headers("Authorization"))
        exchange.note(client=client)
        self._log.info("client {client} revoked ref={reference}", client=client, reference=exchange.reference)
        return Answer(200, NO_STORE, b"")


class LogoutResource(FacadeResource):
    """``/oauth/backchannel-logout`` (OpenID Connect Back-Channel Logout 1.0 section 2.5), for Keycloak.

    It is not limited in number: Keycloak sends each logout once, and may come from the address that
    everybody else seems to come from. A token that no key of the realm signed costs what it costs at the
    gate, and touches nothing.
    """

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    _log = Logger()

    async def answer(self, exchange: Exchange) -> Answer:
        """Answer a logout request: 200 says that the session has ended on every worker and replica."""
        form = parse_form(await exchange.body(logout.MAX_BODY), exchange.header("Content-Type"))
        ending = await logout.log_out(self.facade, form)
        self._log.info(
            "logged out by Keycloak: session {session} of {subject} ref={reference}",
            session=ending.session,
            subject=ending.subject,
            reference=exchange.reference,
        )
        return Answer(200, NO_STORE, b"")


def _consent_key(request: AuthorizationRequest) -> str:
    return request.consent_key(parse_redirect_uri(request.redirect_uri).target)
