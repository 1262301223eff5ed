"""The store, as the facade uses it: named by digests, sealed at rest, 503 when it cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError, unavailable
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer, digest
from mcp_oauth2_proxy.stores.interfaces import IStore, Missed, StoreUnavailable, Unsubscribe

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
        await _answered(self._store.put(key, self._sealed(purpose, record), ttl))

    async def add(self, key: str, purpose: Purpose, record: Mapping[str, Any], ttl: float) -> bool:
        """Remember ``record`` where nothing is; one of many concurrent callers hears ``True``."""
        return await _answered(self._store.add(key, self._sealed(purpose, record), ttl))

    async def look(self, key: str, purpose: Purpose, ttl: float) -> dict[str, Any] | None:
        """Return the record and keep it; ``None`` where there is none that opens."""
        return self.opened(purpose, await _answered(self._store.get(key)), ttl)

    async def take(self, key: str, purpose: Purpose, ttl: float) -> dict[str, Any] | None:
        """Remove the record and return it: once, whoever asks."""
        return self.opened(purpose, await _answered(self._store.take(key)), ttl)

    async def mark(self, key: str, mark: bytes, ttl: float) -> None:
        """Leave a short mark that is no secret."""
        await _answered(self._store.put(key, mark, ttl))

    async def claim(self, key: str, mark: bytes, ttl: float) -> bool:
        """Leave ``mark`` where nothing is; one of many concurrent callers hears ``True``."""
        return await _answered(self._store.add(key, mark, ttl))

    async def marked(self, key: str) -> bytes | None:
        """Return what is at ``key`` as it is."""
        return await _answered(self._store.get(key))

    async def release(self, key: str) -> None:
        """Remove what is at ``key``."""
        await _answered(self._store.take(key))

    async def tell(self, channel: str, purpose: Purpose, record: Mapping[str, Any]) -> None:
        """Tell ``record`` to everybody who listens to ``channel`` now."""
        await _answered(self._store.publish(channel, self._sealed(purpose, record)))

    def listen(
        self,
        channel: str,
        purpose: Purpose,
        ttl: float,
        listener: Callable[[dict[str, Any]], object],
        missed: Missed,
    ) -> Deferred[Unsubscribe]:
        """Call ``listener`` with every record told on ``channel``; see :meth:`IStore.subscribe`.

        What does not open, or was sealed more than ``ttl`` seconds ago, is not ours and is left alone.
        """

        def heard(sealed: bytes) -> None:
            record = self.opened(purpose, sealed, ttl)
            if record is not None:
                listener(record)

        return self._store.subscribe(channel, heard, missed)

    def _sealed(self, purpose: Purpose, record: Mapping[str, Any]) -> bytes:
        return self._sealer.seal(purpose, record).encode("ascii")

    def opened(self, purpose: Purpose, sealed: bytes | None, ttl: float) -> dict[str, Any] | None:
        """Return the record in ``sealed``; ``None`` where there is none that opens."""
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
