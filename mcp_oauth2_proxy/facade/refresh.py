"""Refreshing: one Keycloak call for one refresh token, whatever the concurrency (RFC 6749 section 6).

Keycloak with rotation ends the whole session at a token's second use, and MCP clients do use one twice:
in parallel, and again when an answer was lost. So callers share the call that is under way, in this process
and in others, and for :data:`~mcp_oauth2_proxy.facade.spent.GRACE` seconds its answer.

**Afterwards a second use ends the family** (RFC 9700 section 4.14.2), since nobody can tell who is who:

- A thief was first and the owner comes now, or the other way round. Whoever has the successor loses it, and
  both have to log in, which only the owner can.
- The owner lost the answer and comes back late, because the lid of the laptop was shut. It logs in once more:
  that is the price of the rule, and why the grace is generous.
- A thief who is quick: both use the token within the grace, and both get its successor. Neither is refused,
  and the race begins anew with the successor. It ends the first time that they are more than the grace apart:
  a thief who wants to win has to guess, each time, the half minute in which the owner refreshes.

**When the process that made the call dies** before it has written the answer down, the others notice within
:data:`~mcp_oauth2_proxy.facade.lease.LEASE` seconds, and one of them calls again. Where the realm does not
rotate refresh tokens that succeeds. Where it does, Keycloak may have used the token up already: the successor
died with the process, and nothing can bring it back but a new login (docs/store.md).
"""

from __future__ import annotations

from typing import Any, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.facade.endings import SharedEndings
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, unavailable
from mcp_oauth2_proxy.facade.families import Families
from mcp_oauth2_proxy.facade.grants import RefreshGrant, Tokens, invalid_grant, token_response
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.spent import GRACE, SpentToken
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakRefused, KeycloakUnavailable

#: Seconds between two looks at what another process is doing.
POLL = 0.1
#: Seconds until a caller is told to come again: clients give up after 30. The call goes on without it, for
#: its retry, since a second call might end the session.
PATIENCE = 20.0
#: Seconds between two attempts to write down an answer while the store is down, and for how long in all.
REMEMBER_AGAIN = 1.0
REMEMBER_FOR = 300.0


