"""The answers that the wire gives by itself, to what never becomes a request."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Protocol

#: The reason code in the log for bytes that are no request.
MALFORMED = "request_malformed"
#: The reason code in the log where a connection was one too many.
TOO_MANY_CONNECTIONS = "connections_exhausted"

_FULL = b'{"error": "temporarily_unavailable", "error_description": "too many connections, try again later"}'
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Cache-Control: no-store\r\nRetry-After: 10\r\nConnection: close\r\n\r\n%s"
) % (len(_FULL), _FULL)


class TurnedAway(Protocol):
    """A connection that is one too many: it is told so, and closed, before it has cost anything."""

    def connectionMade(self) -> None:
        """Answer what has not been asked yet."""
        transport: Any = self.transport
        transport.write(_TURNED_AWAY)
        transport.loseConnection()


def error_body(code: str, description: str, reference: str) -> bytes:
    """Return the JSON body that every error of this proxy has (RFC 6749 section 5.2)."""
    document = {"error": code, "error_description": description, "request_id": reference}
    return json.dumps(document).encode("utf-8")
