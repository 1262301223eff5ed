"""Who is at the other end: which peers are trusted proxies, and how an address is written."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from twisted.web.server import Request

#: Addresses whose judgement is remembered; a flood of others only costs the judgement again.
_REMEMBERED = 4096


def plain_address(host: str) -> str:
    """Return ``host`` as people write it: an IPv4 client of a dual-stack socket without its ``::ffff:``."""
    if not host.startswith("::ffff:"):
        return host
    try:
        mapped = ip_address(host)
    except ValueError:
        return host
    if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped is not None:
        return str(mapped.ipv4_mapped)
    return host


def peer_address(request: Request) -> str:
    """Return the address of a request's client, empty where it has none (a UNIX socket)."""
    return plain_address(getattr(request.getClientAddress(), "host", None) or "")


class TrustedProxies:
    """``server.trustedProxies``: the peers whose ``X-Forwarded-*`` headers are believed.

    Takes addresses and CIDR networks; a text that is neither raises :exc:`ValueError`.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._judge)

    def __contains__(self, host: object) -> bool:
        """Return whether the peer at ``host`` (a :func:`plain_address`) is trusted."""
        return bool(self._networks) and isinstance(host, str) and self._remembered(host)

    def _judge(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:  # a UNIX socket has no address
            return False
        return any(address in network for network in self._networks)
