"""Families of refresh tokens, and their end: all tokens that follow from one login live and die together.

Where a family ends, Keycloak ends the session's share of this proxy, and with it every token that any client
got from that session. So the session ends here too: its access tokens, and what is under way with them.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mcp_oauth2_proxy.facade.endings import SharedEndings
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, unavailable
from mcp_oauth2_proxy.facade.grants import RefreshGrant, invalid_grant
from mcp_oauth2_proxy.facade.vault import Vault, key_of
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakUnavailable

#: Seconds for which an ended family is known as ended once Keycloak knows it too: from then on Keycloak
#: refuses each of its tokens itself.
ENDED_TTL = 86400.0
#: Seconds for which it is known while Keycloak could not be told: its default for idle offline sessions.
ENDING_TTL = 30 * 86400.0

_ENDED = b"used"
_ENDING = b"ending"


class Families:
    """Says which families have ended, and ends them: here, on all replicas, and at Keycloak."""

    _log = Logger()

    def __init__(self, vault: Vault, realm: IRealm, endings: SharedEndings, clock: IReactorTime) -> None:
        self._vault = vault
        self._realm = realm
        self._endings = endings
        self._clock = clock

    def check_session(self, grant: RefreshGrant) -> None:
        """Raise ``invalid_grant`` where the session of ``grant`` has ended since its token was issued."""
        if grant.has_ended(self._endings.known):
            raise invalid_grant("the session has ended", Reason.REFRESH_ENDED, "by a logout or a revocation")

    async def check(self, grant: RefreshGrant) -> None:
        """Raise ``invalid_grant`` where the family of ``grant`` has ended, or its session."""
        state = await self._vault.marked(_key(grant))
        if state is None:
            self.check_session(grant)
            return
        if state == _ENDING:
            await self._finish(grant)
        raise invalid_grant("the token was revoked", Reason.REFRESH_ENDED)

    async def revoke(self, grant: RefreshGrant) -> None:
        """End the family as its own client asks for; raises :exc:`OAuthError`.

        Keycloak goes first: where it does not answer nothing has changed, and the client tries again. It is
        noted when all is done, and done once: who repeats it must not fill the store with endings.
        """
        if await self._vault.marked(_key(grant)) == _ENDED:
            return
        try:
            await self._realm.revoke(grant.refresh_token)
        except KeycloakUnavailable as down:
            raise unavailable(
                "the identity provider does not answer", Reason.KEYCLOAK_DOWN, str(down)
            ) from None
        await self._end_session(grant)
        await self._vault.mark(_key(grant), _ENDED, ENDED_TTL)

    async def end_stolen(self, grant: RefreshGrant) -> None:
        """End the family because one of its tokens came twice; raises :exc:`OAuthError` (the store is down).

        This server goes first: the thief must be stopped though Keycloak does not answer. Keycloak is told
        later then, as soon as any token of the family comes again; if none ever does, no harm is done.
        """
        self._log.warn(
            "a refresh token of client {client} came again too late: all that came of its login ends",
            client=grant.client,
            subject=grant.subject,
            session=grant.session,
        )
        await self._vault.mark(_key(grant), _ENDING, ENDING_TTL)
        await self._finish(grant)

    async def _end_session(self, grant: RefreshGrant) -> None:
        ending = grant.ending(self._clock.seconds())
        if ending is not None:
            await self._endings.end(ending)

    async def _finish(self, grant: RefreshGrant) -> None:
        """End what else belongs to a family that is ending, and note it when all is done; raises nothing."""
        try:
            # Here first: Keycloak may take its time, and the thief's access token is good until then.
            await self._end_session(grant)
        except OAuthError as error:
            # It has ended in this process, which tells the others as soon as it can.
            self._log.warn("a session has not ended everywhere yet: {reason}", reason=error.detail)
        try:
            await self._realm.revoke(grant.refresh_token)
            await self._vault.mark(_key(grant), _ENDED, ENDED_TTL)
        except KeycloakUnavailable as down:
            self._log.warn("the session has not ended at Keycloak yet: {reason}", reason=str(down))
        except OAuthError as error:
            self._log.warn("the end of a family is not remembered: {reason}", reason=error.detail)


def _key(grant: RefreshGrant) -> str:
    return key_of("revoked", grant.family)
