"""What every store promises; memory, SQLite and network stores pass one contract suite."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Interface

#: Hears a message, in the reactor's thread.
Listener = Callable[[bytes], object]
#: Hears that messages may have been missed.
Missed = Callable[[], object]
#: Ends a subscription.
Unsubscribe = Callable[[], None]


class StoreUnavailable(Exception):
    """The store cannot answer, or is full: the flow answers 503, and nothing is used a second time.

    The message never has a credential in it.
    """


class StoreFull(StoreUnavailable):
    """The store answers, and has no room for something new; what it holds can still be fetched."""


class IStore(Interface):
    """Values that expire by themselves, and that can be handed out exactly once.

    Keys are short text with a purpose prefix (``code:…``). Values are bytes that the caller has
    already sealed. Times to live are seconds. Every Deferred may fail with :exc:`StoreUnavailable`; what
    was asked for may then have happened or not, and happens at most once.
    """

    def put(key: str, value: bytes, ttl: float) -> Deferred[None]:
        """Remember ``value`` for ``ttl`` seconds, in place of what was there."""

    def add(key: str, value: bytes, ttl: float) -> Deferred[bool]:
        """Remember ``value`` only if nothing is there: of many concurrent callers one hears ``True``."""

    def get(key: str) -> Deferred[bytes | None]:
        """Return the value and keep it; ``None`` where there is none or it has expired."""

    def take(key: str) -> Deferred[bytes | None]:
        """Remove the value and return it: of many concurrent callers one gets it, the others ``None``."""

    def ping() -> Deferred[None]:
        """Succeed when the store can serve: what readiness asks."""

    def publish(channel: str, message: bytes) -> Deferred[None]:
        """Tell ``message`` to everybody who is subscribed to ``channel`` now, this process included.

        It is told once to each, and not kept: who must not miss it puts it into the store as well.
        """

    def subscribe(channel: str, listener: Listener, missed: Missed | None = None) -> Deferred[Unsubscribe]:
        """Call ``listener`` with every message to ``channel`` until the returned function is called.

        The Deferred fires once messages arrive, however long the store needs for that; cancelling it gives
        the subscription up. The store takes it up again by itself when it was lost, and then calls
        ``missed``, for what was said meanwhile has to be looked up.
        """

    def close() -> Deferred[None]:
        """Let go of files, connections, threads and timers: it is not used afterwards."""
