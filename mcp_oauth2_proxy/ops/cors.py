"""Cross-origin requests (Fetch standard, CORS protocol): which pages' scripts may call the proxy. Pure.

Nothing here is authenticated by a cookie: what a page may send is a token that it already has. So every
origin is allowed by default, and credentials never are. Pages for people are left out altogether.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Pairs = list[tuple[bytes, bytes]]

METHODS = b"GET, POST, DELETE"
#: What MCP clients send beyond the headers that need no permission.
ALLOWED_HEADERS = (
    b"Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, "
    b"Last-Event-ID"
)
#: What they have to read of an answer.
EXPOSED_HEADERS = b"WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After"
#: Seconds for which a browser need not ask again; Chromium's own most.
MAX_AGE = 7200

#: Parameters of a tool can travel as headers of this name: those that are asked for are allowed.
_PARAMETER = re.compile(rb"mcp-param-[!#$%&'*+\-.^_`|~0-9a-z]{1,100}", re.IGNORECASE)
MAX_PARAMETERS = 32
_ANY = "*"


class Cors:
    """``server.corsOrigins`` at work."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = {origin.encode("ascii") for origin in origins}
        #: Whether any origin is allowed.
        self.enabled = bool(self._origins)
        self._any = _ANY.encode() in self._origins
        self._for_any: Pairs = [
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Access-Control-Expose-Headers", EXPOSED_HEADERS),
        ]

    def answer(self, origin: bytes | None) -> Pairs:
        """Return the header lines for an answer to a request from ``origin``."""
        if self._any:
            return self._for_any
        if not self._origins:
            return []
        # A cache must not give one origin the answer for another.
        varies = (b"Vary", b"Origin")
        if origin is None or origin not in self._origins:
            return [varies]
        return [
            (b"Access-Control-Allow-Origin", origin),
            (b"Access-Control-Expose-Headers", EXPOSED_HEADERS),
            varies,
        ]

    def preflight(self, requested: bytes | None) -> Pairs:
        """Return the further lines for the answer to an ``OPTIONS`` request.

        ``requested`` is ``Access-Control-Request-Headers``.
        """
        asked = (name.strip() for name in (requested or b"").split(b",", 200)[:200])
        parameters = list(dict.fromkeys(name for name in asked if _PARAMETER.fullmatch(name)))
        return [
            (b"Access-Control-Allow-Methods", METHODS),
            (b"Access-Control-Allow-Headers", b", ".join([ALLOWED_HEADERS, *parameters[:MAX_PARAMETERS]])),
            (b"Access-Control-Max-Age", b"%d" % MAX_AGE),
        ]
