"""``/healthz`` and ``/readyz``: what an orchestrator asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from mcp_oauth2_proxy.ops.access import QUIET

#: Returns why the proxy is not ready, safe to show, or ``None`` when nothing is in the way.
Probe = Callable[[], str | None]


class Healthz(Resource):
    """``ok`` as long as the process can answer at all; a Keycloak that is down is no reason to restart."""

    isLeaf = True

    def render_GET(self, request: IRequest) -> bytes:
        """Answer GET and, without the body, HEAD."""
        return answer_plain(request, 200, "ok")


class Readyz(Resource):
    """``ok``, or 503 with what stands in the way, one reason a line."""

    isLeaf = True

    def __init__(self, probes: Sequence[Probe]) -> None:
        super().__init__()
        self._probes = tuple(probes)

    def render_GET(self, request: IRequest) -> bytes:
        """Answer GET and, without the body, HEAD."""
        reasons = [reason for probe in self._probes if (reason := probe()) is not None]
        return answer_plain(request, 503 if reasons else 200, "\n".join(reasons) or "ok")


def answer_plain(request: IRequest, status: int, text: str) -> bytes:
    """Return ``text`` as the body of an answer that nobody keeps and the access log leaves out."""
    notes = getattr(request, "notes", None)
    if notes is not None:
        notes[QUIET] = True
    body = text.encode()
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return body
