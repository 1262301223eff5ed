"""Keycloak's endpoints for tokens: what their answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_oauth2_proxy.gate import jws
from mcp_oauth2_proxy.gate.endings import MAX_NAME
from mcp_oauth2_proxy.gate.rules import is_time
from mcp_oauth2_proxy.keycloak.http import Answer
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable, TokenResponse

#: Longest token taken over, in bytes: what a header line of the gate and of usual servers still holds.
MAX_TOKEN = 16 * 1024
#: Errors that are about this proxy's own client, not about the user's grant: the operator's to mend.
OPERATORS_ERRORS = frozenset({"invalid_client", "unauthorized_client"})
#: Client errors that pass by themselves: request timeout, too many requests.
TRY_AGAIN = frozenset({408, 429})


def parse_token_response(answer: Answer, *, url: str) -> TokenResponse:
    """Return the tokens of a successful answer (RFC 6749 section 5.1).

    :raises KeycloakRefused: Keycloak's own error (section 5.2) about the grant.
    :raises KeycloakUnavailable: a 5xx, an answer that is neither, or an error about this proxy's client:
        the client of the facade can mend none of these, and may try again.
    """
    body = answer.body
    if answer.status != 200:
        error = body.get("error")
        if (
            400 <= answer.status < 500
            and answer.status not in TRY_AGAIN
            and isinstance(error, str)
            and error not in OPERATORS_ERRORS
        ):
            raise KeycloakRefused(error[:64], _text(body, "error_description", 300) or "")
        raise KeycloakUnavailable(complaint(answer, url))
    access_token = _text(body, "access_token", MAX_TOKEN)
    if access_token is None or str(body.get("token_type", "")).lower() != "bearer":
        raise KeycloakUnavailable(f"POST {url}: status 200 without a Bearer access_token")
    claims = _claims(access_token)
    issued_at = claims.get("iat")
    return TokenResponse(
        access_token=access_token,
        expires_in=_seconds(body, "expires_in"),
        refresh_token=_text(body, "refresh_token", MAX_TOKEN),
        refresh_expires_in=_seconds(body, "refresh_expires_in"),
        id_token=_text(body, "id_token", MAX_TOKEN),
        scope=_text(body, "scope", 4096),
        session=_text(claims, "sid", MAX_NAME),
        subject=_text(claims, "sub", MAX_NAME),
        issued_at=float(issued_at) if is_time(issued_at) else None,
    )


def _claims(access_token: str) -> Mapping[str, Any]:
    """Return what the token says; it comes from Keycloak itself, so its signature need not be asked.

    A token that is no JWT says nothing: it is the client's all the same.
    """
    try:
        return jws.claims(jws.split(access_token).payload)
    except (ValueError, RecursionError):
        return {}


def parse_introspection(answer: Answer, *, url: str) -> bool:
    """Return what the introspection endpoint says of a token (RFC 7662 section 2.2).

    :raises KeycloakUnavailable: every answer that is no plain yes or no; none of them is the token's fault.
    """
    active = answer.body.get("active")
    if answer.status != 200 or not isinstance(active, bool):
        raise KeycloakUnavailable(complaint(answer, url))
    return active


def complaint(answer: Answer, url: str) -> str:
    """Return what Keycloak answered in place of what was asked for, in one line for the log."""
    error = _text(answer.body, "error", 64) or "no error code"
    description = _text(answer.body, "error_description", 300) or ""
    advice = " (check auth.clientId and auth.clientSecret)" if error in OPERATORS_ERRORS else ""
    return f"POST {url}: status {answer.status}, {error!r} {description!r}{advice}"


def _text(body: Mapping[str, Any], name: str, limit: int) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= limit else None


def _seconds(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
