"""The access log: one structured line a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogLevel

from mcp_oauth2_proxy.ops.peers import TrustedProxies, client_address

#: Characters of a request's path that a line shows.
MAX_PATH = 256
#: Under this key of ``request.notes`` a resource says that its requests are not worth a line.
QUIET = "quiet"
_NOBODY = TrustedProxies()


class AccessLog:
    """Called with each request once it is over, finished or lost.

    ``trusted`` are the proxies whose word about the client's address is taken.

    The query is never written: codes, states and tokens travel there. ``seconds`` is the clock that
    ``request.startedAt`` was read from; by default that of the request's own site.
    """

    _log = Logger()

    def __init__(
        self, seconds: Callable[[], float] | None = None, *, trusted: TrustedProxies = _NOBODY
    ) -> None:
        self._seconds = seconds
        self._trusted = trusted

    def __call__(self, request: Any) -> None:
        """Write the line of one request."""
        notes = request.notes
        if QUIET in notes:
            return
        now = self._seconds() if self._seconds is not None else request.site.reactor.seconds()
        upstream_time = notes.get("upstream_time")
        # What Logger.info does, without what it looks up each time: there is one such event a request.
        self._log.observer(
            {
                "log_format": "request",
                "log_level": LogLevel.info,
                "log_namespace": self._log.namespace,
                "log_time": now,
                "method": request.method.decode("latin-1"),
                "path": shown_path(request.uri),
                "status": request.code,
                "bytes": request.sentBodyLength,
                "duration_ms": _milliseconds(now - request.startedAt),
                "upstream_ms": None if upstream_time is None else _milliseconds(upstream_time),
                "address": client_address(request, self._trusted) or "-",
                "subject": notes.get("subject"),
                "client": notes.get("client"),
                "reason": notes.get("reason"),
                "aborted": None if request.finished else True,
                "request_id": request.requestId,
            }
        )


def shown_path(target: bytes) -> str:
    """Return a raw request target without query and fragment, in printable ASCII, bounded."""
    path = target.partition(b"?")[0].partition(b"#")[0][: MAX_PATH + 1]
    text = path.decode("ascii", "backslashreplace")
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= MAX_PATH else text[: MAX_PATH - 1] + "…"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
