"""Client assertions: a client proves itself by a JWT that it has signed (RFC 7523 sections 2.2 and 3)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import jwt
from attrs import frozen
from jwt.utils import base64url_decode

from mcp_oauth2_proxy.facade.clients import Client
from mcp_oauth2_proxy.facade.errors import ClientAuthenticationError, Reason
from mcp_oauth2_proxy.facade.sealing import digest
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Refusal
from mcp_oauth2_proxy.gate.rules import MAX_TOKEN_BYTES, audiences, is_time, show, verify

#: RFC 7521 section 4.2: the one kind of assertion there is here.
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: Seconds by which a client's clock may differ.
SKEW = 60.0
#: Seconds for which an assertion may be good: its use is remembered for as long.
MAX_LIFETIME = 3600.0
_HEADER_TYPES = frozenset({"jwt", "client-authentication+jwt"})


@frozen
class Assertion:
    """A good assertion: the name under which its use is remembered, and for how many seconds."""

    name: str
    remember: float


def issuer_of(assertion: str) -> str | None:
    """Return the client that an assertion claims to come from; nothing about it has been verified."""
    if len(assertion) > MAX_TOKEN_BYTES:
        return None
    try:
        claims = json.loads(base64url_decode(assertion.split(".")[1]))
    except (ValueError, IndexError, RecursionError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) and issuer else None


def key_id_of(assertion: str) -> str | None:
    """Return the key id in an assertion's header, unverified."""
    try:
        key_id = jwt.get_unverified_header(assertion).get("kid")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None
    return key_id if isinstance(key_id, str) else None


def check_assertion(
    assertion: str, client: Client, *, keys: KeySet, accepted: Collection[str], now: float
) -> Assertion:
    """Return ``assertion`` when it proves ``client``; ``accepted`` are the audiences that mean this server.

    Raises ``invalid_client``. That it is used once only is for the caller to see to.
    """
    claims = verify(assertion, keys, _HEADER_TYPES)
    if isinstance(claims, Refusal):
        raise refused(claims.description, claims.detail)
    for name in ("iss", "sub"):
        if claims.get(name) != client.client_id:
            raise refused(f"its {name} is not the client", f"{name} is {show(claims.get(name))}")
    if not audiences(claims) & frozenset(accepted):
        named = show(sorted(audiences(claims)))
        raise refused("it is meant for another server", f"aud is {named}, expected {', '.join(accepted)}")
    expiry = _time(claims, "exp", required=True)
    if expiry is None or now >= expiry + SKEW:
        raise refused("it has expired", f"exp is {expiry}, now is {now:.0f}")
    if expiry > now + MAX_LIFETIME + SKEW:
        raise refused(
            f"it is good for longer than {MAX_LIFETIME:.0f} s", f"exp is {expiry}, now is {now:.0f}"
        )
    for name in ("nbf", "iat"):
        moment = _time(claims, name)
        if moment is not None and moment > now + SKEW:
            raise refused(f"its {name} is in the future", f"{name} is {moment}, now is {now:.0f}")
    token_id = claims.get("jti")
    # Without an id of its own it is known by what was signed; signatures of one text can differ.
    named = token_id if isinstance(token_id, str) and token_id else assertion.rpartition(".")[0]
    return Assertion(digest("assertion", client.client_id, named), expiry + SKEW - now)


def refused(what: str, detail: str = "") -> ClientAuthenticationError:
    """Return the refusal of an assertion: 401 ``invalid_client``."""
    return ClientAuthenticationError(
        f"the client assertion is refused: {what}", reason=Reason.CLIENT_ASSERTION, basic=False, detail=detail
    )


def _time(claims: Mapping[str, Any], name: str, *, required: bool = False) -> float | None:
    value = claims.get(name)
    if value is None and not required:
        return None
    if not is_time(value):
        raise refused(f"its {name} is missing or no time")
    return value
