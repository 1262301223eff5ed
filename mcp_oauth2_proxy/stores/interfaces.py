"""What every store promises; memory, SQLite and network stores pass one contract suite."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface


class StoreUnavailable(Exception):
    """The store cannot answer, or is full: the flow answers 503, and nothing is used a second time."""


class IStore(Interface):
    """Values that expire by themselves, and that can be handed out exactly once.

    Keys are short text with a purpose prefix (``code:…``). Values are bytes that the caller has
    already sealed. Times to live are seconds. Every Deferred may fail with :exc:`StoreUnavailable`.
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
