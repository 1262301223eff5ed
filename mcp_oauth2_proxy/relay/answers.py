"""The relay's own answers: JSON, with the id under which the log speaks of the request."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mcp_oauth2_proxy.gate.model import Reason as TokenReason
from mcp_oauth2_proxy.relay.reasons import Reason
from mcp_oauth2_proxy.wire.request import StreamingRequest

#: Seconds after which a client may try again, where the proxy is not ready yet.
RETRY_AFTER = 5


def answer_error(
    request: StreamingRequest,
    status: int,
    error: str,
    description: str,
    *,
    reason: Reason | TokenReason,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answer with an OAuth-shaped error object (RFC 6749 section 5.2) and finish; a HEAD gets no body.

    ``reason`` is for the log.
    """
    body = json.dumps(
        {"error": error, "error_description": description, "request_id": request.requestId}
    ).encode()
    request.notes["reason"] = reason.value
    request.setResponseCode(status)
    request.responsePairs = [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        *headers,
        (b"Content-Length", b"%d" % len(body)),
    ]
    request.write(body)
    request.finish()


def answer_unavailable(request: StreamingRequest, reason: Reason) -> None:
    """Answer 503: no token can be judged while the realm's keys, or its word, are not there."""
    answer_error(
        request,
        503,
        "temporarily_unavailable",
        "the identity provider has not been reached, try again",
        reason=reason,
        headers=[(b"Retry-After", b"%d" % RETRY_AFTER)],
    )
