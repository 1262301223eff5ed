"""Which redirect URIs a client may have, and when a requested one is a registered one.

RFC 6749 section 3.1.2, RFC 8252 (loopback and private-use schemes), RFC 9700 section 4.1 (exact match).
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote_plus

from attrs import frozen

#: Characters of one redirect URI; the longest seen in the field has about 120.
MAX_REDIRECT_URI = 2048

#: The loopback names of RFC 8252 section 7.3; clients register one and come with another.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

#: Private-use schemes without the reverse-domain form of RFC 8252 section 7.1 that MCP clients have.
KNOWN_SCHEMES = frozenset(
    {
        "claude",
        "code-oss",
        "cursor",
        "goose",
        "jetbrains",
        "kiro",
        "lmstudio",
        "raycast",
        "trae",
        "vscode",
        "vscode-insiders",
        "vscodium",
        "warp",
        "windsurf",
        "zed",
    }
)

#: What the answer adds (RFC 6749 4.1.2, RFC 9207); a redirect URI that brings them would make it ambiguous.
_ANSWER_NAMES = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})

# RFC 3986 without '#' (fragments) and '*' (nobody's wildcard), and '[' ']' only round an IPv6 address.
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,63}):"
    r"(?://(?P<authority>(?:[A-Za-z0-9\-._~!$&'()+,;=:@%]|\[[0-9A-Fa-f:.]*\])*))?"
    r"(?P<path>(?:[A-Za-z0-9\-._~!$&'()+,;=:@/]|%[0-9A-Fa-f]{2})*)"
    r"(?:\?(?P<query>(?:[A-Za-z0-9\-._~!$&'()+,;=:@/?]|%[0-9A-Fa-f]{2})*))?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE)
_REVERSE_DOMAIN = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+", re.IGNORECASE)


@frozen
class RedirectUri:
    """A redirect URI that obeys the rules, in its parts."""

    text: str
    scheme: str
    host: str
    port: str
    path: str
    query: str | None

    @property
    def is_web(self) -> bool:
        """Whether a browser goes there itself, by http or https."""
        return self.scheme in ("http", "https")

    @property
    def is_loopback(self) -> bool:
        """Whether it points at the machine of the person at the browser (RFC 8252 section 7.3)."""
        return self.is_web and self.host in LOOPBACK

    @property
    def target(self) -> str:
        """Whom the code is sent to, for people: a host with its port, or an app's scheme."""
        if not self.is_web:
            return f"{self.scheme}:"
        return f"{self.host}:{self.port}" if self.port and not self.is_loopback else self.host

    def answers_for(self, registered: RedirectUri) -> bool:
        """Return whether this requested URI is the ``registered`` one.

        Exactly equal; only for http on loopback any port and any of the three names will do, and an
        empty path is ``/`` (RFC 8252 section 7.3, RFC 3986 section 6.2.3).
        """
        if self.text == registered.text:
            return True
        if not (self.is_loopback and registered.is_loopback):
            return False
        if (self.scheme, registered.scheme) != ("http", "http"):
            return False
        return (self.path or "/", self.query) == (registered.path or "/", registered.query)


def read_redirect_uri(text: str) -> RedirectUri:
    """Return ``text`` as a :class:`RedirectUri`; raises :exc:`ValueError` saying what it "has" or "is"."""
    if len(text) > MAX_REDIRECT_URI:
        raise ValueError(f"is longer than {MAX_REDIRECT_URI} characters")
    if "#" in text:
        raise ValueError("has a fragment")
    if "*" in text:
        raise ValueError("has a wildcard")
    found = _URI.fullmatch(text)
    if found is None:
        raise ValueError("is not an absolute URI in ASCII")
    scheme = found["scheme"].lower()
    authority, path, query = found["authority"], found["path"], found["query"]
    if authority is not None and "@" in authority:
        raise ValueError("has a user name")
    _refuse_answer_names(query)
    if scheme in ("http", "https"):
        host, port = _host_and_port(authority)
        if scheme == "http" and host not in LOOPBACK:
            raise ValueError("uses http, which is for localhost, 127.0.0.1 and [::1] only; use https")
        if path and not path.startswith("/"):
            raise ValueError("is not an absolute URI in ASCII")
        return RedirectUri(text, scheme, host, port, path, query)
    if scheme not in KNOWN_SCHEMES and not _REVERSE_DOMAIN.fullmatch(scheme):
        raise ValueError("uses a scheme that is neither https, nor known, nor a reversed domain name")
    if not (authority or path):
        raise ValueError("names no place behind its scheme")
    return RedirectUri(text, scheme, authority or "", "", path, query)


def _host_and_port(authority: str | None) -> tuple[str, str]:
    found = _AUTHORITY.fullmatch(authority or "")
    if found is None:
        raise ValueError("has no valid host")
    host, port = found["host"].lower(), found["port"] or ""
    if port and not 0 < int(port) < 65536:
        raise ValueError("has no valid port")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("has no valid host") from None
    elif not _NAME.fullmatch(host) or len(host) > 253:
        raise ValueError("has no valid host")
    return host, port


def _refuse_answer_names(query: str | None) -> None:
    names = {unquote_plus(part.partition("=")[0]).lower() for part in (query or "").split("&")}
    if names & _ANSWER_NAMES:
        raise ValueError("has a query with names that the answer uses")
