"""ID token validation (OpenID Connect Core 1.0 section 3.1.3.7): who has just logged in, and for whom."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Refusal
from mcp_oauth2_proxy.gate.rules import LEEWAY, audiences, is_time, verify
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused


def validate_id_token(
    id_token: str, *, keys: KeySet, issuer: str, client_id: str, nonce: str, now: float
) -> Mapping[str, Any] | Refusal:
    """Return the claims of a good ID token, or the :class:`Refusal` of its signature.

    A Refusal for an unknown key may be cured by a refetch, so it is returned; whatever the claims get
    wrong stays wrong.

    :raises KeycloakRefused: ``invalid_token``, naming the rule that the claims broke.
    """
    claims = verify(id_token, keys, frozenset({"jwt"}))
    if isinstance(claims, Refusal):
        return claims
    expiry, issued = claims.get("exp"), claims.get("iat")
    sent_nonce = claims.get("nonce")
    rules = (
        (claims.get("iss") == issuer, "iss is not the realm"),
        (client_id in audiences(claims), "aud does not name this client"),
        (claims.get("azp", client_id) == client_id, "azp is another client"),
        (claims.get("typ", "ID") == "ID", "typ is not ID"),
        (is_time(expiry) and now < expiry + LEEWAY, "exp has passed"),
        (is_time(issued) and issued <= now + LEEWAY, "iat is in the future"),
        (
            isinstance(sent_nonce, str) and hmac.compare_digest(_bytes(sent_nonce), _bytes(nonce)),
            "nonce is not the one of this login",
        ),
        (isinstance(claims.get("sub"), str) and claims["sub"] != "", "sub is missing"),
    )
    for holds, broken in rules:
        if not holds:
            raise KeycloakRefused("invalid_token", f"the ID token's {broken}")
    return claims


def _bytes(text: str) -> bytes:
    """Return ``text`` for a comparison; JSON can hold lone surrogates, which have no plain UTF-8."""
    return text.encode("utf-8", "surrogatepass")
