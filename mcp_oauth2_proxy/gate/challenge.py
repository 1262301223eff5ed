"""What a refused request hears: the status and the ``WWW-Authenticate`` challenge (RFC 6750, RFC 9728)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mcp_oauth2_proxy.gate.model import Reason, Refusal

#: Longest parameter taken over from an upstream's challenge.
MAX_PARAMETER = 512
#: The parameters of an upstream's challenge that are carried over into ours.
CARRIED_OVER = ("error", "error_description", "scope")

#: The one scope that a challenge never asks for: whether a client may come back without the user is between
#: the two of them, not a need of the resource.
OFFLINE_ACCESS = "offline_access"

_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")
_PARAMETER = re.compile(
    r'([A-Za-z0-9!#$%&\'*+\-.^_`|~]{1,64})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))[ \t]*(?:,|$)[ \t,]*'
)
_SCHEME = re.compile(r"(?:^|,[ \t]*)bearer(?: +|$)", re.IGNORECASE)


def status(refusal: Refusal) -> int:
    """Return the HTTP status: 403 only for a missing scope, 401 for every other trouble with a token.

    A client goes and gets a token on 401, asks for more on 403, and gives up on anything else.
    """
    return 403 if refusal.reason is Reason.SCOPE else 401


def error_code(refusal: Refusal) -> str | None:
    """Return the OAuth error code (RFC 6750 section 3.1); ``None`` where no token was sent at all."""
    if refusal.reason is Reason.MISSING:
        return None
    return "insufficient_scope" if refusal.reason is Reason.SCOPE else "invalid_token"


def challenge(refusal: Refusal | None, *, metadata_url: str, scopes: Iterable[str] = ()) -> str:
    """Return the challenge for ``refusal``, pointing at the resource's metadata.

    ``scopes`` are what a token needs here. ``refusal`` is ``None`` where there is nothing to say but
    where to go.
    """
    parameters: dict[str, str] = {}
    code = error_code(refusal) if refusal is not None else None
    if code is not None and refusal is not None:
        parameters["error"] = code
        parameters["error_description"] = refusal.description
    return _render(metadata_url, " ".join(sorted(scopes)), parameters)


def carried_challenge(upstream: Iterable[str], *, metadata_url: str, scopes: Iterable[str] = ()) -> str:
    """Return this proxy's challenge in place of an upstream's, with what the upstream said carried over.

    ``upstream`` are the values of its ``WWW-Authenticate`` headers. Where it names a scope, that scope
    replaces ``scopes``.
    """
    said: dict[str, str] = {}
    for value in upstream:
        said = {**parse_bearer(value), **said}
    scope = said.pop("scope", None) or " ".join(sorted(scopes))
    return _render(metadata_url, scope, {name: said[name] for name in CARRIED_OVER if name in said})


def parse_bearer(value: str) -> dict[str, str]:
    """Return the known parameters of the Bearer challenge in ``value``; what cannot be read is left out."""
    scheme = _SCHEME.search(value[: 8 * MAX_PARAMETER])
    if scheme is None:
        return {}
    found: dict[str, str] = {}
    position, end = scheme.end(), min(len(value), 8 * MAX_PARAMETER)
    while position < end and (match := _PARAMETER.match(value, position, end)) is not None:
        name, quoted, plain = match[1].lower(), match[2], match[3]
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if name in CARRIED_OVER and text and name not in found:
            found[name] = text[:MAX_PARAMETER]
        position = match.end()
    return found


def _render(metadata_url: str, scope: str, parameters: Mapping[str, str]) -> str:
    scope = " ".join(name for name in scope.split() if name != OFFLINE_ACCESS)
    named = {"resource_metadata": metadata_url, **({"scope": scope} if scope else {}), **parameters}
    return "Bearer " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in named.items())


def _quotable(value: str) -> str:
    """Return ``value`` for a quoted-string that needs no escapes: clients parse those differently."""
    return _UNQUOTABLE.sub("'", value)
