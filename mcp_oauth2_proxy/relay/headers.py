"""What becomes of header lines on their way through: pure rules over ordered byte pairs.

The configuration is compiled once, at start; a request then runs through plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from mcp_oauth2_proxy.config.model import Action, Mutation
from mcp_oauth2_proxy.relay.values import Inbound, Pair, Source, source
from mcp_oauth2_proxy.wire.names import by_name

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
#: ``Connection`` values that nominate nothing.
_NOMINATE_NOTHING = frozenset({b"keep-alive", b"close"})


@by_name
def key_of(name: bytes) -> bytes:
    """Return the name under which a header is compared.

    Servers that hand headers on as variables (CGI, WSGI) see ``X_User`` and ``X-User`` as one, so a
    header that a rule removes or sets is removed in both spellings.
    """
    return name.lower().replace(b"_", b"-")


@by_name
def _ends_here(name: bytes) -> bool:
    """Return whether a header of that name speaks about one connection."""
    key = key_of(name)
    return key in HOP_BY_HOP or key.startswith(b"proxy-")


class Fate(Enum):
    """What becomes of a request's header line, as far as its name says."""

    PASSES = "it passes, whatever it says and whoever sends it"
    ENDS = "it speaks about one connection, or is written anew"
    IF_TRUSTED = "it passes where a trusted proxy sends it"
    COOKIE = "it passes without the proxy's own cookies"


@by_name
def fate_of(name: bytes) -> Fate:
    """Return what becomes of a request's header line of that name."""
    key = key_of(name)
    if key in _NEVER_OUT or key.startswith(b"proxy-"):
        return Fate.ENDS
    if key in _FORWARDED or key.startswith(b"x-forwarded-"):
        return Fate.IF_TRUSTED
    return Fate.COOKIE if key == b"cookie" else Fate.PASSES


def nominated(pairs: Iterable[Pair]) -> frozenset[bytes]:
    """Return the keys of headers that ``Connection`` lines declare to be hop-by-hop."""
    values = [value for name, value in pairs if key_of(name) == b"connection"]
    if not values or _NOMINATE_NOTHING.issuperset(values):
        return frozenset()
    return frozenset(key_of(name.strip(b" \t")) for value in values for name in value.split(b","))


class Outgoing:
    """The header lines of the upstream's request while they are being made."""

    __slots__ = ("lines",)

    def __init__(self, lines: list[Pair]) -> None:
        self.lines = lines

    def values(self, key: bytes) -> list[bytes]:
        """Return the values of the header ``key``."""
        return [value for name, value in self.lines if key_of(name) == key]

    def remove(self, *keys: bytes) -> None:
        """Remove every line of the headers ``keys``, of which there may be thousands."""
        gone = frozenset(keys)
        self.lines = [pair for pair in self.lines if key_of(pair[0]) not in gone]

    def append(self, name: bytes, value: bytes | None) -> None:
        """Add a line; ``None`` adds none."""
        if value is not None:
            self.lines.append((name, value))


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
        return _add(key, name, source(mutation.value_from))
    value = (mutation.value or "").encode()
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise ValueError(f"headers.mutations: the value of {mutation.name!r} is not one line")
    return _add(key, name, lambda _: value)


def _add(key: bytes, name: bytes, read: Source) -> Step:
    """Return the step that puts one line in place of all lines of ``key``, or none where nothing is read."""

    def add(outgoing: Outgoing, inbound: Inbound) -> None:
        outgoing.remove(key)
        outgoing.append(name, read(inbound))

    return add


def set_x_forwarded(outgoing: Outgoing, inbound: Inbound) -> None:
    """Set ``X-Forwarded-For``, ``-Host`` and ``-Proto`` as Go's ``ProxyRequest.SetXForwarded`` does.

    For: the client's address, appended to the chain that is there. Host: the inbound ``Host``. Proto:
    whether the inbound connection is TLS. Where that connection comes from a trusted proxy, what the
    proxy says of host and protocol is kept: it is the one that saw the client's own request.
    """
    chain = outgoing.values(b"x-forwarded-for")
    host, proto = inbound.first(b"host"), b"https" if inbound.secure else b"http"
    if inbound.trusted:
        host = inbound.first(b"x-forwarded-host") or host
        proto = inbound.first(b"x-forwarded-proto") or proto
    outgoing.remove(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
    outgoing.append(b"X-Forwarded-For", b", ".join([*chain, inbound.peer]) if inbound.peer else None)
    outgoing.append(b"X-Forwarded-Host", host)
    outgoing.append(b"X-Forwarded-Proto", proto)


class HeaderRules:
    """All that happens to a request's headers between the client and the upstream.

    The client's ``Authorization`` passes unless a mutation removes it: the upstream is the very
    resource that the token is for, and may want to look at it.

    ``host`` is the upstream's ``Host``; cookies whose names begin with ``own_cookies`` are the
    proxy's own and stay here.
    """

    def __init__(self, mutations: Iterable[Mutation], *, host: bytes, own_cookies: bytes = b"") -> None:
        self._host = (b"Host", host)
        self._own_cookies = own_cookies
        mutations = tuple(mutations)
        self._steps = tuple(compile_mutation(mutation) for mutation in mutations)
        #: Whether a rule reads the length, in which requests differ whose heads are the same in all else.
        self.by_length = any(
            mutation.value_from is not None
            and (mutation.value_from.request_header or "").lower() == "content-length"
            for mutation in mutations
        )

    def outgoing(self, inbound: Inbound) -> list[Pair]:
        """Return the header lines for the upstream, ``Host`` first, order and duplicates kept."""
        lines = [self._host]
        for pair in inbound.pairs:
            fate = fate_of(pair[0])
            if fate is Fate.PASSES or (fate is Fate.IF_TRUSTED and inbound.trusted):
                lines.append(pair)
            elif fate is Fate.COOKIE:
                name, value = pair
                kept = without_cookies(value, self._own_cookies)
                if kept or not value:
                    lines.append((name, kept))
        result = Outgoing(lines)
        if gone := nominated(inbound.pairs) - _NEVER_OUT:
            result.remove(*gone)
        for step in self._steps:
            step(result, inbound)
        return result.lines


def returning(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the upstream's header lines for the client: all but the hop-by-hop ones, in order."""
    kept = [pair for pair in pairs if not _ends_here(pair[0])]
    if len(kept) != len(pairs) and (gone := nominated(pairs) - _REWRITTEN):
        return [pair for pair in kept if key_of(pair[0]) not in gone]
    return kept


def without_cookies(cookie: bytes, prefix: bytes) -> bytes:
    """Return a ``Cookie`` value without the cookies whose names begin with ``prefix``."""
    if not prefix or prefix not in cookie:
        return cookie
    kept = [crumb for crumb in cookie.split(b";") if not crumb.lstrip(b" \t").startswith(prefix)]
    return b";".join(kept).strip(b" \t")
