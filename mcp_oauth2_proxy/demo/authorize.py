"""The authorization endpoint's rules, in Keycloak's order: pure functions of the parameters and the realm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from attrs import frozen

from mcp_oauth2_proxy.demo.realm import RealmDefinition
from mcp_oauth2_proxy.demo.sessions import AuthorizationRequest

#: RFC 7636 section 4.2: 43 to 128 unreserved characters.
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@frozen
class Untrusted:
    """The redirect URI is not proven: the user sees a page that says why."""

    message: str


@frozen
class Rejected:
    """The client hears of the error at its redirect URI (RFC 6749 section 4.1.2.1)."""

    redirect_uri: str
    state: str | None
    error: str
    description: str | None = None


def check(
    parameters: Mapping[str, str], duplicated: bool, realm: RealmDefinition
) -> AuthorizationRequest | Untrusted | Rejected:
    """Judge an authorization request."""
    client = realm.client(parameters.get("client_id"))
    if client is None:
        return Untrusted("Client not found.")
    redirect_uri = parameters.get("redirect_uri", "")
    if not client.standard_flow or not client.allows_redirect(redirect_uri):
        return Untrusted("Invalid parameter: redirect_uri")
    fault = _fault(parameters, duplicated, realm)
    if fault is not None:
        return Rejected(redirect_uri, parameters.get("state"), *fault)
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        scope=parameters.get("scope"),
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
        code_challenge=parameters.get("code_challenge"),
        code_challenge_method=parameters.get("code_challenge_method", "plain"),
        prompt=parameters.get("prompt"),
    )


def _fault(
    parameters: Mapping[str, str], duplicated: bool, realm: RealmDefinition
) -> tuple[str, str | None] | None:
    """Return the error code and description of the first rule that is broken."""
    if duplicated:
        return "invalid_request", "duplicated parameter"
    if "response_type" not in parameters:
        return "invalid_request", "Missing parameter: response_type"
    if parameters["response_type"] != "code":
        return "unsupported_response_type", None
    scope = parameters.get("scope")
    if scope is not None and not realm.scope_is_valid(scope):
        return "invalid_scope", f"Invalid scopes: {scope}"
    if parameters.get("code_challenge_method", "plain") not in ("plain", "S256"):
        return "invalid_request", "Invalid parameter: code_challenge_method"
    challenge = parameters.get("code_challenge")
    if challenge is not None and not _CHALLENGE.fullmatch(challenge):
        return "invalid_request", "Invalid parameter: code_challenge"
    return None


def answer(redirect_uri: str, parameters: Mapping[str, str | None]) -> str:
    """Return ``redirect_uri`` with the parameters that have a value in its query."""
    present = {name: value for name, value in parameters.items() if value is not None}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(present)}"
