"""From ``store.url`` to a store."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.stores.interfaces import IStore
from mcp_oauth2_proxy.stores.memory import MemoryStore


def open_store(url: str, clock: IReactorTime) -> IStore:
    """Return the store that ``url`` names.

    :raises ValueError: for a scheme that is not built in; the configuration has refused it before.
    """
    if url == "memory://":
        return MemoryStore(clock)
    raise ValueError(f"store.url: {url.partition('://')[0]}:// is not built in, use memory://")
