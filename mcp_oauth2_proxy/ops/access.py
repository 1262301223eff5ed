"""The access log: one structured line a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogLevel

from mcp_oauth2_proxy.ops.lines import Event, is_plain
from mcp_oauth2_proxy.ops.peers import TrustedProxies, client_address

#: Characters of a request's path that a line shows.
MAX_PATH = 256
#: Under this key of ``request.notes`` a resource says that its requests are not worth a line.
QUIET = "quiet"
#: Under this key of ``request.headNotes`` the path as it is shown is kept.
_PATH = "path"
_NOBODY = TrustedProxies()


class AccessLog:
    """Called with each request once it is over, finished or lost.

    ``trusted`` are the proxies whose word about the client's address is taken.

    The query is never written: codes, states and tokens travel there. ``seconds`` is the clock that
    ``request.startedAt`` was read from; by default that of the request's own site.
    """

    def __init__(
        self, seconds: Callable[[], float] | None = None, *, trusted: TrustedProxies = _NOBODY
    ) -> None:
        # Not the class's: that one is made anew at each look.
        self._log = Logger()
        self._seconds = seconds
        self._trusted = trusted

    def __call__(self, request: Any) -> None:
        """Write the line of one request."""
        notes = request.notes
        if QUIET in notes:
            return
        now = self._seconds() if self._seconds is not None else request.site.reactor.seconds()
        upstream_time = notes.get("upstream_time")
        log, head = self._log, request.headNotes
        path = head.get(_PATH)
        if path is None:
            path = head[_PATH] = shown_path(request.uri)
        # What Logger.info does, without what it looks up each time: there is one such event a request.
        log.observer(
            {
                "log_format": "request",
                "log_text": request_text,
                "log_level": LogLevel.info,
                "log_namespace": log.namespace,
                "log_time": now,
                "method": request.method.decode("latin-1"),
                "path": path,
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


def request_text(event: Event) -> str | None:
    """Return what :func:`text_line` would write of a request's event, in a fifth of the time.

    ``None`` for the rare request about which there is something to quote, to mask or to explain.
    """
    method, path, address = event["method"], event["path"], event["address"]
    subject, client, upstream = event["subject"], event["client"], event["upstream_ms"]
    if event["reason"] is not None or event["aborted"] is not None:
        return None
    if not (is_plain(method) and is_plain(path) and is_plain(address)):
        return None
    who = ""
    if subject is not None or client is not None:
        if not (is_plain(subject) and is_plain(client)):
            return None
        who = f" subject={subject} client={client}"
    took = "" if upstream is None else f" upstream_ms={upstream}"
    return (
        f"request method={method} path={path} status={event['status']} bytes={event['bytes']} "
        f"duration_ms={event['duration_ms']}{took} address={address}{who} request_id={event['request_id']}"
    )


def shown_path(target: bytes) -> str:
    """Return a raw request target without query and fragment, in printable ASCII, bounded."""
    path = target.partition(b"?")[0].partition(b"#")[0][: MAX_PATH + 1]
    text = path.decode("ascii", "backslashreplace")
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= MAX_PATH else text[: MAX_PATH - 1] + "…"


def _milliseconds(seconds: float) -> float:
    # round() takes three times as long, twice a line.
    return int(seconds * 10_000 + 0.5) / 10
