"""What all replicas know of one refresh token: who uses it now, what came of it, and that it is used up."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.facade.lease import Lease
from mcp_oauth2_proxy.facade.sealing import CLOCK_SKEW, Purpose
from mcp_oauth2_proxy.facade.vault import Vault, key_of

#: Seconds for which a retry hears the same answer.
GRACE = 30.0
#: Bounds, in seconds, of how long a used refresh token is known as used. Afterwards Keycloak's own rule
#: for it holds: with rotation it refuses, without rotation the realm allows reuse anyway.
USED_TTL = (300.0, 86400.0)

_USED = b"used"


class SpentToken:
    """The records of the refresh token ``token`` in the store. Every method raises 503 where that is down.

    They are written in this order: the lease, the answer, the mark "used"; the mark is never taken back. So
    whoever holds the lease and finds neither of the others is the first, or follows one who died.
    """

    def __init__(self, vault: Vault, clock: IReactorTime, token: str) -> None:
        self._vault = vault
        self._kept = key_of("refresh-answer", token)
        self._mark = key_of("refresh", token)
        self.lease = Lease(vault, clock, key_of("refresh-lease", token))

    async def answer(self) -> dict[str, Any] | None:
        """Return what the token was answered with, as long as that is remembered."""
        # The store's own clock ends it; the seal's time is another replica's, whose clock may be off.
        return await self._vault.look(self._kept, Purpose.ANSWER, GRACE + CLOCK_SKEW)

    async def is_used(self) -> bool:
        """Return whether it was used; then :meth:`answer` has been there, and may have gone."""
        return await self._vault.marked(self._mark) == _USED

    async def remember(self, answer: dict[str, Any], *, age: float, lifetime: int | None) -> None:
        """Write down the ``answer`` that came ``age`` seconds ago; the next token lives for ``lifetime``."""
        if age < GRACE:
            await self._vault.put(self._kept, Purpose.ANSWER, answer, GRACE - age)
        least, most = USED_TTL
        await self._vault.mark(self._mark, _USED, min(max(lifetime or most, least), most))
