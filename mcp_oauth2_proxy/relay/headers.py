"""What becomes of header lines on their way through: pure rules over ordered byte pairs.

The configuration is compiled once, at start; a request then runs through plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from mcp_oauth2_proxy.config.model import Action, Mutation
from mcp_oauth2_proxy.relay.values import Inbound, Pair, source

#: Headers that speak about one connection (RFC 9110 section 7.6.1) end here; ``Proxy-*`` does too.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: What the agent writes by itself: a second framing beside its own would be request smuggling.
_REWRITTEN = frozenset({b"content-length", b"expect", b"host"})
_NEVER_OUT = HOP_BY_HOP | _REWRITTEN
#: What a mutation cannot add, since it would frame the message or speak about the connection.
NOT_ADDED = _NEVER_OUT - {b"host"}
_FORWARDED = frozenset({b"forwarded", b"x-real-ip"})


#: Header names whose key is remembered: clients and servers use a few dozen, strangers may invent more.
_REMEMBERED_NAMES = 2048


@lru_cache(maxsize=_REMEMBERED_NAMES)
def key_of(name: bytes) -> bytes:
    """Return the name under which a header is compared.

    Servers that hand headers on as variables (CGI, WSGI) see ``X_User`` and ``X-User`` as one, so a
    header that a rule removes or sets is removed in both spellings.
    """
    return name.lower().replace(b"_", b"-")


@lru_cache(maxsize=_REMEMBERED_NAMES)
def is_ordinary(key: bytes) -> bool:
    """Return whether a request's header of this key passes whatever it says and whoever sends it."""
    return not (
        key in _NEVER_OUT
        or key in _FORWARDED
        or key == b"cookie"
        or key.startswith((b"proxy-", b"x-forwarded-"))
    )


def nominated(values: Iterable[bytes]) -> frozenset[bytes]:
    """Return the header names that ``Connection`` values declare to be hop-by-hop."""
    return frozenset(key_of(name.strip(b" \t")) for value in values for name in value.split(b","))


class Outgoing:
    """The header lines of the upstream's request while they are being made."""

    __slots__ = ("_keys", "lines")

    def __init__(self, lines: list[tuple[bytes, bytes, bytes]]) -> None:
        #: ``(key, name, value)``
        self.lines = lines
        #: Every key among the lines: most steps are about a header that is not there.
        self._keys = {line[0] for line in lines}

    def values(self, key: bytes) -> list[bytes]:
        """Return the values of the header ``key``."""
        return [line[2] for line in self.lines if line[0] == key] if key in self._keys else []

    def remove(self, key: bytes) -> None:
        """Remove every line of the header ``key``."""
        if key in self._keys:
            self._keys.remove(key)
            self.lines = [line for line in self.lines if line[0] != key]

    def replace(self, key: bytes, name: bytes, value: bytes | None) -> None:
        """Put one line in place of all lines of ``key``; ``None`` puts none."""
        self.remove(key)
        if value is not None:
            self._keys.add(key)
            self.lines.append((key, name, value))


Step = Callable[[Outgoing, Inbound], None]


def compile_mutation(mutation: Mutation) -> Step:
    """Return the function that applies ``mutation``; raise :exc:`ValueError` if nothing may."""
    if mutation.action is Action.SET_X_FORWARDED:
        return set_x_forwarded
    name = (mutation.name or "").encode("latin-1")
    key = key_of(name)
    if mutation.action is Action.REMOVE:
        return lambda outgoing, _: outgoing.remove(key)
    if key in NOT_ADDED or key.startswith(b"proxy-") or not name:
        raise ValueError(f"headers.mutations: {mutation.name!r} cannot be added")
    if mutation.value_from is not None:
        read = source(mutation.value_from)
        return lambda outgoing, inbound: outgoing.replace(key, name, read(inbound))
    value = (mutation.value or "").encode()
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise ValueError(f"headers.mutations: the value of {mutation.name!r} is not one line")
    return lambda outgoing, _: outgoing.replace(key, name, value)


def set_x_forwarded(outgoing: Outgoing, inbound: Inbound) -> None:
    """Set ``X-Forwarded-For``, ``-Host`` and ``-Proto`` as Go's ``ProxyRequest.SetXForwarded`` does.

    For: the client's address, appended to the chain that is there. Host: the inbound ``Host``. Proto:
    whether the inbound connection is TLS. Where that connection comes from a trusted proxy, what the
    proxy says of host and protocol is kept: it is the one that saw the client's own request.
    """
    chain = outgoing.values(b"x-forwarded-for")
    peers = b", ".join([*chain, inbound.peer]) if inbound.peer else None
    outgoing.replace(b"x-forwarded-for", b"X-Forwarded-For", peers)
    host, proto = inbound.first(b"host"), b"https" if inbound.secure else b"http"
    if inbound.trusted:
        host = inbound.first(b"x-forwarded-host") or host
        proto = inbound.first(b"x-forwarded-proto") or proto
    outgoing.replace(b"x-forwarded-host", b"X-Forwarded-Host", host)
    outgoing.replace(b"x-forwarded-proto", b"X-Forwarded-Proto", proto)


class HeaderRules:
    """All that happens to a request's headers between the client and the upstream.

    The client's ``Authorization`` passes unless a mutation removes it: the upstream is the very
    resource that the token is for, and may want to look at it.

    ``host`` is the upstream's ``Host``; cookies whose names begin with ``own_cookies`` are the
    proxy's own and stay here.
    """

    def __init__(self, mutations: Iterable[Mutation], *, host: bytes, own_cookies: bytes = b"") -> None:
        self._host = (b"host", b"Host", host)
        self._own_cookies = own_cookies
        self._steps = tuple(compile_mutation(mutation) for mutation in mutations)

    def outgoing(self, inbound: Inbound) -> list[Pair]:
        """Return the header lines for the upstream, ``Host`` first, order and duplicates kept."""
        lines = [self._host]
        connection: list[bytes] = []
        for name, value in inbound.pairs:
            key = key_of(name)
            if is_ordinary(key):
                lines.append((key, name, value))
            elif key in _NEVER_OUT or key.startswith(b"proxy-"):
                if key == b"connection":
                    connection.append(value)
            elif (key in _FORWARDED or key.startswith(b"x-forwarded-")) and not inbound.trusted:
                continue
            else:
                kept = without_cookies(value, self._own_cookies) if key == b"cookie" else value
                if kept or not value:
                    lines.append((key, name, kept))
        result = Outgoing(lines)
        if connection:
            for key in nominated(connection) - _NEVER_OUT:
                result.remove(key)
        for step in self._steps:
            step(result, inbound)
        return [(name, value) for _, name, value in result.lines]


def returning(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the upstream's header lines for the client: all but the hop-by-hop ones, in order."""
    kept: list[Pair] = []
    connection: list[bytes] = []
    for pair in pairs:
        key = key_of(pair[0])
        if key == b"connection":
            connection.append(pair[1])
        elif key not in HOP_BY_HOP and not key.startswith(b"proxy-"):
            kept.append(pair)
    gone = nominated(connection) - _REWRITTEN if connection else None
    return [pair for pair in kept if key_of(pair[0]) not in gone] if gone else kept


def without_cookies(cookie: bytes, prefix: bytes) -> bytes:
    """Return a ``Cookie`` value without the cookies whose names begin with ``prefix``."""
    if not prefix or prefix not in cookie:
        return cookie
    kept = [crumb for crumb in cookie.split(b";") if not crumb.lstrip(b" \t").startswith(prefix)]
    return b";".join(kept).strip(b" \t")
