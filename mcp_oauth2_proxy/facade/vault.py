"""The store, as the facade uses it: named by digests, sealed at rest, 503 when it cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError, unavailable
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer, digest
from mcp_oauth2_proxy.stores.interfaces import IStore, StoreUnavailable

_T = TypeVar("_T")


def key_of(kind: str, secret: str) -> str:
    """Return the store's key for ``secret``: a purpose and a digest, so that the store tells nothing."""
    return f"{kind}:{digest(kind, secret)}"


class Vault:
    """Sealed records in an :class:`IStore`. Every method raises 503 where the store cannot answer."""

    def __init__(self, store: IStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def put(self, key: str, purpose: Purpose, record: Mapping[str, Any], ttl: float) -> None:
        """Remember ``record`` for ``ttl`` seconds."""
        await _answered(self._store.put(key, self._sealer.seal(purpose, record).encode("ascii"), ttl))

    async def look(self, key: str, purpose: Purpose, ttl: float) -> dict[str, Any] | None:
        """Return the record and keep it; ``None`` where there is none that opens."""
        return self._open(purpose, await _answered(self._store.get(key)), ttl)

    async def take(self, key: str, purpose: Purpose, ttl: float) -> dict[str, Any] | None:
        """Remove the record and return it: once, whoever asks."""
        return self._open(purpose, await _answered(self._store.take(key)), ttl)

    async def mark(self, key: str, mark: bytes, ttl: float) -> None:
        """Leave a short mark that is no secret."""
        await _answered(self._store.put(key, mark, ttl))

    async def claim(self, key: str, mark: bytes, ttl: float) -> bool:
        """Leave ``mark`` where nothing is; one of many concurrent callers hears ``True``."""
        return await _answered(self._store.add(key, mark, ttl))

    async def marked(self, key: str) -> bytes | None:
        """Return the mark at ``key``."""
        return await _answered(self._store.get(key))

    async def release(self, key: str) -> None:
        """Remove what is at ``key``."""
        await _answered(self._store.take(key))

    def _open(self, purpose: Purpose, sealed: bytes | None, ttl: float) -> dict[str, Any] | None:
        if sealed is None:
            return None
        try:
            return self._sealer.open(purpose, sealed.decode("ascii"), ttl)
        except (SealError, UnicodeDecodeError):
            return None


async def _answered(answer: Awaitable[_T]) -> _T:
    try:
        return await answer
    except StoreUnavailable as error:
        raise _down(error) from None


def _down(error: StoreUnavailable) -> OAuthError:
    return unavailable("the server cannot do this at the moment", Reason.STORE_DOWN, str(error))
