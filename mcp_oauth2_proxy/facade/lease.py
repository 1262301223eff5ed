"""A claim that lasts as long as its holder lives: taken once, and renewed while the work goes on."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.vault import Vault

#: Seconds for which a claim holds without being renewed: so long does it take until a holder's death shows.
LEASE = 5.0
#: Seconds between two renewals: one may be lost, and one may take as long as the store is waited for (2 s).
RENEW_EVERY = 1.0

_HELD = b"held"


class Lease:
    """The right to do what ``key`` stands for, among all replicas.

    A holder that lives keeps it for as long as it likes; one that dies, or cannot reach the store, loses it
    within :data:`LEASE` seconds. A holder that stands still for longer than that (a frozen machine) does not
    know that it has lost it: what it does then is done twice.
    """

    _log = Logger()

    def __init__(self, vault: Vault, clock: IReactorTime, key: str) -> None:
        self._vault = vault
        self._clock = clock
        self._key = key
        self._held = False
        self._next: IDelayedCall | None = None
        self._renewing: Deferred[None] | None = None

    async def take(self) -> bool:
        """Return whether it is ours now; raises :exc:`OAuthError` (503) where the store cannot say."""
        asked = self._clock.seconds()
        if not await self._vault.claim(self._key, _HELD, LEASE):
            return False
        # It counts from when the store did it, which may have been when it was asked.
        self._held = self._clock.seconds() - asked < LEASE - RENEW_EVERY
        if self._held:
            self._renew_later()
        return self._held

    def lapse(self) -> None:
        """Renew it no more: for when what it guarded is done, and known as done."""
        self._held = False
        if self._next is not None and self._next.active():
            self._next.cancel()

    async def release(self) -> None:
        """Give it back, for others to take at once; raises nothing."""
        self.lapse()
        if self._renewing is not None:  # its renewal would bring it back
            await self._renewing
        try:
            await self._vault.release(self._key)
        except OAuthError as error:
            self._complain("not released", error)

    def _renew_later(self) -> None:
        self._next = self._clock.callLater(RENEW_EVERY, self._renew)

    def _renew(self) -> None:
        self._renewing = Deferred.fromCoroutine(self._renewed())

    async def _renewed(self) -> None:
        try:
            await self._vault.mark(self._key, _HELD, LEASE)
        except OAuthError as error:
            self._complain("not renewed", error)
        if self._held:
            self._renew_later()

    def _complain(self, what: str, error: OAuthError) -> None:
        self._log.warn(
            "lease {what}: {reason} {detail}", what=what, reason=error.reason.value, detail=error.detail
        )
