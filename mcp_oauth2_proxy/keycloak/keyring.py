"""The realm's keys, kept fresh: on schedule, and when a token names a key that is not known yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable

#: Seconds between two scheduled fetches; a realm announces a new key well before it is the only one.
REFRESH_EVERY = 600.0
#: Seconds between two fetches that unknown key ids may cause: a flood of forged tokens costs no more.
MIN_INTERVAL = 10.0


class Keyring:
    """Holds the :class:`KeySet` in force. Whatever goes wrong, the last good one stays.

    ``fetch`` asks Keycloak for its key set; ``spread`` turns an interval into a jittered one.
    """

    _log = Logger()

    def __init__(
        self,
        fetch: Callable[[], Awaitable[KeySet]],
        *,
        clock: IReactorTime,
        spread: Callable[[float], float],
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._spread = spread
        self._timer: IDelayedCall | None = None
        self._fetching: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        #: When an unknown key id last caused a fetch; those by schedule leave the next one free.
        self._asked_at = -MIN_INTERVAL
        self.keys: KeySet | None = None

    async def load(self) -> None:
        """Fetch now, and from now on by schedule.

        :raises KeycloakUnavailable: where no keys can be had.
        """
        try:
            self._take(await self._fetch())
        finally:
            self._schedule()

    async def keys_for(self, key_id: str | None) -> KeySet:
        """Return the keys, after one fetch if ``key_id`` is unknown and the last such fetch is long ago."""
        unknown = self.keys is None or (key_id is not None and key_id not in self.keys)
        if unknown and self._may_fetch():
            await self._shared_fetch()
        if self.keys is None:
            raise KeycloakUnavailable("the realm's keys have not been fetched yet")
        return self.keys

    def stop(self) -> None:
        """End the schedule and a fetch under way; whoever waits for it goes on with the keys there are."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._fetching is not None:
            self._fetching.cancel()

    def _may_fetch(self) -> bool:
        if self._fetching is not None:
            return True
        now = self._clock.seconds()
        if now - self._asked_at < MIN_INTERVAL:
            return False
        self._asked_at = now
        return True

    def _shared_fetch(self) -> Deferred[None]:
        """Join the fetch under way, or begin one. A caller that goes away does not take it along."""
        waiter: Deferred[None] = Deferred(self._waiting_no_more)
        self._waiting.append(waiter)
        if self._fetching is None:
            self._fetching = Deferred.fromCoroutine(self._refresh())
            self._fetching.addBoth(self._fetched)
        return waiter

    def _waiting_no_more(self, waiter: Deferred[None]) -> None:
        self._waiting.remove(waiter)

    def _fetched(self, result: object) -> None:
        self._fetching = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("refreshing the realm's keys failed", result)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def _refresh(self) -> None:
        try:
            self._take(await self._fetch())
        except KeycloakUnavailable as error:
            self._log.warn("keys not refreshed, the known ones stay in force: {reason}", reason=str(error))

    def _take(self, keys: KeySet) -> None:
        if not len(keys):
            raise KeycloakUnavailable("the realm's key set has no signing key that can be used")
        if self.keys is None or keys.key_ids != self.keys.key_ids:
            self._log.info("keys in force: {key_ids}", key_ids=", ".join(sorted(keys.key_ids)))
        self.keys = keys

    def _schedule(self) -> None:
        self._timer = self._clock.callLater(self._spread(REFRESH_EVERY), self._on_schedule)

    def _on_schedule(self) -> None:
        self._schedule()
        self._shared_fetch()
