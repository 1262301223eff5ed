"""The CORS rules at a request: what its answer will carry, and the answer to a preflight."""

from __future__ import annotations

from mcp_oauth2_proxy.ops.cors import METHODS, Cors
from mcp_oauth2_proxy.wire.request import StreamingRequest


def prepare(cors: Cors, request: StreamingRequest, *, cached: bool) -> bool:
    """Have every answer to ``request`` carry what ``cors`` says; return whether it is answered already.

    An answer that caches may keep (``cached``) says it to everybody: the next one to get it may be a
    page. Other answers say it to pages alone, and are else what they were.

    ``OPTIONS`` is answered here, without authentication: a browser asks it before it sends the token.
    """
    if not cors.enabled:
        return False
    origin = request.first(b"origin")
    if cached or origin is not None:
        request.extraPairs = cors.answer(origin)
    if request.method != b"OPTIONS":
        return False
    request.setResponseCode(204)
    request.responsePairs = [
        (b"Allow", METHODS + b", OPTIONS"),
        *cors.preflight(request.first(b"access-control-request-headers")),
    ]
    request.write(b"")
    request.finish()
    return True
