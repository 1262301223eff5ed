"""Refreshing: one Keycloak call for one refresh token, whatever the concurrency (RFC 6749 section 6).

Keycloak with rotation ends the whole session at a token's second use, and MCP clients do use one twice:
in parallel, and again when an answer was lost. So callers share the call that is under way, and for
:data:`GRACE` seconds its answer; after that a used token is ``invalid_grant``.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, unavailable
from mcp_oauth2_proxy.facade.grants import RefreshGrant, Tokens, invalid_grant, token_response
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer
from mcp_oauth2_proxy.facade.vault import Vault, key_of
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakRefused, KeycloakUnavailable

#: Seconds for which a retry hears the same answer.
GRACE = 30.0
#: Seconds after which a claim whose process died is free again; above any token request's timeout.
CLAIM_TTL = 60.0
#: Bounds, in seconds, of how long a used refresh token is known as used. Afterwards Keycloak's own rule
#: for it holds: with rotation it refuses, without rotation the realm allows reuse anyway.
USED_TTL = (300.0, 86400.0)
#: Seconds between two looks at another process's claim, and how many looks there are (12 s in all:
#: clients give a refresh 30 s).
POLL = 0.1
MAX_POLLS = 120

_CLAIMED = b"claimed"
_USED = b"used"


class RefreshBroker:
    """Turns refresh tokens into answers, each once."""

    _log = Logger()

    def __init__(
        self, auth: Auth, *, realm: IRealm, vault: Vault, sealer: Sealer, clock: IReactorTime
    ) -> None:
        self._auth = auth
        self._realm = realm
        self._vault = vault
        self._sealer = sealer
        self._clock = clock
        self._waiting: dict[str, list[Deferred[dict[str, Any]]]] = {}

    async def refresh(self, token: str, grant: RefreshGrant) -> dict[str, Any]:
        """Return the token response for ``token``, which ``grant`` was opened from and checked against.

        Raises :exc:`OAuthError`. A caller that goes away does not stop the call: the answer is wanted
        by its retry.
        """
        answer = await self._shared(token, grant)
        response: dict[str, Any] = dict(answer["response"])
        if answer["expires_at"] is not None:
            response["expires_in"] = max(1, int(answer["expires_at"] - self._clock.seconds()))
        return response

    async def revoke(self, grant: RefreshGrant) -> None:
        """End the family of ``grant``, at Keycloak and here; raises :exc:`OAuthError`.

        Keycloak goes first: where it does not answer nothing has changed, and the client tries again.
        """
        try:
            await self._realm.revoke(grant.refresh_token)
        except KeycloakUnavailable as down:
            raise unavailable(
                "the identity provider does not answer", Reason.KEYCLOAK_DOWN, str(down)
            ) from None
        await self._vault.mark(key_of("revoked", grant.family), _USED, USED_TTL[1])

    def _shared(self, token: str, grant: RefreshGrant) -> Deferred[dict[str, Any]]:
        waiting: Deferred[dict[str, Any]] = Deferred()
        others = self._waiting.get(token)
        if others is not None:
            others.append(waiting)
            return waiting
        self._waiting[token] = [waiting]
        Deferred.fromCoroutine(self._claimed(token, grant)).addBoth(self._spread, token)
        return waiting

    def _spread(self, result: dict[str, Any] | Failure, token: str) -> None:
        for waiting in self._waiting.pop(token):
            if not waiting.called:
                waiting.callback(result)  # a Failure starts the errback chain

    async def _claimed(self, token: str, grant: RefreshGrant) -> dict[str, Any]:
        """Return the answer: our own when we hold the claim, another process's when it does."""
        if await self._vault.marked(key_of("revoked", grant.family)) is not None:
            raise invalid_grant("the token was revoked", Reason.REFRESH_ENDED)
        claim, kept = key_of("refresh", token), key_of("refresh-answer", token)
        for _ in range(MAX_POLLS):
            if await self._vault.claim(claim, _CLAIMED, CLAIM_TTL):
                return await self._call(claim, kept, grant)
            # The mark first: it says "used" only once the answer is there.
            mark = await self._vault.marked(claim)
            answer = await self._vault.look(kept, Purpose.ANSWER, GRACE)
            if answer is not None:
                return answer
            if mark == _USED:
                raise invalid_grant("the refresh token was used before", Reason.REFRESH_REUSED)
            if mark is not None:
                await deferLater(self._clock, POLL)
        raise unavailable("the refresh is still under way", Reason.KEYCLOAK_DOWN, "another process holds it")

    async def _call(self, claim: str, kept: str, grant: RefreshGrant) -> dict[str, Any]:
        try:
            response = await self._realm.refresh(grant.refresh_token)
        except KeycloakRefused as refused:
            await self._release(claim)
            raise _refusal(refused) from None
        except KeycloakUnavailable as down:
            await self._release(claim)
            raise unavailable(
                "the identity provider does not answer", Reason.KEYCLOAK_DOWN, str(down)
            ) from None
        except Exception:
            await self._release(claim)
            raise
        now = self._clock.seconds()
        tokens = Tokens.received(response, now)
        # RFC 6749 section 6: without a new refresh token the old one stays in force.
        successor = evolve(grant, refresh_token=response.refresh_token or grant.refresh_token)
        answer = {
            "response": token_response(
                tokens,
                refresh=successor,
                requested=grant.scopes,
                auth=self._auth,
                sealer=self._sealer,
                now=now,
            ),
            "expires_at": tokens.expires_at,
        }
        await self._remember(claim, kept, answer, response.refresh_expires_in)
        return answer

    async def _remember(self, claim: str, kept: str, answer: dict[str, Any], lifetime: int | None) -> None:
        least, most = USED_TTL
        try:
            await self._vault.put(kept, Purpose.ANSWER, answer, GRACE)
            await self._vault.mark(claim, _USED, min(max(lifetime or most, least), most))
        except OAuthError as error:
            # The tokens exist and the old one is spent: keeping them back would end the session.
            self._log.error(
                "refresh answered but not remembered: {reason} {detail}",
                reason=error.reason.value,
                detail=error.detail,
            )

    async def _release(self, claim: str) -> None:
        try:
            await self._vault.release(claim)
        except OAuthError as error:
            self._log.warn(
                "refresh claim not released: {reason} {detail}",
                reason=error.reason.value,
                detail=error.detail,
            )


def _refusal(refused: KeycloakRefused) -> OAuthError:
    """Return the client's error for Keycloak's: only a dead session is the client's business."""
    detail = harmless(str(refused), 300)
    if refused.error == "invalid_grant":
        return invalid_grant("the session has ended", Reason.REFRESH_ENDED, detail)
    return unavailable("the identity provider refused this server", Reason.KEYCLOAK_REFUSED, detail)
