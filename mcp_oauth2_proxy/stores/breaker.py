"""A store that is slow or down costs nobody more than a short wait, and soon nobody anything at all.

Every call waits for a bounded time. After some failures in a row the circuit opens: calls fail at once, and
nothing is asked of the store but one ping now and then, which closes the circuit when it succeeds. So no
request is spent on finding out, and a store that comes back is not met by everything that piled up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.stores.interfaces import (
    IStore,
    Listener,
    Missed,
    StoreFull,
    StoreUnavailable,
    Unsubscribe,
)

_T = TypeVar("_T")

#: Failures in a row that open the circuit: one alone may be a connection that broke.
FAILURES = 3
#: Seconds until a store that is down is asked again: at first, and at most.
FIRST_RETRY, LAST_RETRY = 0.5, 3.0
#: Seconds between two pings of a store that works, so that readiness knows without any login.
PING_EVERY = 5.0


@implementer(IStore)
class Breaker:
    """``store`` with every wait bounded to ``wait`` seconds, and its state for readiness.

    :meth:`start` begins to look after it. A store that is full works: it hands out what it has.
    """

    _log = Logger()

    def __init__(self, store: IStore, clock: IReactorTime, *, wait: float) -> None:
        self._store = store
        self._clock = clock
        self._wait = wait
        self._failures = 0
        self._reason: str | None = "not asked yet"
        self._open = False
        self._retry = FIRST_RETRY
        self._next_ping: IDelayedCall | None = None
        self._pinging: Deferred[None] | None = None
        self._answered_at = 0.0
        self._closed = False

    def start(self) -> None:
        """Ask the store for the first time, and from now on again and again."""
        self._ping()

    def unready(self) -> str | None:
        """Return why the store cannot be used now, safe to show; ``None`` while it can."""
        return None if self._reason is None else f"store: {self._reason}"

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._guarded(lambda: self._store.put(key, value, ttl))

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        """See :class:`IStore`."""
        return self._guarded(lambda: self._store.add(key, value, ttl))

    def get(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._guarded(lambda: self._store.get(key))

    def take(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._guarded(lambda: self._store.take(key))

    def ping(self) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._guarded(self._store.ping)

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._guarded(lambda: self._store.publish(channel, message))

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        """See :class:`IStore`; it may take as long as it takes, so nothing is bounded here."""
        return self._store.subscribe(channel, listener, missed)

    def close(self) -> Deferred[None]:
        """See :class:`IStore`."""
        self._closed = True
        if self._next_ping is not None and self._next_ping.active():
            self._next_ping.cancel()
        if self._pinging is not None:
            self._pinging.cancel()
        return self._store.close()

    def _guarded(self, call: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        if self._open:
            return fail(StoreUnavailable(f"the store is down: {self._reason}"))
        return self._bounded(call)

    def _bounded(self, call: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        def late(_: object, wait: float) -> None:
            raise StoreUnavailable(f"the store did not answer within {wait:g} s")

        return call().addTimeout(self._wait, self._clock, late).addCallbacks(self._worked, self._failed)

    def _worked(self, answer: _T) -> _T:
        self._answered()
        return answer

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(StoreFull):
            self._answered()
        elif failure.check(StoreUnavailable):
            self._failures += 1
            if self._failures >= FAILURES and not self._open:
                self._open = True
                self._log.error("the store is down: {reason}", reason=failure.getErrorMessage())
                self._ping_in(self._retry)
            if self._open or self._reason is not None:
                self._reason = failure.getErrorMessage()
        return failure

    def _answered(self) -> None:
        self._failures = 0
        self._answered_at = self._clock.seconds()
        if self._open:
            self._open = False
            self._retry = FIRST_RETRY
            self._log.info("the store answers again")
        self._reason = None

    def _ping(self) -> None:
        quiet_for = self._clock.seconds() - self._answered_at
        if self._reason is None and quiet_for < PING_EVERY:
            self._ping_in(PING_EVERY - quiet_for)  # others have just heard from it
        elif self._pinging is None:
            self._pinging = self._bounded(self._store.ping)
            self._pinging.addBoth(self._pinged)

    def _pinged(self, result: Failure | None) -> None:
        self._pinging = None
        if isinstance(result, Failure) and not result.check(StoreUnavailable, CancelledError):
            self._log.failure("the store cannot be asked", failure=result)
        if self._open:
            self._ping_in(self._retry)
            self._retry = min(2 * self._retry, LAST_RETRY)
        else:
            self._ping_in(FIRST_RETRY if self._failures else PING_EVERY)

    def _ping_in(self, seconds: float) -> None:
        if self._closed:
            return
        if self._next_ping is not None and self._next_ping.active():
            self._next_ping.cancel()
        self._next_ping = self._clock.callLater(seconds, self._ping)
