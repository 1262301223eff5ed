"""Who is at the other end: the client's address, which peers are trusted proxies, and how one is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from twisted.web.server import Request

#: Addresses whose judgement is remembered; a flood of others only costs the judgement again.
_REMEMBERED = 4096
#: Hops of a forwarding header that are walked, from its end; real chains have five.
MAX_HOPS = 32
#: Under this key of ``request.headNotes`` the client's address is kept once it is known: it follows from
#: the connection and its head.
_ADDRESS = "address"

#: One hop of ``Forwarded`` (RFC 7239 section 4); a comma inside quotes does not end it.
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]+))\s*(?:;|$)', re.IGNORECASE)
#: An address with a port perhaps, IPv6 in brackets then: how both headers write one.
_HOST_AND_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?")


@lru_cache(maxsize=_REMEMBERED)
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


def client_address(request: Request, trusted: TrustedProxies) -> str:
    """Return the address of the client itself, found once a head; empty where there is none."""
    notes: dict[str, object] = getattr(request, "headNotes", {})
    known = notes.get(_ADDRESS)
    if isinstance(known, str):
        return known
    peer = peer_address(request)
    if peer in trusted:
        headers = request.requestHeaders
        peer = forwarded_address(
            peer,
            forwarded=headers.getRawHeaders(b"forwarded") or (),
            x_forwarded_for=headers.getRawHeaders(b"x-forwarded-for") or (),
            trusted=trusted,
        )
    notes[_ADDRESS] = peer
    return peer


def forwarded_address(
    peer: str, *, forwarded: Sequence[bytes], x_forwarded_for: Sequence[bytes], trusted: TrustedProxies
) -> str:
    """Return the client's address behind ``peer``, which is trusted, by the two headers' values.

    Each is read from its end while the hop that wrote an entry is trusted; what a stranger wrote, or
    nobody can read, ends the walk. A proxy that writes one of the headers hands the other on as the
    client sent it: where both are there and disagree, neither is believed.
    """
    found = {
        _walk(peer, hops, trusted)
        for hops, values in (
            (_forwarded_hops(forwarded), forwarded),
            (_x_forwarded_for_hops(x_forwarded_for), x_forwarded_for),
        )
        if values
    }
    return found.pop() if len(found) == 1 else peer


def _walk(peer: str, hops: Sequence[str], trusted: TrustedProxies) -> str:
    address = peer
    for hop in reversed(hops[-MAX_HOPS:]):
        if address not in trusted:
            break
        named = _address(hop)
        if named is None:
            break
        address = named
    return address


def _x_forwarded_for_hops(values: Sequence[bytes]) -> list[str]:
    return b",".join(values).decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]


def _forwarded_hops(values: Sequence[bytes]) -> list[str]:
    text = b",".join(values).decode("latin-1")
    if text.count('"') % 2:  # an open quote: what belongs to which hop is anybody's guess
        return [""]
    hops = []
    for element in _ELEMENT.findall(text):
        found = _FOR.search(element.strip())
        hops.append((found[1] or found[2] or "") if found else "")
    return hops


def _address(hop: str) -> str | None:
    """Return the plain address that a hop names; ``unknown`` and obfuscated names are none."""
    text = hop.strip()
    found = _HOST_AND_PORT.fullmatch(text)
    host = (found[1] or found[2]) if found else text
    try:
        return plain_address(str(ip_address(host)))
    except ValueError:
        return None
