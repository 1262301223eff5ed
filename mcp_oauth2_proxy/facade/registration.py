"""Dynamic client registration (RFC 7591): a client's metadata in, what was registered out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcp_oauth2_proxy.facade.clients import (
    AUTH_METHODS,
    BASIC,
    CODE_GRANT,
    GRANTS,
    NONE,
    Client,
    client_secret,
    issue_client_id,
)
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason
from mcp_oauth2_proxy.facade.redirects import Permitted, parse_redirect_uri
from mcp_oauth2_proxy.facade.scopes import narrow, parse_scope
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer

#: Redirect URIs of one client; VS Code, the longest in the field, sends four.
MAX_REDIRECT_URIS = 20
#: Characters of a name; longer ones are cut.
MAX_CLIENT_NAME = 200
#: Bytes of the record that is sealed into the client_id: 8 KiB become at most 11 KiB of client_id,
#: which still fits a browser's URL and the wire's head of 64 KiB.
MAX_RECORD = 8 * 1024


def read_registration(
    document: Mapping[str, Any], *, supported: frozenset[str] | None, permitted: Permitted
) -> dict[str, Any]:
    """Return the record that registration ``document`` comes to, narrowed to what is supported.

    Unknown fields are ignored, unknown grants and redirect URIs that are not ``permitted`` dropped (RFC
    7591 sections 2 and 3.2.1). Raises ``invalid_redirect_uri`` or ``invalid_client_metadata``.
    """
    client = Client(
        client_id="",
        redirect_uris=_redirect_uris(document, permitted),
        auth_method=_auth_method(document),
        grants=read_grants(document),
        name=read_name(document),
        scope=narrow(parse_scope(read_text(document, "scope")), supported),
    )
    record = client.to_record()
    if len(json.dumps(record, ensure_ascii=False).encode("utf-8")) > MAX_RECORD:
        raise _refuse("the registration is too large")
    return record


def registration_response(record: dict[str, Any], *, sealer: Sealer, ttl: float) -> dict[str, Any]:
    """Return the body of the 201 answer (RFC 7591 section 3.2.1): no member is ever null.

    ``ttl`` is how long the registration holds, in seconds; 0 for ever.
    """
    client_id = issue_client_id(record, sealer)
    issued_at = sealer.sealed_at(Purpose.CLIENT, client_id)
    response: dict[str, Any] = {
        "client_id": client_id,
        "client_id_issued_at": issued_at,
        "redirect_uris": record["r"],
        "token_endpoint_auth_method": record["m"],
        "grant_types": record["g"],
        "response_types": ["code"],
    }
    if record["n"]:
        response["client_name"] = record["n"]
    if record["s"]:
        response["scope"] = " ".join(record["s"])
    if record["m"] != NONE:
        response["client_secret"] = client_secret(client_id, sealer)
        response["client_secret_expires_at"] = issued_at + int(ttl) if ttl else 0
    return response


def _redirect_uris(document: Mapping[str, Any], permitted: Permitted) -> tuple[str, ...]:
    texts = read_texts(document, "redirect_uris", code="invalid_redirect_uri")
    if not texts:
        raise _refuse("redirect_uris is missing or empty", code="invalid_redirect_uri")
    if len(texts) > MAX_REDIRECT_URIS:
        raise _refuse(f"more than {MAX_REDIRECT_URIS} redirect URIs", code="invalid_redirect_uri")
    uris = [parse_redirect_uri(text) for text in texts]
    # Apps register every place they might need at once: one that is not permitted costs that place only.
    kept = dict.fromkeys(uri.text for uri in uris if permitted(uri))
    if not kept:
        raise OAuthError(
            "invalid_redirect_uri",
            400,
            "this server leads to none of these redirect URIs",
            reason=Reason.REDIRECT_DENIED,
            detail="asked for " + ", ".join(uri.target for uri in uris),
        )
    return tuple(kept)


def _auth_method(document: Mapping[str, Any]) -> str:
    # Absent means client_secret_basic (RFC 7591 section 2). A method that is not offered is replaced by
    # it, which section 3.2.1 allows and the response names: refusing would shut the client out for good.
    method = read_text(document, "token_endpoint_auth_method")
    return method if method in AUTH_METHODS else BASIC


def read_grants(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the grants of client metadata, narrowed to ours; raises ``invalid_client_metadata``."""
    asked = read_texts(document, "grant_types")
    # Absent, RFC 7591 says the code grant alone; a refresh token too spares people a login every few
    # minutes, and the response says so.
    grants = tuple(grant for grant in GRANTS if not asked or grant in asked)
    if CODE_GRANT not in grants:
        raise _refuse("grant_types must contain authorization_code")
    response_types = read_texts(document, "response_types")
    if response_types and "code" not in response_types:
        raise _refuse("response_types must contain code")
    return grants


def read_name(document: Mapping[str, Any]) -> str | None:
    """Return the name in client metadata, cut where it is too long."""
    name = (read_text(document, "client_name") or "")[:MAX_CLIENT_NAME].strip()
    return name or None


def read_text(document: Mapping[str, Any], name: str) -> str | None:
    """Return a member that is text; empty and null are as if absent."""
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise _refuse(f"{name} must be a string")


def read_texts(document: Mapping[str, Any], name: str, *, code: str = "invalid_client_metadata") -> list[str]:
    """Return a member that is a list of texts."""
    value = document.get(name)
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _refuse(f"{name} must be a list of strings", code=code)


def _refuse(description: str, *, code: str = "invalid_client_metadata") -> OAuthError:
    return OAuthError(code, 400, description, reason=Reason.METADATA)
