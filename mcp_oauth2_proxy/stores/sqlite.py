"""The store of one machine: a SQLite file, which survives restarts and is shared by processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.stores.database import (
    BUSY_TIMEOUT,
    EVENTS_AT_ONCE,
    MAX_BYTES,
    OLDEST_SQLITE,
    Database,
    Events,
)
from mcp_oauth2_proxy.stores.interfaces import IStore, Listener, Missed, StoreUnavailable, Unsubscribe
from mcp_oauth2_proxy.stores.listeners import Listeners
from mcp_oauth2_proxy.stores.threads import Threads

_T = TypeVar("_T")

#: Seconds between two removals of what has expired, while there is anything.
PURGE_EVERY = 30.0
#: Seconds between two looks for messages, while anybody listens: a logout is known everywhere within 2 s.
POLL_EVERY = 0.25


@implementer(IStore)
class SqliteStore:
    """Values in a file that only this user can read, expired by the clock, bounded in bytes.

    All calls run in one thread, in their order. When the file is full of values that have not expired, a
    new one is refused, so that a flood cannot push out what others are waiting for.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: Any,
        *,
        clock: IReactorTime | None = None,
        max_bytes: int = MAX_BYTES,
        durable: bool = True,
        timeout: float = 2 * BUSY_TIMEOUT,
    ) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ValueError(f"store.url: SQLite {sqlite3.sqlite_version} is too old; expected 3.35 or newer")
        self._clock: IReactorTime = clock or reactor
        self._threads = Threads(reactor, "sqlite", 1)
        self._database = Database(
            path,
            self._clock.seconds,
            max_bytes=max_bytes,
            durable=durable,
            timeout=timeout,
        )
        self._listeners = Listeners()
        self._purging: IDelayedCall | None = None
        #: Those whose subscription has not begun yet, with what they get when it has.
        self._awaiting: list[tuple[Deferred[Unsubscribe], Unsubscribe]] = []
        self._next_look: IDelayedCall | None = None
        self._looking = False
        self._last_event: int | None = None
        self._closed = False

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._run(self._database.put, key, value, ttl)

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        """See :class:`IStore`."""
        return self._run(self._database.add, key, value, ttl)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._run(self._database.get, key)

    def take(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._run(self._database.take, key)

    def ping(self) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._run(self._database.ping)

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._run(self._database.publish, channel, message).addCallback(lambda _: self._look())

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        """See :class:`IStore`."""
        unsubscribe = self._listeners.add(channel, listener, missed)
        begun: Deferred[Unsubscribe] = Deferred(lambda _: unsubscribe())
        self._awaiting.append((begun, unsubscribe))
        self._look()
        return begun

    def close(self) -> Deferred[None]:
        """See :class:`IStore`."""
        self._closed = True
        for call in (self._purging, self._next_look):
            if call is not None and call.active():
                call.cancel()
        return Deferred.fromCoroutine(self._threads.close(self._database.close))

    def _run(self, function: Callable[..., _T], *arguments: object) -> Deferred[_T]:
        self._purge_later()
        return self._threads.run(self._database.by, self._database.deadline(), function, *arguments)

    def _purge_later(self) -> None:
        if not self._closed and (self._purging is None or not self._purging.active()):
            self._purging = self._clock.callLater(PURGE_EVERY, self._purge)

    def _purge(self) -> None:
        def purged(result: bool | Failure) -> None:
            if result is not False:  # there is more to come, or it has to be tried again
                self._purge_later()

        deadline = self._database.deadline()
        self._threads.run(self._database.by, deadline, self._database.purge).addBoth(purged)

    def _look(self) -> None:
        """Look for messages now, and again as long as anybody listens."""
        if self._closed or self._looking:
            return
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()
        if not self._listeners.channels:
            self._last_event = None
            return
        self._looking = True
        self._threads.run(self._database.events, self._last_event).addBoth(self._looked)

    def _looked(self, found: Events | Failure) -> None:
        self._looking = False
        if self._closed:
            return
        more = isinstance(found, Events) and len(found.messages) == EVENTS_AT_ONCE
        self._next_look = self._clock.callLater(0 if more else POLL_EVERY, self._look)
        if isinstance(found, Failure):
            if not found.check(StoreUnavailable):  # that is what the next look is for
                self._log.failure("the SQLite store cannot be looked into", failure=found)
            return
        self._last_event = found.last
        if found.missed:
            self._listeners.tell_missed()
        for channel, message in found.messages:
            self._listeners.tell(channel, message)
        awaiting, self._awaiting = self._awaiting, []
        for begun, unsubscribe in awaiting:
            if not begun.called:
                begun.callback(unsubscribe)
