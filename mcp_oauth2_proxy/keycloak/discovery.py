"""The realm's discovery document (OpenID Connect Discovery 1.0 section 3), judged before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable, ProviderMetadata

WELL_KNOWN = "/.well-known/openid-configuration"
#: Longest issuer, in characters, that a message shows.
MAX_ISSUER = 300


class IssuerMismatch(Exception):
    """The document is of another issuer than the one configured: nothing will work until one changes."""

    def __init__(self, *, configured: str, found: str, url: str) -> None:
        super().__init__(
            f"auth.issuerUrl is {configured!r} but the discovery document at {url} says its issuer is "
            f"{found[:MAX_ISSUER]!r}; make them equal, byte for byte (set auth.issuerUrl to what tokens "
            "carry as iss, and auth.discoveryUrl where the realm is reached by another URL)"
        )


def discovery_url(issuer_url: str, configured: str | None) -> str:
    """Return where the document is: ``auth.discoveryUrl``, which may be the realm's URL or the document's."""
    url = configured or issuer_url
    return url if url.endswith(WELL_KNOWN) else url.rstrip("/") + WELL_KNOWN


def parse_discovery(document: Mapping[str, Any], *, issuer: str, url: str) -> ProviderMetadata:
    """Return what the proxy needs of the document.

    :raises IssuerMismatch: the issuer differs from ``issuer``, byte for byte.
    :raises KeycloakUnavailable: the document is no discovery document (an ingress may answer before
        Keycloak does), or a required endpoint is missing or no absolute http(s) URL.
    """
    found = document.get("issuer")
    if not isinstance(found, str) or not found:
        raise KeycloakUnavailable(f"the discovery document at {url} names no issuer")
    if found != issuer:
        raise IssuerMismatch(configured=issuer, found=found, url=url)
    scopes = document.get("scopes_supported")
    return ProviderMetadata(
        issuer=issuer,
        authorization_endpoint=_endpoint(document, "authorization_endpoint", url),
        token_endpoint=_endpoint(document, "token_endpoint", url),
        jwks_uri=_endpoint(document, "jwks_uri", url),
        revocation_endpoint=_optional_endpoint(document, "revocation_endpoint"),
        end_session_endpoint=_optional_endpoint(document, "end_session_endpoint"),
        introspection_endpoint=_optional_endpoint(document, "introspection_endpoint"),
        scopes_supported=tuple(scope for scope in scopes if isinstance(scope, str))
        if isinstance(scopes, list)
        else (),
    )


def _endpoint(document: Mapping[str, Any], name: str, url: str) -> str:
    value = _optional_endpoint(document, name)
    if value is None:
        raise KeycloakUnavailable(f"the discovery document at {url} has no usable {name}")
    return value


def _optional_endpoint(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if not isinstance(value, str):
        return None
    try:
        split = urlsplit(value)
    except ValueError:
        return None
    return value if split.scheme in ("http", "https") and split.hostname else None
