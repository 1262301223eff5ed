"""The rules an access token is judged by: a pure function of (token, keys, policy, now).

They are stricter than a signature and an expiry: a Keycloak ID token is a valid, signed JWT of the
same realm, and so is every other client's access token.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import Repr
from typing import Any, TypeGuard

from mcp_oauth2_proxy.gate import jws
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.keys import ALGORITHMS, KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.resource_id import canonical

#: Longest token in bytes. Keycloak's are 1-3 KB; with hundreds of roles about 10 KB.
MAX_TOKEN_BYTES = 16 * 1024
#: Clock skew in seconds allowed for ``nbf`` and ``iat``: what Keycloak itself allows.
LEEWAY = 10.0
#: Header types of a JWT access token: RFC 7519, and RFC 9068 where the Keycloak client asks for it.
HEADER_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
#: The value of Keycloak's ``typ`` claim in an access token; ID, Refresh, Offline and Logout are others.
ACCESS_TOKEN_TYPE = "Bearer"  # noqa: S105 (a token type, no secret)

#: Foreign values in a log line: one line, unmistakably quoted, shallow (a header nested a thousand levels
#: deep must not exhaust the stack) and short.
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 8, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_MAX_SHOWN = 300


def judge(token: str, *, keys: KeySet, policy: Policy, now: float) -> Identity | Refusal:
    """Return whom ``token`` speaks for, or why it is refused.

    ``now`` is seconds since the epoch. Whether the token is meant for one resource and carries the
    required scopes is asked afterwards, of the :class:`Identity`, since it depends on the request.
    """
    claims = _verified(token, keys)
    if isinstance(claims, Refusal):
        return claims
    body, key_id = claims
    return (
        _wrong_issuer(body, policy) or _wrong_time(body, now) or _wrong_kind(body) or _identity(body, key_id)
    )


def verify(
    token: str, keys: KeySet, header_types: frozenset[str] = HEADER_TYPES
) -> Mapping[str, Any] | Refusal:
    """Return the claims of a token with a good signature; nothing about the claims has been judged."""
    claims = _verified(token, keys, header_types)
    return claims if isinstance(claims, Refusal) else claims[0]


def _verified(
    token: str, keys: KeySet, header_types: frozenset[str] = HEADER_TYPES
) -> tuple[Mapping[str, Any], str | None] | Refusal:
    if len(token) > MAX_TOKEN_BYTES:
        return _refuse(
            Reason.TOO_LARGE, "the token is too large", f"{len(token)} bytes, at most {MAX_TOKEN_BYTES}"
        )
    try:
        parts = jws.split(token)
        header = jws.header(parts.header)
    except (ValueError, RecursionError):
        return _refuse(Reason.MALFORMED, "the token is not a signed JWT")
    kind, algorithm, key_id = header.get("typ"), header.get("alg"), header.get("kid")
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in header_types):
        return _refuse(Reason.HEADER_TYPE, "the token is of another type", f"header typ is {show(kind)}")
    if "crit" in header or "b64" in header:
        return _refuse(Reason.HEADER_TYPE, "the token has extensions that are not understood")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return _refuse(Reason.ALGORITHM, "the token's algorithm is not accepted", f"alg is {show(algorithm)}")
    if key_id is not None and not isinstance(key_id, str):
        return _refuse(Reason.MALFORMED, "the token's key id is not a string")
    key = keys.find(key_id, algorithm)
    if key is None:
        return Refusal(
            Reason.UNKNOWN_KEY,
            "the token's signing key is unknown",
            f"kid {show(key_id)} is no signing key of the realm, which has {len(keys)}",
            key_id,
        )
    if algorithm not in key.algorithms:
        return _refuse(
            Reason.ALGORITHM,
            "the token's algorithm does not fit its key",
            f"alg is {show(algorithm)}, the key is for {', '.join(sorted(key.algorithms))}",
        )
    try:
        if not jws.is_signed(parts, algorithm, key.key):
            return _refuse(Reason.SIGNATURE, "the token's signature is wrong")
        body = jws.claims(parts.payload)
    except (ValueError, RecursionError):
        return _refuse(Reason.MALFORMED, "the token is not a signed JWT")
    return body, key_id


def _wrong_issuer(claims: Mapping[str, Any], policy: Policy) -> Refusal | None:
    issuer = claims.get("iss")
    if issuer == policy.issuer:
        return None
    return _refuse(
        Reason.ISSUER,
        "the token is from another issuer",
        f"iss expected {policy.issuer}, token has {show(issuer)}",
    )


def _wrong_time(claims: Mapping[str, Any], now: float) -> Refusal | None:
    """``exp`` is exact: a token is refused from that very second. ``nbf`` and ``iat`` have leeway."""
    expiry = claims.get("exp")
    if not is_time(expiry):
        return _refuse(Reason.NO_EXPIRY, "the token has no expiry")
    if now >= expiry:
        return _refuse(Reason.EXPIRED, "the token has expired", f"exp is {show(expiry)}, now is {int(now)}")
    for name in ("nbf", "iat"):
        moment = claims.get(name)
        if moment is None:
            continue
        if not is_time(moment) or moment > now + LEEWAY:
            return _refuse(
                Reason.NOT_YET_VALID,
                "the token is not valid yet",
                f"{name} is {show(moment)}, now is {int(now)}",
            )
    return None


def _wrong_kind(claims: Mapping[str, Any]) -> Refusal | None:
    kind = claims.get("typ")
    if kind is not None and kind != ACCESS_TOKEN_TYPE:
        return _refuse(
            Reason.TYPE,
            "the token is not an access token",
            f"typ expected {ACCESS_TOKEN_TYPE}, token has {show(kind)}",
        )
    if claims.get("cnf") is not None:
        return _refuse(Reason.BOUND, "the token is bound to a key and cannot be used as a Bearer token")
    return None


def _identity(claims: Mapping[str, Any], key_id: str | None) -> Identity:
    subject, client, scope = claims.get("sub"), claims.get("azp"), claims.get("scope")
    session, issued_at = claims.get("sid"), claims.get("iat")
    return Identity(
        subject=subject if isinstance(subject, str) else None,
        client=client if isinstance(client, str) else None,
        scopes=frozenset(scope.split()) if isinstance(scope, str) else frozenset(),
        audiences=audiences(claims),
        expires_at=float(claims["exp"]),
        key_id=key_id,
        session=session if isinstance(session, str) else None,
        issued_at=float(issued_at) if is_time(issued_at) else None,
        claims=claims,
    )


def audiences(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return ``aud`` as a set: it may be absent, a string or a list (RFC 7519 section 4.1.3)."""
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    return frozenset(name for name in listed if isinstance(name, str))


def meant_for_everything(identity: Identity, policy: Policy) -> bool:
    """Return whether the audience rule holds for the token whichever resource is asked for."""
    if policy.audiences:
        return not policy.audiences.isdisjoint(identity.audiences)
    return identity.client == policy.client_id


def wrong_audience(identity: Identity, policy: Policy, resource: str) -> Refusal | None:
    """Return why the token is not meant for ``resource``, or ``None`` where it is.

    Where the operator lists ``auth.audiences``, one of them must be there byte for byte. Otherwise
    ``aud`` names the resource or the whole proxy, or the token was issued to the proxy's own client.
    """
    if meant_for_everything(identity, policy):
        return None
    if policy.audiences:
        expected = "one of " + ", ".join(sorted(policy.audiences))
    else:
        wanted = {canonical(resource), canonical(policy.base_url)} - {None}
        if any(canonical(name) in wanted for name in identity.audiences):
            return None
        expected = f"{_short(resource)} or azp {policy.client_id}"
    return _refuse(
        Reason.AUDIENCE,
        "the token is meant for another resource",
        f"aud expected {expected}, token has aud {show(sorted(identity.audiences))} "
        f"and azp {show(identity.client)}",
    )


def ended(identity: Identity, endings: Endings) -> Refusal | None:
    """Return why the token is worth nothing any more although its time is not over."""
    if not endings.ended(identity.session, identity.subject, identity.issued_at):
        return None
    return _refuse(
        Reason.ENDED,
        "the session has ended",
        f"sid {show(identity.session)}, sub {show(identity.subject)}, iat {show(identity.issued_at)}",
    )


def missing_scope(identity: Identity, policy: Policy) -> Refusal | None:
    """Return the 403 refusal for a token without one of ``auth.requiredScopes``."""
    missing = policy.required_scopes - identity.scopes
    if not missing:
        return None
    return _refuse(
        Reason.SCOPE,
        "the token lacks a required scope",
        f"missing {', '.join(sorted(missing))}, token has {show(sorted(identity.scopes))}",
    )


def inactive(identity: Identity, policy: Policy) -> Refusal:
    """Return the refusal of a token that is good in all but this: Keycloak calls it inactive (RFC 7662)."""
    detail = "Keycloak says that its session has ended, or that it was revoked"
    if not may_be_introspected(identity, policy):
        detail = (
            f"Keycloak says so of every token whose aud does not name who asks, {policy.client_id}: this one "
            f"has aud {show(sorted(identity.audiences))}"
        )
    return _refuse(Reason.INACTIVE, "the token is no longer active", detail)


def may_be_introspected(identity: Identity, policy: Policy) -> bool:
    """Return whether Keycloak tells us about the token: since 26.6.2 only to who is in its ``aud``."""
    return policy.client_id in identity.audiences


def _refuse(reason: Reason, description: str, detail: str = "") -> Refusal:
    return Refusal(reason, description, detail)


def is_time(value: object) -> TypeGuard[float]:
    """Return whether a claim is a usable NumericDate (RFC 7519 section 2).

    NaN and infinities are JSON to Python but no times: they compare false, or for ever true.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def show(value: object) -> str:
    """Return a foreign value for a log line."""
    return _short(_SHORT.repr(value))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
