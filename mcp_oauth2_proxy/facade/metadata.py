"""The metadata documents: RFC 9728 for the resource, RFC 8414 for the authorization server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from mcp_oauth2_proxy.config.model import Auth, Registration
from mcp_oauth2_proxy.facade.clients import AUTH_METHODS, GRANTS, PRIVATE_KEY_JWT
from mcp_oauth2_proxy.gate.keys import ALGORITHMS
from mcp_oauth2_proxy.gate.resource_id import resource_url

#: Seconds a document may be cached: clients look once a connection, and a change should be seen soon.
MAX_AGE = 300
#: A refresh token is asked for here, at the authorization server, never by the resource.
_NOT_A_RESOURCE_SCOPE = "offline_access"


def issuer(auth: Auth) -> str:
    """Return the one spelling of the issuer: ``baseUrl`` without a trailing slash."""
    return auth.base_url.rstrip("/")


def suffix_path(segments: list[bytes], base_url: str) -> str:
    """Return the path that a well-known URL's suffix means, below the base URL.

    ``segments`` are the decoded segments behind the well-known name. The suffix of a base URL with a
    path starts with that path (RFC 8414 section 3.1, RFC 9728 section 3.1); where an ingress or the
    root has removed it, the rest alone arrives.
    """
    # A lone empty segment is the trailing slash of the root form and means the root.
    given = [] if segments == [b""] else segments
    base = [part.encode() for part in urlsplit(base_url).path.split("/") if part]
    if base and given[: len(base)] == base:
        given = given[len(base) :]
    return "".join("/" + quote(segment, safe="!$&'()*+,;=:@~") for segment in given)


def protected_resource(auth: Auth, path: str) -> dict[str, Any]:
    """Return the document of the resource at ``path``; ``resource`` is what a person types for it."""
    document: dict[str, Any] = {
        "resource": resource_url(auth.base_url, path),
        "authorization_servers": list(auth.authorization_servers or (issuer(auth),)),
        "bearer_methods_supported": ["header"],
    }
    scopes = [scope for scope in auth.scopes_supported if scope != _NOT_A_RESOURCE_SCOPE]
    if scopes:
        document["scopes_supported"] = scopes
    return document


def authorization_server(auth: Auth) -> dict[str, Any]:
    """Return the authorization server's document (RFC 8414 section 2).

    The last three members are what OpenID Connect Discovery 1.0 section 3 requires besides: some
    clients look at that URL only. Tokens are Keycloak's, and so are the keys, at their public place.
    """
    base = issuer(auth)
    methods = [*AUTH_METHODS, PRIVATE_KEY_JWT] if auth.cimd.enabled else list(AUTH_METHODS)
    document: dict[str, Any] = {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint": f"{base}/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": methods,
        "client_id_metadata_document_supported": auth.cimd.enabled,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "jwks_uri": f"{auth.issuer_url.rstrip('/')}/protocol/openid-connect/certs",
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    if auth.registration is not Registration.OFF:
        document["registration_endpoint"] = f"{base}/oauth/register"
    if auth.cimd.enabled:
        for endpoint in ("token", "revocation"):
            document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = sorted(ALGORITHMS)
    if auth.scopes_supported:
        document["scopes_supported"] = list(auth.scopes_supported)
    return document
