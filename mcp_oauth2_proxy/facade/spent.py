"""What all replicas know of one refresh token: who uses it now, what came of it, and that it is used up."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.facade.grants import RefreshGrant
from mcp_oauth2_proxy.facade.lease import Lease
from mcp_oauth2_proxy.facade.sealing import CLOCK_SKEW, Purpose
from mcp_oauth2_proxy.facade.vault import Vault, key_of

#: Seconds for which a retry hears the same answer.
GRACE = 30.0
#: Seconds for which a family is remembered after its last refresh: as long as its newest token lives, within
#: these bounds. Later Keycloak has forgotten the session too.
LEAST, MOST = 300.0, 366 * 86400.0
#: Where Keycloak names no end: its default for idle offline sessions.
OFFLINE = 30 * 86400.0


class SpentToken:
    """The records of the refresh token ``token`` in the store. Every method raises 503 where that is down.

    Tokens are numbered within their family, which remembers its newest number: so all older ones are known
    as used, by one record. The records are written in this order: the lease, the answer, the number. So
    whoever holds the lease and finds neither of the others is the first, or follows one who died.
    """

    def __init__(self, vault: Vault, clock: IReactorTime, token: str, grant: RefreshGrant) -> None:
        self._vault = vault
        self._kept = key_of("refresh-answer", token)
        self._newest = key_of("family", grant.family)
        self._serial = grant.serial
        self.lease = Lease(vault, clock, key_of("refresh-lease", token))

    async def answer(self) -> dict[str, Any] | None:
        """Return what the token was answered with, as long as that is remembered."""
        # The store's own clock ends it; the seal's time is another replica's, whose clock may be off.
        return await self._vault.look(self._kept, Purpose.ANSWER, GRACE + CLOCK_SKEW)

    async def is_used(self) -> bool:
        """Return whether it was used; then :meth:`answer` has been there, and may have gone."""
        return int(await self._vault.marked(self._newest) or b"0") > self._serial

    async def remember(self, answer: dict[str, Any], *, age: float, lifetime: int | None) -> None:
        """Write down the ``answer`` that came ``age`` seconds ago; the next token lives for ``lifetime``."""
        if age < GRACE:
            await self._vault.put(self._kept, Purpose.ANSWER, answer, GRACE - age)
        # Written late, it must not hide that its successor is used already.
        if not await self.is_used():
            ttl = min(max(lifetime or OFFLINE, LEAST), MOST)
            await self._vault.mark(self._newest, b"%d" % (self._serial + 1), ttl)