class RefreshBroker:
    """Turns refresh tokens into answers, each once."""

    _log = Logger()

    def __init__(
        self,
        auth: Auth,
        *,
        realm: IRealm,
        vault: Vault,
        sealer: Sealer,
        endings: SharedEndings,
        clock: IReactorTime,
    ) -> None:
        self._auth = auth
        self._realm = realm
        self._vault = vault
        self._sealer = sealer
        self._clock = clock
        self.families = Families(vault, realm, endings, clock)
        self._waiting: dict[str, list[Deferred[dict[str, Any]]]] = {}
        #: Answers that the store has not taken yet: as many as refreshes were under way when it went down.
        self._unsaved: dict[str, dict[str, Any]] = {}

    async def refresh(self, token: str, grant: RefreshGrant) -> dict[str, Any]:
        """Return the token response for ``token``, which ``grant`` was opened from and checked against.

        Raises :exc:`OAuthError`. A caller that goes away does not stop the call: the answer is wanted
        by its retry.
        """
        answer = await self._shared(token, grant).addTimeout(PATIENCE, self._clock, _too_long)
        response: dict[str, Any] = dict(answer["response"])
        if answer["expires_at"] is not None:
            left = max(1, int(answer["expires_at"] - self._clock.seconds()))
            # A replica whose clock is behind would make it more than it ever was.
            response["expires_in"] = min(left, response["expires_in"])
        return response

    @property
    def under_way(self) -> int:
        """How many refreshes are not over, or not written down, whether or not their callers wait."""
        return len(self._waiting) + len(self._unsaved)

    def _shared(self, token: str, grant: RefreshGrant) -> Deferred[dict[str, Any]]:
        unsaved = self._unsaved.get(token)
        if unsaved is not None:
            self.families.check_session(grant)
            return succeed(unsaved)
        waiting: Deferred[dict[str, Any]] = Deferred()
        others = self._waiting.get(token)
        if others is not None:
            others.append(waiting)
            return waiting
        self._waiting[token] = [waiting]
        Deferred.fromCoroutine(self._answer(token, grant)).addBoth(self._spread, token)
        return waiting

    def _spread(self, result: dict[str, Any] | Failure, token: str) -> None:
        for waiting in self._waiting.pop(token):
            if not waiting.called:
                waiting.callback(result)  # a Failure starts the errback chain

    async def _answer(self, token: str, grant: RefreshGrant) -> dict[str, Any]:
        """Return the answer: our own when we hold the lease, another process's when it does."""
        await self.families.check(grant)
        spent = SpentToken(self._vault, self._clock, token, grant)
        give_up = self._clock.seconds() + PATIENCE
        while not await spent.lease.take():
            answer = await self._earlier_answer(spent, grant)
            if answer is not None:
                return answer
            if self._clock.seconds() >= give_up:
                raise _under_way("another process asks Keycloak")
            await deferLater(self._clock, POLL)
        try:
            # Whoever had the lease before us may have finished.
            answer = await self._earlier_answer(spent, grant)
            if answer is not None:
                spent.lease.lapse()
                return answer
            return await self._call(token, spent, grant)
        except Exception:
            await spent.lease.release()
            raise

    async def _earlier_answer(self, spent: SpentToken, grant: RefreshGrant) -> dict[str, Any] | None:
        """Return the answer that the token has got, or ``None``; raise ``invalid_grant`` after the grace."""
        # In this order: it is used only once the answer is there.
        is_used = await spent.is_used()
        answer = await spent.answer()
        if answer is None and is_used:
            await self.families.end_stolen(grant)
            raise invalid_grant("the refresh token was used before", Reason.REFRESH_REUSED)
        return answer

    async def _call(self, token: str, spent: SpentToken, grant: RefreshGrant) -> dict[str, Any]:
        try:
            response = await self._realm.refresh(grant.refresh_token)
        except KeycloakRefused as refused:
            raise _refusal(refused) from None
        except KeycloakUnavailable as down:
            raise unavailable(
                "the identity provider does not answer", Reason.KEYCLOAK_DOWN, str(down)
            ) from None
        await self._refuse_ended(grant)
        now = self._clock.seconds()
        tokens = Tokens.received(response, now)
        answer = {
            "response": token_response(
                tokens,
                refresh=grant.succeeded_by(tokens),
                requested=grant.scopes,
                auth=self._auth,
                sealer=self._sealer,
                now=now,
            ),
            "expires_at": tokens.expires_at,
        }
        if await self._is_remembered(spent, answer, now, tokens.refresh_expires_in):
            spent.lease.lapse()
        else:
            # The tokens exist and the old one is spent: keeping them back would end the session.
            self._unsaved[token] = answer
            Deferred.fromCoroutine(self._remember_later(token, spent, now, tokens.refresh_expires_in))
        return answer

    async def _refuse_ended(self, grant: RefreshGrant) -> None:
        """Raise ``invalid_grant`` where the family has ended while Keycloak was asked.

        What Keycloak has issued since then would count as issued after the end.
        """
        try:
            await self.families.check(grant)
        except OAuthError as error:
            if error.reason is not Reason.STORE_DOWN:
                raise

    async def _is_remembered(
        self, spent: SpentToken, answer: dict[str, Any], since: float, lifetime: int | None
    ) -> bool:
        try:
            await spent.remember(answer, age=self._clock.seconds() - since, lifetime=lifetime)
        except OAuthError as error:
            self._log.error(
                "refresh answered but not remembered: {reason} {detail}",
                reason=error.reason.value,
                detail=error.detail,
            )
            return False
        return True

    async def _remember_later(
        self, token: str, spent: SpentToken, since: float, lifetime: int | None
    ) -> None:
        """Try until the store takes it: retries that come here are answered meanwhile, for the grace."""
        answer = self._unsaved[token]
        while (age := self._clock.seconds() - since) < REMEMBER_FOR:
            if age >= GRACE:
                self._unsaved.pop(token, None)
            await deferLater(self._clock, REMEMBER_AGAIN)
            if await self._is_remembered(spent, answer, since, lifetime):
                break
        self._unsaved.pop(token, None)
        spent.lease.lapse()


def _too_long(_: object, waited: float) -> NoReturn:
    raise _under_way(f"Keycloak has not answered within {waited:g} s")


def _under_way(detail: str) -> OAuthError:
    return unavailable("the refresh is still under way", Reason.KEYCLOAK_DOWN, detail)


def _refusal(refused: KeycloakRefused) -> OAuthError:
    """Return the client's error for Keycloak's: only a dead session is the client's business."""
    detail = harmless(str(refused), 300)
    if refused.error == "invalid_grant":
        return invalid_grant("the session has ended", Reason.REFRESH_ENDED, detail)
    return unavailable("the identity provider refused this server", Reason.KEYCLOAK_REFUSED, detail)
