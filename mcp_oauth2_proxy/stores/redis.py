"""The store of many replicas: Redis, alone, behind Sentinels or as a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mcp_oauth2_proxy.config.model import Store
from mcp_oauth2_proxy.stores.interfaces import IStore, Listener, Missed, Unsubscribe
from mcp_oauth2_proxy.stores.redis_client import Client
from mcp_oauth2_proxy.stores.redis_listening import Listening
from mcp_oauth2_proxy.stores.threads import Threads

#: What every key and channel begins with; an ACL can be held to it.
PREFIX = "mcp-oauth2-proxy:"
#: Calls under way at the same time; at 0.2 ms each this is far more than logins need.
THREADS = 8


@implementer(IStore)
class RedisStore:
    """Values in Redis, which expires them. ``GETDEL`` takes and ``SET NX`` claims: each is atomic there."""

    def __init__(self, store: Store, reactor: Any) -> None:
        self._client = Client(store)
        self._threads = Threads(reactor, "redis", THREADS)
        self._listening = Listening(reactor, self._client.pubsub, PREFIX)

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._run(lambda redis: redis.set(PREFIX + key, value, px=_milliseconds(ttl)) and None)

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        """See :class:`IStore`."""
        return self._run(
            lambda redis: redis.set(PREFIX + key, value, px=_milliseconds(ttl), nx=True) is not None
        )

    def get(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._run(lambda redis: redis.get(PREFIX + key))

    def take(self, key: str) -> Deferred[bytes | None]:
        """See :class:`IStore`."""
        return self._run(lambda redis: redis.getdel(PREFIX + key))

    def ping(self) -> Deferred[None]:
        """See :class:`IStore`: a write, which a replica, a full server or a broken cluster refuses."""
        return self.put("ping", b"", 1)

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        """See :class:`IStore`."""
        return self._run(lambda redis: redis.publish(PREFIX + channel, message) and None)

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        """See :class:`IStore`."""
        return self._listening.subscribe(channel, listener, missed)

    def close(self) -> Deferred[None]:
        """See :class:`IStore`."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._listening.close()
        await self._threads.close()
        self._client.close()

    def _run(self, use: Callable[[Any], Any]) -> Deferred[Any]:
        return self._threads.run(self._client.call, use)


def _milliseconds(ttl: float) -> int:
    return max(1, math.ceil(ttl * 1000))
