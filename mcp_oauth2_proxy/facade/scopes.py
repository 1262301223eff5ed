"""Scopes (RFC 6749 section 3.3): what a client asks for, what Keycloak is asked for, what was granted.

Keycloak refuses the whole login for one unknown scope name, and real clients send unknown ones; so
scopes are narrowed silently and the answer says what remained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mcp_oauth2_proxy.config.model import Auth

#: Scopes of one request, and characters of one scope; more are dropped.
MAX_SCOPES = 64
MAX_SCOPE = 128

#: OpenID Connect Core sections 5.4 and 11: the realm's own vocabulary beside the operator's.
OIDC_SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})

_TOKEN = re.compile(rf"[\x21\x23-\x5b\x5d-\x7e]{{1,{MAX_SCOPE}}}")


def parse_scope(text: str | None) -> tuple[str, ...]:
    """Return the scopes of a ``scope`` parameter: trimmed, each once, what is no scope dropped."""
    found = (name for name in (text or "").split() if _TOKEN.fullmatch(name))
    return tuple(dict.fromkeys(found))[:MAX_SCOPES]


def supported_scopes(auth: Auth, discovered: Iterable[str]) -> frozenset[str] | None:
    """Return the scopes that a client may ask for, ``None`` where nothing is known about it.

    ``discovered`` is the realm's ``scopes_supported``: outside it Keycloak answers ``invalid_scope``.
    With ``oidcScopes`` the client's scopes never reach Keycloak, so the advertised ones stand alone.
    """
    known = frozenset(discovered)
    wanted = frozenset(auth.scopes_supported)
    if auth.oidc_scopes:
        return wanted | OIDC_SCOPES if wanted else None
    if not known:
        return wanted | OIDC_SCOPES if wanted else None
    return known & (wanted | OIDC_SCOPES) if wanted else known


def narrow(scopes: Iterable[str], supported: frozenset[str] | None) -> tuple[str, ...]:
    """Return those of ``scopes`` that are supported, in their order."""
    return tuple(scope for scope in scopes if supported is None or scope in supported)


def upstream_scopes(requested: tuple[str, ...], auth: Auth, discovered: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes for Keycloak: ``oidcScopes`` where set, else what was asked for and is supported.

    ``openid`` is always among them, because the login is proven by an ID token. A client that asks
    for nothing gets what the gate requires.
    """
    if auth.oidc_scopes:
        chosen: tuple[str, ...] = auth.oidc_scopes
    else:
        chosen = narrow(requested or auth.required_scopes, supported_scopes(auth, discovered))
    return tuple(dict.fromkeys(("openid", *chosen)))


def granted_scope(requested: tuple[str, ...], granted: str | None, auth: Auth) -> str | None:
    """Return the token response's ``scope`` (RFC 6749 section 5.1).

    Of what the client asked for, what Keycloak granted; with ``oidcScopes`` the scopes advertised here
    are this facade's own, and it grants them. Scopes that the client never asked for (``openid`` is
    added here) are not named: Python SDKs of the 1.x line refuse a token that carries any.
    """
    given = parse_scope(granted)
    ours = auth.scopes_supported if auth.oidc_scopes else ()
    kept = [scope for scope in requested if scope in given or scope in ours]
    return " ".join(kept or given) or None
