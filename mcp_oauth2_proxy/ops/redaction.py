"""The last look at a log line before it leaves: what reads like a secret is masked. Pure.

Defence in depth: no code here logs a secret, but an exception of a library may quote one.
"""

from __future__ import annotations

import re

MASK = "***"

#: Text without any of these has nothing to mask. Most lines are such, and cost only the look.
_HINTS = (
    "eyj",
    "gaaaa",
    "bearer",
    "basic ",
    "token",
    "code",
    "secret",
    "password",
    "state",
    "nonce",
    "assertion",
    "authorization",
    "cookie",
    "@",
)
_NAMES = (
    r"(?:\w{1,20}_)?token|code|code_verifier|(?:client_)?secret|password|state|nonce|(?:client_)?assertion"
    r"|authorization|cookie"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
#: A name behind a slash is the end of a URL: "POST https://host/token: status 502" hides nothing.
_SECRETS = re.compile(
    rf"""
    (?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9\-._~+/]{{8,}}=*         # an Authorization value
    | \beyJ[\w-]{{6,}}\.[\w-]+(?:\.[\w-]*){{0,3}}                         # a JWS or JWE
    | \bgAAAA[\w-]{{20,}}=*                                             # a Fernet token: what is sealed here
    | (?P<url>://)[^\s/@"'<>]++(?=@)                                      # user:password@ of a URL
    | (?P<name>(?<![/\w])(?:{_NAMES})(?:\\?["'])?\s*[=:]\s*(?:\\?["'])?)
      (?!(?:bearer|basic)\s|\*\*\*)[^\s"'&,;}}\])\\]+                    # name=value, "name": "value"
    """,
    re.IGNORECASE | re.VERBOSE,
)


def suspicious(text: str) -> bool:
    """Return whether ``text`` could hold a secret at all: a cheap look that spares most lines the rest."""
    lower = text.lower()
    for hint in _HINTS:  # noqa: SIM110 (a third faster than any())
        if hint in lower:
            return True
    return False


def redact(text: str) -> str:
    """Return ``text`` with everything masked that looks like a token, a code or a secret."""
    return _SECRETS.sub(_masked, text) if suspicious(text) else text


def redact_value(name: str, value: str) -> str:
    """Return the value of a field called ``name``, masked as a whole where the name says what it is."""
    return MASK if _SECRET_NAME.fullmatch(name) else redact(value)


def _masked(match: re.Match[str]) -> str:
    return (match["scheme"] or match["url"] or match["name"] or "") + MASK
