"""The realm's discovery document: the part of Keycloak's that this provider really does."""

from __future__ import annotations

from typing import Any

from mcp_oauth2_proxy.demo.realm import OPTIONAL_SCOPES, SHOWN_SCOPES, SILENT_SCOPES, RealmDefinition

_CLIENT_AUTHENTICATION = ["client_secret_basic", "client_secret_post"]


def discovery_document(realm: RealmDefinition, issuer: str) -> dict[str, Any]:
    """Return the document of OpenID Connect Discovery 1.0 for the realm at ``issuer``."""
    endpoints = f"{issuer}/protocol/openid-connect"
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{endpoints}/auth",
        "token_endpoint": f"{endpoints}/token",
        "end_session_endpoint": f"{endpoints}/logout",
        "jwks_uri": f"{endpoints}/certs",
        "introspection_endpoint": f"{endpoints}/token/introspect",
        "revocation_endpoint": f"{endpoints}/revoke",
        "grant_types_supported": ["authorization_code", "password", "refresh_token"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "prompt_values_supported": ["none", "login"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": _CLIENT_AUTHENTICATION,
        "revocation_endpoint_auth_methods_supported": _CLIENT_AUTHENTICATION,
        "introspection_endpoint_auth_methods_supported": _CLIENT_AUTHENTICATION,
        "scopes_supported": [
            "openid",
            *SHOWN_SCOPES,
            *SILENT_SCOPES,
            *OPTIONAL_SCOPES,
            *realm.extra_scopes,
        ],
        "code_challenge_methods_supported": ["plain", "S256"],
        "authorization_response_iss_parameter_supported": True,
    }
