"""One Keycloak realm, through the proxy's confidential client: found in the background, kept fresh."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any, TypeVar
from urllib.parse import urlencode

from treq.client import HTTPClient
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Refusal
from mcp_oauth2_proxy.keycloak.discovery import IssuerMismatch, discovery_url, parse_discovery
from mcp_oauth2_proxy.keycloak.http import TIMEOUT, KeycloakHTTP
from mcp_oauth2_proxy.keycloak.idtoken import validate_id_token
from mcp_oauth2_proxy.keycloak.interfaces import (
    IRealm,
    KeycloakRefused,
    KeycloakUnavailable,
    LogoutToken,
    ProviderMetadata,
    TokenResponse,
)
from mcp_oauth2_proxy.keycloak.keyring import REFRESH_EVERY, Keyring
from mcp_oauth2_proxy.keycloak.logouttoken import validate_logout_token
from mcp_oauth2_proxy.keycloak.tokens import complaint, parse_introspection, parse_token_response

#: Seconds before the first retry of discovery; doubled each time, up to the second number.
FIRST_RETRY, LONGEST_RETRY = 0.5, 15.0
#: Intervals are drawn from this much around their length, so that replicas don't ask in step.
JITTER = 0.25
#: Seconds for a refresh. Who gives up on one cannot know whether the token is spent, and to use it again may
#: end the session; so a Keycloak that stands still for a while is waited for.
REFRESH_TIMEOUT = 30.0

_T = TypeVar("_T")


@implementer(IRealm)
class Realm(Service):
    """See :class:`IRealm`. ``on_fatal`` hears, once, that the realm is not the one configured."""

    _log = Logger()

    def __init__(
        self,
        auth: Auth,
        *,
        http: HTTPClient,
        clock: IReactorTime,
        random: Random,
        on_fatal: Callable[[str], None],
    ) -> None:
        self._auth = auth
        self._http = KeycloakHTTP(http, clock)
        self._clock = clock
        self._random = random
        self._on_fatal = on_fatal
        self._url = discovery_url(auth.issuer_url, auth.discovery_url)
        self._keyring = Keyring(self._fetch_keys, clock=clock, spread=self._spread)
        self._reason = f"discovery of {self._url} has not finished yet"
        self._finding: Deferred[None] | None = None
        self._again: IDelayedCall | None = None
        #: Fires, for one who waits, once the realm has been looked for, whether it was found or not.
        self.first_look: Deferred[None] = Deferred()
        self.metadata: ProviderMetadata | None = None

    @property
    def keys(self) -> KeySet | None:
        """See :class:`IRealm`."""
        return self._keyring.keys

    def startService(self) -> None:
        """Begin to look for the realm; :meth:`unready` says how it goes."""
        super().startService()
        self._find(FIRST_RETRY)

    def stopService(self) -> Deferred[None]:
        """Stop looking, refreshing and asking: nothing is left on the clock, and callers are told."""
        super().stopService()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._finding is not None:
            self._finding.cancel()
        self._keyring.stop()
        return self._http.close()

    def unready(self) -> str | None:
        """See :class:`IRealm`."""
        return None if self.metadata is not None and self._keyring.keys is not None else self._reason

    def _find(self, retry_after: float) -> None:
        self._finding = Deferred.fromCoroutine(self._discover(retry_after)).addCallback(self._tell_looked)

    def _tell_looked(self, _: None) -> None:
        if not self.first_look.called:
            self.first_look.callback(None)

    async def _discover(self, retry_after: float) -> None:
        try:
            self.metadata = await self._fetch_metadata()
            await self._keyring.load()
        except CancelledError:
            return
        except IssuerMismatch as error:
            self._reason = str(error)
            self._on_fatal(self._reason)
        except KeycloakUnavailable as error:
            self._reason = str(error)
            self._find_again(retry_after)
        except Exception:
            self._log.failure("looking for the realm failed")
            self._reason = f"discovery of {self._url} failed"
            self._find_again(retry_after)
        else:
            self._log.info("the realm is ready: {issuer}", issuer=self._auth.issuer_url)
            self._look_later()

    def _find_again(self, retry_after: float) -> None:
        self._keyring.stop()
        if not self.running:
            return
        pause = self._spread(retry_after)
        self._log.warn(
            "the realm is not ready, next try in {pause:.1f} s: {reason}", pause=pause, reason=self._reason
        )
        self._again = self._clock.callLater(pause, self._find, min(retry_after * 2, LONGEST_RETRY))

    def _look_later(self) -> None:
        self._again = self._clock.callLater(self._spread(REFRESH_EVERY), self._look)

    def _look(self) -> None:
        self._finding = Deferred.fromCoroutine(self._look_again())

    async def _look_again(self) -> None:
        """Learn what has changed of the realm: a scope that came or went, an endpoint that moved.

        Whatever goes wrong, what is known stays, another issuer too: at the start that is a configuration
        that cannot work, here it may be a Keycloak that is being set up anew.
        """
        try:
            found = await self._fetch_metadata()
        except CancelledError:
            return
        except KeycloakUnavailable as error:
            self._log.warn("the realm's metadata stays as it was: {reason}", reason=str(error))
        except IssuerMismatch as error:
            self._log.error("the realm's metadata stays as it was: {reason}", reason=str(error))
        except Exception:
            self._log.failure("looking at the realm again failed")
        else:
            if found != self.metadata:
                self._log.info("the realm's metadata has changed: {issuer}", issuer=self._auth.issuer_url)
            self.metadata = found
        self._look_later()

    async def _fetch_metadata(self) -> ProviderMetadata:
        document = await self._document(self._url)
        return parse_discovery(document, issuer=self._auth.issuer_url, url=self._url)

    async def _fetch_keys(self) -> KeySet:
        url = self._ready_metadata().jwks_uri
        document = await self._document(url)
        try:
            return KeySet.from_jwks(document)
        except ValueError as error:
            raise KeycloakUnavailable(f"GET {url}: {error}") from error

    async def _document(self, url: str) -> Mapping[str, Any]:
        answer = await self._http.get(url)
        if answer.status != 200:
            raise KeycloakUnavailable(f"GET {url}: status {answer.status}")
        return answer.body

    def _spread(self, seconds: float) -> float:
        return seconds * self._random.uniform(1 - JITTER, 1 + JITTER)

    def _ready_metadata(self) -> ProviderMetadata:
        if self.metadata is None:
            raise KeycloakUnavailable(self._reason)
        return self.metadata

    def keysFor(self, key_id: str | None) -> Deferred[KeySet]:
        """See :class:`IRealm`."""
        return _deferred(self._keyring.keys_for(key_id))

    def authorizationUrl(self, parameters: Mapping[str, str]) -> str:
        """See :class:`IRealm`.

        :raises KeycloakUnavailable: before discovery has succeeded.
        """
        endpoint = self._ready_metadata().authorization_endpoint
        query = urlencode({"client_id": self._auth.client_id, **parameters})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    def exchangeCode(self, code: str, *, code_verifier: str, redirect_uri: str) -> Deferred[TokenResponse]:
        """See :class:`IRealm`."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": code_verifier,
            "redirect_uri": redirect_uri,
        }
        return _deferred(self._tokens(form))

    def refresh(self, refresh_token: str, *, scope: str | None = None) -> Deferred[TokenResponse]:
        """See :class:`IRealm`."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if scope is not None:
            form["scope"] = scope
        return _deferred(self._tokens(form, timeout=REFRESH_TIMEOUT))

    def revoke(self, refresh_token: str) -> Deferred[None]:
        """See :class:`IRealm`."""
        return _deferred(self._revoked(refresh_token))

    async def _revoked(self, refresh_token: str) -> None:
        url = self._ready_metadata().revocation_endpoint
        if url is None:
            raise KeycloakUnavailable("the realm publishes no revocation_endpoint")
        form = {"token": refresh_token, "token_type_hint": "refresh_token"}
        answer = await self._http.post(url, {**form, **self._credentials()})
        # 200 also with ``invalid_token`` in the body, for a token that is gone already.
        if answer.status != 200:
            raise KeycloakUnavailable(complaint(answer, url))

    def introspect(self, access_token: str) -> Deferred[bool]:
        """See :class:`IRealm`."""
        return _deferred(self._is_active(access_token))

    async def _is_active(self, access_token: str) -> bool:
        url = self._ready_metadata().introspection_endpoint
        if url is None:
            raise KeycloakUnavailable("the realm publishes no introspection_endpoint")
        form = {"token": access_token, "token_type_hint": "access_token"}
        return parse_introspection(await self._http.post(url, {**form, **self._credentials()}), url=url)

    def _credentials(self) -> dict[str, str]:
        # In the body, not as Basic: RFC 6749 section 2.3.1 wants Basic's parts form-encoded first, and
        # servers differ in whether they decode them; a secret with a colon or a percent sign would break.
        return {"client_id": self._auth.client_id, "client_secret": self._auth.client_secret.current()}

    async def _tokens(self, form: Mapping[str, str], *, timeout: float = TIMEOUT) -> TokenResponse:
        url = self._ready_metadata().token_endpoint
        try:
            answer = await self._http.post(url, {**form, **self._credentials()}, timeout=timeout)
            return parse_token_response(answer, url=url)
        except KeycloakUnavailable as error:
            self._log.error("no tokens from Keycloak: {reason}", reason=str(error))
            raise

    def validateIdToken(self, id_token: str, *, nonce: str) -> Deferred[Mapping[str, Any]]:
        """See :class:`IRealm`."""
        return _deferred(self._valid_id_token(id_token, nonce))

    async def _valid_id_token(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        def judge(keys: KeySet) -> Mapping[str, Any] | Refusal:
            return validate_id_token(
                id_token,
                keys=keys,
                issuer=self._auth.issuer_url,
                client_id=self._auth.client_id,
                nonce=nonce,
                now=self._clock.seconds(),
            )

        return await self._judged(judge, "ID")

    def validateLogoutToken(self, logout_token: str) -> Deferred[LogoutToken]:
        """See :class:`IRealm`."""
        return _deferred(self._valid_logout_token(logout_token))

    async def _valid_logout_token(self, logout_token: str) -> LogoutToken:
        def judge(keys: KeySet) -> LogoutToken | Refusal:
            return validate_logout_token(
                logout_token,
                keys=keys,
                issuer=self._auth.issuer_url,
                client_id=self._auth.client_id,
                now=self._clock.seconds(),
            )

        return await self._judged(judge, "logout")

    async def _judged(self, judge: Callable[[KeySet], _T | Refusal], kind: str) -> _T:
        """Return the verdict of ``judge``, asked again once the keys may have changed."""
        verdict = judge(await self._keyring.keys_for(None))
        if isinstance(verdict, Refusal) and verdict.key_id is not None:
            verdict = judge(await self._keyring.keys_for(verdict.key_id))
        if isinstance(verdict, Refusal):
            raise KeycloakRefused("invalid_token", f"the {kind} token is refused: {verdict.description}")
        return verdict


def _deferred(coroutine: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    return Deferred.fromCoroutine(coroutine)
