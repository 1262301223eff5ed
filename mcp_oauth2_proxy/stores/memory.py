"""The store of one process: nothing survives a restart, and nothing is shared."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mcp_oauth2_proxy.stores.interfaces import IStore, Listener, Missed, StoreFull, Unsubscribe
from mcp_oauth2_proxy.stores.listeners import Listeners

#: Bytes of keys and values held at most. A login in progress is about 2 KB, so this is 30 000 of them.
MAX_BYTES = 64 * 1024 * 1024
#: What an entry costs beside its key and value: dictionary slot, heap entry, objects.
ENTRY_OVERHEAD = 400


@implementer(IStore)
class MemoryStore:
    """Values in a dictionary, expired by the clock whenever the store is used.

    It is bounded: when it is full of values that have not expired, a new one is refused, so that a
    flood cannot push out what others are waiting for.
    """

    def __init__(self, clock: IReactorTime, *, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: dict[str, tuple[bytes, int]] = {}
        # (expiry, serial, key): an entry taken or replaced before its time leaves its line here, which
        # is recognised by its serial when its time comes.
        self._expiries: list[tuple[float, int, str]] = []
        self._serials = count()
        self._listeners = Listeners()

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        """See :class:`IStore`."""
        self._expire()
        old = self._entries.get(key)
        if not self._fits(key, value, instead_of=0 if old is None else _size(key, old[0])):
            return fail(StoreFull(f"the memory store is full: {len(self._entries)} entries"))
        self._remove(key)
        self._insert(key, value, ttl)
        return succeed(None)

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        """See :class:`IStore`."""
        self._expire()
        if key in self._entries:
            return succeed(False)
        if not self._fits(key, value):
            return fail(StoreFull(f"the memory store is full: {len(self._entries)} entries"))
        self._insert(key, value, ttl)
        return succeed(True)

    def get(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        self._expire()
        entry = self._entries.get(key)
        return succeed(entry[0] if entry is not None else None)

    def take(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        self._expire()
        return succeed(self._remove(key))

    def ping(self) -> Deferred[None]:
        """See :class:`IStore`."""
        return succeed(None)

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        """See :class:`IStore`."""
        self._listeners.tell(channel, message)
        return succeed(None)

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        """See :class:`IStore`; nothing is ever missed."""
        return succeed(self._listeners.add(channel, listener, missed))

    def close(self) -> Deferred[None]:
        """See :class:`IStore`; there is nothing to let go of."""
        return succeed(None)

    def __len__(self) -> int:
        self._expire()
        return len(self._entries)

    def _fits(self, key: str, value: bytes, *, instead_of: int = 0) -> bool:
        return self._bytes - instead_of + _size(key, value) <= self._max_bytes

    def _insert(self, key: str, value: bytes, ttl: float) -> None:
        serial = next(self._serials)
        self._entries[key] = (value, serial)
        self._bytes += _size(key, value)
        heappush(self._expiries, (self._clock.seconds() + ttl, serial, key))
        if len(self._expiries) > 2 * len(self._entries) + 1000:
            self._forget_stale_expiries()

    def _remove(self, key: str) -> bytes | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._bytes -= _size(key, entry[0])
        return entry[0]

    def _expire(self) -> None:
        now = self._clock.seconds()
        while self._expiries and self._expiries[0][0] <= now:
            _, serial, key = heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry[1] == serial:
                self._remove(key)

    def _forget_stale_expiries(self) -> None:
        # A sorted list is a heap; this runs once in as many insertions as it drops lines.
        self._expiries = sorted(
            line for line in self._expiries if (entry := self._entries.get(line[2])) and entry[1] == line[1]
        )


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD
