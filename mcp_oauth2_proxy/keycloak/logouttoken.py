"""Logout token validation (OpenID Connect Back-Channel Logout 1.0 section 2.6): whose session has ended."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_oauth2_proxy.gate.endings import MAX_NAME, Ending
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Refusal
from mcp_oauth2_proxy.gate.rules import LEEWAY, audiences, is_time, verify
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, LogoutToken

#: The member of ``events`` that makes a token a logout token.
EVENT = "http://schemas.openid.net/event/backchannel-logout"
#: Keycloak's own member beside it: offline sessions of the client end too.
OFFLINE_EVENT = "revoke_offline_access"
#: Section 2.4 recommends the explicit type; issuers of before it say ``JWT``.
HEADER_TYPES = frozenset({"logout+jwt", "application/logout+jwt", "jwt"})
#: Longest time between issue and expiry in seconds. The specification recommends two minutes; how long a
#: token's use has to be remembered depends on it.
MAX_LIFETIME = 3600.0


def validate_logout_token(
    token: str, *, keys: KeySet, issuer: str, client_id: str, now: float
) -> LogoutToken | Refusal:
    """Return what a good logout token says, or the :class:`Refusal` of its signature.

    A Refusal for an unknown key may be cured by a refetch, so it is returned; whatever the claims get
    wrong stays wrong.

    :raises KeycloakRefused: ``invalid_token``, naming the rule that the claims broke.
    """
    claims = verify(token, keys, HEADER_TYPES)
    if isinstance(claims, Refusal):
        return claims
    expiry, issued, token_id = claims.get("exp"), claims.get("iat"), claims.get("jti")
    session, subject = claims.get("sid"), claims.get("sub")
    rules = (
        (claims.get("iss") == issuer, "iss is not the realm"),
        (client_id in audiences(claims), "aud does not name this client"),
        (claims.get("typ", "Logout") == "Logout", "typ is not Logout"),
        (is_time(expiry) and now < expiry + LEEWAY, "exp has passed"),
        (is_time(issued) and issued <= now + LEEWAY, "iat is in the future"),
        (is_time(expiry) and is_time(issued) and expiry - issued <= MAX_LIFETIME, "exp is too far off"),
        (_is_name(token_id), "jti is missing"),
        (session is None or _is_name(session), "sid is no name"),
        (subject is None or _is_name(subject), "sub is no name"),
        (session is not None or subject is not None, "sid and sub are missing"),
        (_is_logout(claims.get("events")), "events do not say logout"),
        ("nonce" not in claims, "nonce is there: an ID token is no logout token"),
    )
    for holds, broken in rules:
        if not holds:
            raise KeycloakRefused("invalid_token", f"the logout token's {broken}")
    offline = claims["events"].get(OFFLINE_EVENT) is True
    ending = Ending(session=session, subject=subject, at=float(claims["iat"]), offline=offline)
    return LogoutToken(claims["jti"], float(claims["exp"]), ending)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_logout(events: object) -> bool:
    """The member's value is a JSON object, and should be an empty one (section 2.4)."""
    return isinstance(events, Mapping) and isinstance(events.get(EVENT), Mapping)
