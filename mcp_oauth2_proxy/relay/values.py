"""Where an ``add`` mutation takes its value from (``valueFrom``). Pure.

Every source reads the request as it came in. A source that has nothing, or nothing that can stand in
a header, yields ``None``: no value, no header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from attrs import define

from mcp_oauth2_proxy.config.model import ValueFrom

Pair = tuple[bytes, bytes]

#: What a field value may hold (RFC 9110 section 5.5): no control character but the tab.
_FIELD_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]+")


@define
class Inbound:
    """A request as it came in, as far as header rules look at it.

    ``peer`` is the client's address (empty where it has none), ``trusted`` whether that peer is one
    of ``server.trustedProxies``, and ``claims`` those of the verified access token.
    """

    pairs: Sequence[Pair]
    query: bytes
    peer: bytes
    trusted: bool
    secure: bool
    claims: Mapping[str, Any]

    def first(self, key: bytes) -> bytes | None:
        """Return the first value of the header named ``key`` (lower case)."""
        for name, value in self.pairs:
            if name.lower() == key:
                return value
        return None


Source = Callable[[Inbound], bytes | None]


def source(value_from: ValueFrom) -> Source:
    """Return the function that reads what ``value_from`` names."""
    if value_from.request_header is not None:
        key = value_from.request_header.lower().encode("latin-1")
        return lambda inbound: _header_value(inbound.first(key))
    if value_from.query_parameter is not None:
        parameter = value_from.query_parameter.encode()
        return lambda inbound: _text_value(query_value(inbound.query, parameter))
    if value_from.claim is not None:
        claim = value_from.claim
        return lambda inbound: _text_value(claim_text(inbound.claims, claim))
    return lambda inbound: _header_value(bearer_token(inbound.first(b"authorization")))


def bearer_token(authorization: bytes | None) -> bytes | None:
    """Return the token of an ``Authorization`` value of the Bearer scheme (RFC 6750 section 2.1)."""
    scheme, _, token = (authorization or b"").strip(b" \t").partition(b" ")
    return token.strip(b" \t") or None if scheme.lower() == b"bearer" else None


def query_value(query: bytes, parameter: bytes) -> str | None:
    """Return the first value of ``parameter``, decoded as a form's (``+`` is a space)."""
    for field in query.split(b"&"):
        name, _, value = field.partition(b"=")
        if unquote_to_bytes(name.replace(b"+", b" ")) == parameter:
            try:
                return unquote_to_bytes(value.replace(b"+", b" ")).decode()
            except UnicodeDecodeError:
                return None
    return None


def claim_text(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a claim as the text of a header.

    ``name`` is the claim's own name or, where there is none of that name, a path with dots
    (``realm_access.roles``). Strings, numbers and booleans are themselves; a list of them is joined
    by commas. Anything else is ``None``, and so is a list with an entry that would read as two or as
    another one (a comma, blanks around it): a group called ``staff,admin`` must not make an admin.
    """
    value = claims[name] if name in claims else _at_path(claims, name.split("."))
    if not isinstance(value, list | tuple):
        return _scalar(value)
    entries = [_scalar(entry) for entry in value]
    if any(not entry or "," in entry or entry != entry.strip() for entry in entries):
        return None
    return ",".join(entry for entry in entries if entry)


def _at_path(claims: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = claims
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _scalar(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None


def _header_value(value: bytes | None) -> bytes | None:
    """Return ``value`` if it can stand in a header: header sources bring what a parser let through."""
    return value if value and _FIELD_VALUE.fullmatch(value) else None


def _text_value(text: str | None) -> bytes | None:
    """Return ``text`` in UTF-8 if it can stand in a header and reads there as itself.

    Blanks at its ends would be lost (RFC 9110 section 5.5), and with them the difference between the
    user ``admin`` and the user ``admin `` (with a blank): such a text is refused.
    """
    if not text or text != text.strip() or not text.isprintable():
        return None
    return text.encode()
