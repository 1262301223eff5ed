"""From ``store.url`` to a store."""

from __future__ import annotations

from typing import Any

from mcp_oauth2_proxy.config.model import Store, StoreKind
from mcp_oauth2_proxy.stores.interfaces import IStore
from mcp_oauth2_proxy.stores.memory import MemoryStore
from mcp_oauth2_proxy.stores.sqlite import SqliteStore


def open_store(store: Store, reactor: Any) -> IStore:
    """Return the store that ``store.url`` names. It reaches for it when it is used first.

    Raises ``ValueError`` where this machine cannot have it.
    """
    url = store.url
    if url.kind is StoreKind.MEMORY:
        return MemoryStore(reactor)
    if url.kind is StoreKind.SQLITE:
        return SqliteStore(url.path, reactor)
    # redis-py takes 50 ms and 7 MB to import, which only those spend who use it.
    from mcp_oauth2_proxy.stores.redis import RedisStore  # noqa: PLC0415

    return RedisStore(store, reactor)
