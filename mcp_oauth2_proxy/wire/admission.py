"""How many connections there may be: in all, and from one address. Pure."""

from __future__ import annotations

from collections.abc import Callable

from mcp_oauth2_proxy.wire.limits import Limits


def _counted(_host: str) -> bool:
    return False


class Admission:
    """Counts connections. ``exempt(host)`` says which addresses are only counted in all.

    Those are trusted proxies, behind whose one address everybody is.
    """

    def __init__(self, limits: Limits, exempt: Callable[[str], bool] = _counted) -> None:
        self._total = limits.max_connections
        self._per_address = limits.max_connections_per_address
        self._exempt = exempt
        self._by_address: dict[str, int] = {}
        self._open = 0

    def enter(self, host: str) -> str | None:
        """Count a connection from ``host``; return why it may not stay, or ``None`` where it may."""
        if self._total and self._open >= self._total:
            return f"{self._open} connections are open, as many as may be"
        mine = self._by_address.get(host, 0)
        if self._per_address and mine >= self._per_address and not self._exempt(host):
            return f"{host} has {mine} connections open, as many as one address may have"
        self._open += 1
        self._by_address[host] = mine + 1
        return None

    def leave(self, host: str) -> None:
        """Forget a connection that was admitted."""
        self._open -= 1
        left = self._by_address[host] - 1
        if left:
            self._by_address[host] = left
        else:
            del self._by_address[host]
