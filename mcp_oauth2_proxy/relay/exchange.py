"""One request that has passed the gate: towards the upstream, and its answer back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse

from mcp_oauth2_proxy.gate.model import Identity
from mcp_oauth2_proxy.gate.model import Reason as TokenReason
from mcp_oauth2_proxy.relay.answers import answer_error
from mcp_oauth2_proxy.relay.client import Pair, RelayClient, abort_response, response_pairs, whole_body
from mcp_oauth2_proxy.relay.headers import returning
from mcp_oauth2_proxy.relay.legacy_sse import EndpointRewriter, PathPrefixes
from mcp_oauth2_proxy.relay.pump import RequestBody, ResponseBody
from mcp_oauth2_proxy.relay.reasons import Reason
from mcp_oauth2_proxy.relay.streams import Streams
from mcp_oauth2_proxy.wire.errors import BodyMalformed, BodyStalled, BodyTooLarge, ResponseHeadTimeout
from mcp_oauth2_proxy.wire.framing import Lines, ready
from mcp_oauth2_proxy.wire.headers import RawHeaders
from mcp_oauth2_proxy.wire.request import StreamingRequest
from mcp_oauth2_proxy.wire.requests import WholeBody

#: Challenges: from the upstream's ``WWW-Authenticate`` values to this proxy's own value.
Challenge = Callable[[Sequence[bytes]], bytes]
#: What intermediaries (nginx and its kin) take as "do not buffer this answer".
_UNBUFFERED = (b"X-Accel-Buffering", b"no")
#: Under this key of ``response.headNotes`` what goes back of an answer is kept.
_RETURNED = "returned"


@frozen
class Relay:
    """What all exchanges share."""

    client: RelayClient
    clock: IReactorTime
    #: Bytes, 0 for no limit.
    max_body: int
    #: The exchanges under way, and those of them whose answers are event streams.
    under_way: set[Exchange]
    streams: Streams
    #: How paths differ outside and at the upstream.
    prefixes: PathPrefixes


class Exchange:
    """The life of one relayed request. Whoever leaves first, the other side is let go at once."""

    _log = Logger()

    def __init__(
        self, relay: Relay, request: StreamingRequest, identity: Identity, challenge: Challenge
    ) -> None:
        self.identity = identity
        #: Who listens, where a client can be told from others: by its MCP session, and whose token it is.
        self.listener: Hashable = None
        self._relay = relay
        self._request = request
        self._challenge = challenge
        self._over = False
        self._sent_at = 0.0
        self._last_data = 0.0
        self._pending: Deferred[IResponse] | None = None
        self._upload: RequestBody | None = None
        self._response: IResponse | None = None
        self._body: ResponseBody | None = None
        self._is_stream = False

    def start(self, url: bytes, headers: RawHeaders) -> None:
        """Send the request to ``url`` with ``headers``; its body follows when the upstream takes it."""
        request, limit = self._request, self._relay.max_body
        if isinstance(request.length, int) and 0 < limit < request.length:
            self._too_large()
            return
        self._relay.under_way.add(self)
        if request.method == b"GET" and (name := request.first(b"mcp-session-id")) is not None:
            self.listener = (name, self.identity.subject, self.identity.client)
            self._relay.streams.make_way(self.listener)
        request.whenLost(self._client_left)
        body: IBodyProducer | None = None
        if request.length != 0:
            # Most requests are short, and their bodies have come along with their heads.
            whole = None if request.length is UNKNOWN_LENGTH else request.takeBody()
            if whole is None:
                body = self._upload = RequestBody(request, limit)
            else:
                body = WholeBody(whole)
        self._sent_at = self._relay.clock.seconds()
        self._pending = self._relay.client.request(request.method, url, headers=headers, data=body)
        self._pending.addBoth(self._concluded)

    def idle_since(self) -> float | None:
        """Return when a listening stream last brought an event; ``None`` for all other streams.

        A listening stream is one that the client opened with GET: nobody waits for its end.
        """
        return self._last_data if self._request.method == b"GET" else None

    @property
    def authorization(self) -> bytes | None:
        """The header that let the request in."""
        return self._request.first(b"authorization")

    def settle(self) -> None:
        """Keep only what is needed: the answer is a stream that lasts.

        The token is most of what a quiet one would hold, and whoever sees the memory could use it.
        """
        self._request.forgetHead(*(() if self._relay.streams.asks else (b"authorization",)))
        getattr(self._response, "headNotes", {}).clear()

    def end(self, reason: Reason | TokenReason | None = None) -> None:
        """End an event stream cleanly: its client connects again, and may find another replica."""
        response, body = self._response, self._body
        if self._over or response is None or body is None:
            return
        if reason is not None:
            self._request.notes["reason"] = reason.value
        self._finish()
        body.finish()
        abort_response(response)

    def log_out(self, refuse: Callable[[StreamingRequest], None]) -> None:
        """End the exchange, whatever it is at: the session that it was let in for has ended.

        An event stream ends cleanly: its client comes back and learns why. Before an answer has begun
        ``refuse`` gives one. Any other answer is cut: a clean end would disguise it as a whole one.
        """
        if self._over:
            return
        self._log.info("ended a request: its session has ended", request_id=self._request.requestId)
        self._request.notes["reason"] = TokenReason.ENDED.value
        if self._is_stream:
            self.end()
        elif self._response is None:
            self._let_go()
            refuse(self._request)
        else:
            self._let_go()
            self._request.abort()

    def _concluded(self, result: IResponse | Failure) -> None:
        try:  # here, and not by another callback: there is one such Deferred for each request
            if isinstance(result, Failure):
                self._failed(result)
            else:
                self._answered(result)
        except Exception:
            self._broken(Failure())

    def _answered(self, response: IResponse) -> None:
        if self._over:  # the agent answered although the client's leave had cancelled the request
            abort_response(response)
            return
        self._response, self._pending = response, None
        request = self._request
        request.notes["upstream_time"] = self._relay.clock.seconds() - self._sent_at
        returned = _returned(response)
        rewriter = self._rewriter(response) if returned.is_stream else None
        request.setResponseCode(response.code, response.phrase)
        request.responsePairs = self._lines(response, returned)
        if rewriter is None and (whole := whole_body(response)) is not None:
            # Most answers are short: there is nothing to hold back, and one write takes it all.
            self._finish()
            request.finish(whole)
            return
        on_data = None
        if returned.is_stream:
            on_data = self._saw_data
            self._open_stream()
        self._body = ResponseBody(request, on_end=self._ended, on_data=on_data, rewriter=rewriter)
        response.deliverBody(self._body)
        if not self._over and not request.startedWriting:
            # The client must see the head before the first event, however long that takes.
            request.write(b"")

    def _lines(self, response: IResponse, returned: _Returned) -> Lines | list[Pair]:
        if response.code not in (401, 403) and not self._request.extraPairs:
            return returned.lines
        pairs = _passing(response)
        if self._request.extraPairs:
            # Two policies would be none: a browser refuses an answer that allows twice.
            pairs = [pair for pair in pairs if not pair[0].lower().startswith(b"access-control-")]
        if response.code in (401, 403):
            pairs = self._with_challenge(pairs)
        return pairs

    def _rewriter(self, response: IResponse) -> EndpointRewriter | None:
        """Return what changes the paths in a stream of legacy HTTP+SSE, which listens by GET."""
        may_grow = response.length is UNKNOWN_LENGTH
        if self._relay.prefixes.differ and self._request.method == b"GET" and may_grow:
            return EndpointRewriter(self._relay.prefixes)
        return None

    def _open_stream(self) -> None:
        self._is_stream = True
        self._saw_data()
        self._relay.streams.opened(self)

    def _with_challenge(self, pairs: list[Pair]) -> list[Pair]:
        theirs = [value for name, value in pairs if name.lower() == b"www-authenticate"]
        kept = [pair for pair in pairs if pair[0].lower() != b"www-authenticate"]
        return [*kept, (b"WWW-Authenticate", self._challenge(theirs))]

    def _saw_data(self) -> None:
        self._last_data = self._relay.clock.seconds()

    def _ended(self, whole: bool) -> None:
        self._finish()
        if whole:
            self._request.finish()
        else:
            # The last chunk would disguise a truncated answer as a whole one.
            self._request.notes["reason"] = Reason.TRUNCATED.value
            self._request.abort()

    def _failed(self, failure: Failure) -> None:
        if self._over:
            return
        self._finish()
        request, upload = self._request, self._upload
        if upload is not None and upload.failure is not None:
            self._upload_failed(upload.failure)
        elif failure.check(ResponseHeadTimeout):
            self._log.warn("the upstream did not answer in time", request_id=request.requestId)
            answer_error(
                request, 504, "gateway_timeout", "the upstream did not answer in time", reason=Reason.TIMEOUT
            )
        else:
            self._log.warn(
                "no answer from the upstream",
                request_id=request.requestId,
                error=type(failure.value).__name__,
                detail=failure.getErrorMessage(),
            )
            answer_error(
                request,
                502,
                "bad_gateway",
                "the upstream could not be reached or broke off",
                reason=Reason.UNREACHABLE,
            )

    def _upload_failed(self, failure: Failure) -> None:
        """Answer a client whose body was not to be had; one that has gone hears nothing."""
        request = self._request
        if failure.check(BodyTooLarge):
            self._too_large()
        elif failure.check(BodyMalformed, BodyStalled):
            answer_error(
                request,
                408 if failure.check(BodyStalled) else 400,
                "invalid_request",
                failure.getErrorMessage(),
                reason=Reason.BODY_INCOMPLETE,
            )
        else:
            request.notes["reason"] = Reason.BODY_INCOMPLETE.value
            request.abort()

    def _broken(self, failure: Failure) -> None:
        self._log.failure("relaying failed", failure, request_id=self._request.requestId)
        self._finish()
        self._request.abort()

    def _client_left(self) -> None:
        if not self._over:
            self._let_go()

    def _let_go(self) -> None:
        """Let the upstream go; the client is not written to any more by what it may still say."""
        self._finish()
        if self._body is not None:
            self._body.detach()
        if self._response is not None:
            abort_response(self._response)
        elif self._pending is not None:
            self._pending.cancel()

    def _too_large(self) -> None:
        limit = self._relay.max_body
        answer_error(
            self._request,
            413,
            "request_too_large",
            f"the body is larger than {limit} bytes",
            reason=Reason.TOO_LARGE,
        )

    def _finish(self) -> None:
        self._over = True
        self._relay.under_way.discard(self)
        if self._is_stream:
            self._relay.streams.closed(self)


@frozen
class _Returned:
    """What goes back to a client of an answer's head, whoever asked, for this ``length`` and ``date``."""

    lines: Lines
    is_stream: bool
    length: int | str
    date: bytes | None


def _returned(response: IResponse) -> _Returned:
    """Return it, worked out once for all answers that repeat the head on their connection."""
    notes: dict[str, Any] = getattr(response, "headNotes", {})
    known: _Returned | None = notes.get(_RETURNED)
    length, date = response.length, getattr(response, "date", None)
    if known is None:
        pairs = _passing(response)
        known = notes[_RETURNED] = _Returned(ready(pairs), is_event_stream(pairs), length, date)
    elif known.length != length or known.date != date:
        lines = known.lines
        if known.length != length:
            lines = lines.with_length(length)
        if date is not None and known.date != date:
            lines = lines.with_date(date)
        known = notes[_RETURNED] = _Returned(lines, known.is_stream, length, date)
    return known


def _passing(response: IResponse) -> list[Pair]:
    pairs = returning(response_pairs(response))
    if not is_event_stream(pairs):
        return pairs
    return [*(pair for pair in pairs if pair[0].lower() != _UNBUFFERED[0].lower()), _UNBUFFERED]


def is_event_stream(pairs: Sequence[Pair]) -> bool:
    """Return whether an answer with these headers is a stream of server-sent events."""
    for name, value in pairs:
        if name.lower() == b"content-type":
            return value.lower().startswith(b"text/event-stream")
    return False
