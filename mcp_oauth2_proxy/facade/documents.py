"""Client ID metadata documents: what one must say, and the client that it makes.

draft-ietf-oauth-client-id-metadata-document section 4: the vocabulary is that of dynamic registration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mcp_oauth2_proxy.config.redirect_uris import read_redirect_uri
from mcp_oauth2_proxy.facade.clients import NONE, PRIVATE_KEY_JWT, Client, ClientKeys
from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.registration import (
    MAX_REDIRECT_URIS,
    read_grants,
    read_name,
    read_text,
    read_texts,
)
from mcp_oauth2_proxy.facade.scopes import parse_scope
from mcp_oauth2_proxy.gate.keys import KeySet

#: How a client without a shared secret can authenticate; a public document can hold no secret.
_METHODS = (NONE, PRIVATE_KEY_JWT)


def read_document(url: str, document: Mapping[str, Any]) -> Client:
    """Return the client that the ``document`` at ``url`` describes.

    :raises ValueError: saying what it "has" or "is".
    """
    if document.get("client_id") != url:
        raise ValueError("has a client_id that is not its own URL")
    if "client_secret" in document or "client_secret_expires_at" in document:
        raise ValueError("has a client secret, which would be public")
    try:
        return Client(
            client_id=url,
            redirect_uris=_redirect_uris(document),
            grants=read_grants(document),
            name=read_name(document),
            scope=parse_scope(read_text(document, "scope")),
            publisher=urlsplit(url).netloc,
            **_authentication(document),
        )
    except OAuthError as error:
        raise ValueError(f"has metadata that does not hold: {error.description}") from None


def _redirect_uris(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those redirect URIs that the rules allow: one that they do not is never led to."""
    uris = []
    for text in read_texts(document, "redirect_uris")[:MAX_REDIRECT_URIS]:
        try:
            uris.append(read_redirect_uri(text).text)
        except ValueError:
            continue
    if not uris:
        raise ValueError("has no redirect URI that is allowed")
    return tuple(dict.fromkeys(uris))


def _authentication(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the methods: the named one, and the further ones of a list that some documents have."""
    named = read_text(document, "token_endpoint_auth_method")
    listed = read_texts(document, "token_endpoint_auth_methods_supported")
    methods = list(dict.fromkeys(m for m in (named or NONE, *listed) if m in _METHODS))
    keys = _keys(document) if PRIVATE_KEY_JWT in methods else None
    if keys is None and NONE in methods:
        methods = [NONE]
    if not methods or (keys is None and methods != [NONE]):
        raise ValueError("offers neither none nor private_key_jwt with its keys to authenticate by")
    return {"auth_method": methods[0], "also": tuple(methods[1:]), "keys": keys}


def _keys(document: Mapping[str, Any]) -> ClientKeys | None:
    """Return where the keys are: in one place, or nowhere (RFC 7591 section 2 forbids two)."""
    jwks, uri = document.get("jwks"), read_text(document, "jwks_uri")
    if (jwks is None) == (uri is None) or not isinstance(jwks, dict | None):
        return None
    return ClientKeys(jwks, uri)


def read_key_set(_: str, document: Mapping[str, Any]) -> KeySet:
    """Return a client's public keys.

    :raises ValueError: it is no JWK set.
    """
    return KeySet.from_jwks(document, of_client=True)
