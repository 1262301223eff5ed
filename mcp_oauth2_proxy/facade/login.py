"""The login at Keycloak: out with state, nonce and PKCE of our own, back once, by the same browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.facade.authorization import AuthorizationRequest
from mcp_oauth2_proxy.facade.cookies import Cookies
from mcp_oauth2_proxy.facade.errors import (
    OAuthError,
    Reason,
    RedirectedError,
    SealError,
    invalid_request,
    unavailable,
)
from mcp_oauth2_proxy.facade.grants import CodeGrant, Tokens, challenge_of
from mcp_oauth2_proxy.facade.metadata import issuer
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.redirects import answer_url
from mcp_oauth2_proxy.facade.scopes import upstream_scopes
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer
from mcp_oauth2_proxy.facade.vault import Vault, key_of
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakRefused, KeycloakUnavailable

#: How often one login is started again when Keycloak says that its page had grown old.
MAX_RESTARTS = 1
#: Characters of Keycloak's code; real ones have about 110.
MAX_UPSTREAM_CODE = 4096
#: Keycloak's word for "start again, single sign-on usually succeeds".
AUTHENTICATION_EXPIRED = "authentication_expired"
#: Keycloak's errors that mean the same to the client (RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6).
PASSED_ON = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_scope",
        "login_required",
        "temporarily_unavailable",
    }
)


@frozen
class Departure:
    """Where the browser goes next, and what it has to remember or forget for that."""

    url: str = field(repr=False)
    cookies: tuple[str, ...] = field(repr=False)
    #: The client whose login this is, by its digest.
    client: str
    #: Whether the login is over and ``url`` is the client's.
    done: bool


class Login:
    """Both ends of a login. ``random()`` returns 43 unguessable URL-safe characters."""

    def __init__(
        self,
        auth: Auth,
        *,
        realm: IRealm,
        vault: Vault,
        sealer: Sealer,
        cookies: Cookies,
        clock: IReactorTime,
        random: Callable[[], str],
    ) -> None:
        self._auth = auth
        self._realm = realm
        self._vault = vault
        self._sealer = sealer
        self._cookies = cookies
        self._clock = clock
        self._random = random
        self._issuer = issuer(auth)

    @property
    def callback_url(self) -> str:
        """The redirect URI that is registered at Keycloak."""
        return f"{self._issuer}/oauth/callback"

    async def begin(
        self, request: AuthorizationRequest, jar: Mapping[str, str], restarts: int = 0
    ) -> Departure:
        """Return the way to Keycloak for ``request``, after consent; ``jar`` are the browser's cookies."""
        state, nonce, verifier = self._random(), self._random(), self._random()
        flow = {
            "request": request.to_record(),
            "nonce": nonce,
            "verifier": verifier,
            "restarts": restarts,
        }
        ttl = self._auth.session_ttl
        await self._vault.put(key_of("state", state), Purpose.FLOW, flow, ttl)
        metadata = self._realm.metadata
        discovered = metadata.scopes_supported if metadata else ()
        parameters = {
            "response_type": "code",
            "redirect_uri": self.callback_url,
            "scope": " ".join(upstream_scopes(request.scopes, self._auth, discovered)),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            **request.hints,
        }
        if self._auth.forward_resource and request.resource:
            parameters["resource"] = request.resource
        mine = self._cookies.set(self._cookies.login(state), self._sealer.mac(Purpose.STATE, state), ttl)
        surplus = [self._cookies.set(name, "", 0) for name in self._cookies.surplus_logins(dict(jar))]
        url = self._realm.authorizationUrl(parameters)
        return Departure(url, (mine, *surplus), request.client, done=False)

    async def finish(self, answer: Parameters, jar: Mapping[str, str]) -> Departure:
        """Return the way on from Keycloak's ``answer``: to the client, or once more to Keycloak.

        Raises :exc:`OAuthError` while it is not known whose login this is, :exc:`RedirectedError`
        afterwards. A foreign browser or a wrong issuer burns nothing.
        """
        answer.refuse_repeated()
        state = answer.require("state")
        self._check_browser(state, jar)
        self._check_issuer(answer.get("iss"))
        flow = await self._vault.take(key_of("state", state), Purpose.FLOW, self._auth.session_ttl)
        if flow is None:
            raise invalid_request("this sign-in is already finished, or took too long", Reason.STATE_UNKNOWN)
        try:
            request = AuthorizationRequest.from_record(flow["request"])
        except SealError as error:
            raise invalid_request("this sign-in is no longer valid", Reason.STATE_UNKNOWN) from error
        forget = self._cookies.set(self._cookies.login(state), "", 0)
        try:
            if self._must_restart(answer, flow):
                again = await self.begin(request, jar, flow["restarts"] + 1)
                return Departure(again.url, (forget, *again.cookies), again.client, done=False)
            tokens = await self._tokens(answer, flow)
            code = await self._issue_code(CodeGrant(request, tokens))
        except OAuthError as error:
            raise RedirectedError(error, redirect_uri=request.redirect_uri, state=request.state) from error
        url = answer_url(request.redirect_uri, {"code": code, "state": request.state, "iss": self._issuer})
        return Departure(url, (forget,), request.client, done=True)

    def _check_browser(self, state: str, jar: Mapping[str, str]) -> None:
        mac = jar.get(self._cookies.login(state), "")
        if not self._sealer.verify_mac(Purpose.STATE, state, mac):
            raise invalid_request(
                "this sign-in was started in another browser",
                Reason.STATE_BROWSER,
                f"its cookie {'does not fit' if mac else 'is missing'}",
            )

    def _check_issuer(self, given: str | None) -> None:
        """RFC 9207 section 2.4: an answer of another authorization server ends here (mix-up)."""
        metadata = self._realm.metadata
        if metadata is None:
            why = self._realm.unready() or "no discovery yet"
            raise unavailable("signing in is not possible at the moment", Reason.REALM_UNREADY, why)
        if given is not None and given != metadata.issuer:
            raise OAuthError(
                "invalid_request",
                400,
                "the answer came from another identity provider",
                reason=Reason.ISSUER,
                detail=f"expected {metadata.issuer}, got {harmless(given, 200)}",
            )

    def _must_restart(self, answer: Parameters, flow: Mapping[str, Any]) -> bool:
        return (
            answer.get("error") == "temporarily_unavailable"
            and answer.get("error_description") == AUTHENTICATION_EXPIRED
            and flow["restarts"] < MAX_RESTARTS
        )

    async def _tokens(self, answer: Parameters, flow: Mapping[str, Any]) -> Tokens:
        """Return Keycloak's tokens for its answer; the ID token proves whose they are (OIDC Core 3.1.3.7)."""
        error = answer.get("error")
        if error is not None:
            raise _keycloak_error(error, answer.get("error_description") or "")
        code = answer.get("code")
        if code is None or len(code) > MAX_UPSTREAM_CODE:
            raise _failed(Reason.LOGIN_REFUSED, "the answer has neither a usable code nor an error")
        try:
            response = await self._realm.exchangeCode(
                code, code_verifier=flow["verifier"], redirect_uri=self.callback_url
            )
            if response.id_token is None:
                raise _failed(Reason.ID_TOKEN, "the realm returned no ID token")
            await self._realm.validateIdToken(response.id_token, nonce=flow["nonce"])
        except KeycloakUnavailable as down:
            raise unavailable(
                "the identity provider does not answer", Reason.KEYCLOAK_DOWN, str(down)
            ) from down
        except KeycloakRefused as refused:
            reason = Reason.ID_TOKEN if refused.error == "invalid_token" else Reason.KEYCLOAK_REFUSED
            raise _failed(reason, harmless(str(refused), 300)) from refused
        return Tokens.received(response, self._clock.seconds())

    async def _issue_code(self, grant: CodeGrant) -> str:
        code = self._random()
        await self._vault.put(key_of("code", code), Purpose.CODE, grant.to_record(), self._auth.code_ttl)
        return code


def _keycloak_error(error: str, description: str) -> OAuthError:
    """Return what Keycloak's error means to the client; what only the operator can mend is server_error."""
    detail = harmless(f"{error}: {description}", 300)
    if error == "access_denied":
        return OAuthError(error, 403, "signing in was cancelled", reason=Reason.LOGIN_REFUSED, detail=detail)
    if error in PASSED_ON:
        expired = description == AUTHENTICATION_EXPIRED
        reason = Reason.LOGIN_EXPIRED if expired else Reason.LOGIN_REFUSED
        return OAuthError(error, 400, "the identity provider refused", reason=reason, detail=detail)
    return _failed(Reason.KEYCLOAK_REFUSED, detail)


def _failed(reason: Reason, detail: str) -> OAuthError:
    return OAuthError("server_error", 502, "signing in failed", reason=reason, detail=detail)
