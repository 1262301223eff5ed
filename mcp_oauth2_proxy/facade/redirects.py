"""Redirect URIs at the facade: their refusal as an OAuth error, the operator's lists, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode

from mcp_oauth2_proxy.config.redirect_uris import RedirectUri, read_redirect_uri
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason

#: Whether the operator lets clients that register themselves lead to a place.
Permitted = Callable[[RedirectUri], bool]


def parse_redirect_uri(text: str) -> RedirectUri:
    """Return ``text`` as a :class:`RedirectUri`, or raise ``invalid_redirect_uri`` (RFC 7591 3.2.2)."""
    try:
        return read_redirect_uri(text)
    except ValueError as error:
        raise OAuthError(
            "invalid_redirect_uri", 400, f"a redirect URI {error}", reason=Reason.REDIRECT_URI
        ) from None


def permitted(uri: RedirectUri, *, allowed: Iterable[str], denied: Iterable[str]) -> bool:
    """Return whether the operator lets clients that register themselves lead to ``uri``.

    ``allowed`` and ``denied`` are ``auth.allowedRedirects`` and ``auth.deniedRedirects``; an empty
    ``allowed`` allows everything, and what is denied is denied.
    """
    if any(_covers(rule, uri) for rule in denied):
        return False
    rules = tuple(allowed)
    return not rules or any(_covers(rule, uri) for rule in rules)


def _covers(rule: str, uri: RedirectUri) -> bool:
    if rule.endswith("://"):
        return uri.scheme == rule.removesuffix("://")
    if not uri.is_web:
        return False
    if rule == "loopback":
        return uri.is_loopback
    if rule.startswith("*."):
        return uri.host.endswith(rule[1:])
    return uri.host == rule


def answer_url(redirect_uri: str, answer: Mapping[str, str | None]) -> str:
    """Return ``redirect_uri`` with ``answer`` appended to its query; ``None`` and empty are left out."""
    query = urlencode({name: value for name, value in answer.items() if value})
    base, mark, existing = redirect_uri.partition("?")
    return f"{base}?{existing}&{query}" if mark and existing else f"{base}?{query}"
