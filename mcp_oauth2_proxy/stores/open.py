"""From ``store.url`` to a store."""

from __future__ import annotations

from typing import Any

from mcp_oauth2_proxy.config.model import Store, StoreKind
from mcp_oauth2_proxy.stores.breaker import Breaker
from mcp_oauth2_proxy.stores.interfaces import IStore
from mcp_oauth2_proxy.stores.memory import MemoryStore
from mcp_oauth2_proxy.stores.sqlite import SqliteStore


def open_store(store: Store, reactor: Any) -> Breaker:
    """Return the store that ``store.url`` names, with every wait bounded by ``store.timeout``.

    Nothing is reached for before it is started or used. Raises ``ValueError`` where this machine cannot
    have it.
    """
    return Breaker(_store(store, reactor), reactor, wait=store.timeout)


def _store(store: Store, reactor: Any) -> IStore:
    url = store.url
    if url.kind is StoreKind.MEMORY:
        return MemoryStore(reactor)
    if url.kind is StoreKind.SQLITE:
        return SqliteStore(url.path, reactor, durable=url.durable, timeout=store.timeout)
    # redis-py takes 50 ms and 7 MB to import, which only those spend who use it.
    from mcp_oauth2_proxy.stores.redis import RedisStore  # noqa: PLC0415

    return RedisStore(store, reactor)
