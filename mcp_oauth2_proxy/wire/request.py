"""``twisted.web``'s Request on this wire: rendered at its head, its body a stream, its answer framed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.resource import IResource, getChildForRequest
from zope.interface import implementer

from mcp_oauth2_proxy.wire.answers import error_body
from mcp_oauth2_proxy.wire.body import RequestBody
from mcp_oauth2_proxy.wire.framing import Framing, Lines, response_head
from mcp_oauth2_proxy.wire.head import Pairs
from mcp_oauth2_proxy.wire.interfaces import IStreamingRequest
from mcp_oauth2_proxy.wire.parser import ArrivedHead

if TYPE_CHECKING:
    from mcp_oauth2_proxy.wire.channel import ServerChannel

#: Most query parameters looked at; more than that is no honest request.
MAX_QUERY_FIELDS = 200
_PROTOCOLS = {"1.0": b"HTTP/1.0", "1.1": b"HTTP/1.1"}


@implementer(IStreamingRequest)
class StreamingRequest(server.Request):
    """One request and its answer. See :class:`IStreamingRequest` for what it adds to Twisted's.

    What Twisted makes for every request (multi-maps, cookies, notifications) is made here when somebody
    looks: most requests are relayed, and nobody does.
    """

    defaultContentType = None  # what the resource did not say is not guessed
    channel: ServerChannel  # type: ignore[assignment]
    queued = False
    _parsePOSTFormSubmission = False
    notifications: Sequence[Deferred[None]] = ()  # type: ignore[assignment]

    #: The answer's header lines, or :class:`Lines` made of them, in place of :attr:`responseHeaders`.
    responsePairs: Pairs | Lines | None = None
    #: Header lines that whatever answer it will be carries too.
    extraPairs: Pairs | tuple[()] = ()
    sentBodyLength = 0
    _framing: Framing | None = None
    _lost: Callable[[], None] | None = None

    def __init__(  # Twisted's own is not called: see above
        self, channel: ServerChannel, arrived: ArrivedHead, *, body: RequestBody, request_id: str
    ) -> None:
        head = arrived.head
        self.channel = channel
        self.site = channel.site
        self.client = channel.peer
        self.method = arrived.method
        self.uri = arrived.target
        self.target = head.path_and_query
        self.clientproto = _PROTOCOLS[arrived.version]
        self.rawHeaders = arrived.pairs
        self.headNotes = arrived.notes
        self._first = head.first
        self.length = UNKNOWN_LENGTH if head.length is None else head.length
        self.body = body
        self.expects_continue = head.expects_continue
        self.requestId = request_id
        self.startedAt = channel.site.reactor.seconds()
        self.notes: dict[str, object] = {}

    def first(self, name: bytes) -> bytes | None:
        """See :class:`IStreamingRequest`."""
        return self._first.get(name)

    # What Twisted fills for every request.

    @cached_property
    def requestHeaders(self) -> Headers:  # type: ignore[override]
        """The headers as Twisted's multi-map; :attr:`rawHeaders` has them in order."""
        headers = Headers()
        for name, value in self.rawHeaders:
            headers.addRawHeader(name, value)
        return headers

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """The query's fields. A form in the body is never parsed here."""
        query = self.target.partition(b"?")[2]
        try:
            return parse_qs(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            return {}

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        """The answer's headers, where :attr:`responsePairs` does not say them."""
        return Headers()

    @cached_property
    def cookies(self) -> list[bytes]:  # type: ignore[override]
        """The cookies that the answer sets."""
        return []

    @cached_property
    def received_cookies(self) -> dict[bytes, bytes]:  # type: ignore[override]
        """Twisted's own view of the request's cookies, empty until ``parseCookies`` is called."""
        return {}

    @cached_property
    def _adapterCache(self) -> dict[str, object]:  # type: ignore[override]
        return {}

    @cached_property
    def host(self) -> IAddress:
        """The address the client has connected to."""
        return self.channel.getHost()

    @cached_property
    def transport(self) -> Any:  # type: ignore[override]
        """The client's connection."""
        return self.channel.transport

    def notifyFinish(self) -> Deferred[None]:
        """Return what fires once the answer is whole, and fails where the client has left before."""
        finished: Deferred[None] = Deferred()
        self.notifications = [*self.notifications, finished]
        return finished

    def whenLost(self, lost: Callable[[], None] | None) -> None:
        """See :class:`IStreamingRequest`."""
        self._lost = lost

    def deliverBody(self, protocol: IProtocol) -> None:
        """See :class:`IStreamingRequest`."""
        if self.expects_continue and not self.body.started and not self.startedWriting:
            self.expects_continue = False
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body.deliver_to(protocol)

    def takeBody(self) -> bytes | None:
        """See :class:`IStreamingRequest`."""
        return self.body.take()

    def forgetHead(self, *names: bytes) -> None:
        """See :class:`IStreamingRequest`."""
        self.headNotes.clear()
        self.rawHeaders = [pair for pair in self.rawHeaders if pair[0].lower() not in names]
        self._first = {name: value for name, value in self._first.items() if name not in names}
        self.__dict__.pop("requestHeaders", None)
        self.channel.forget_head()

    def abort(self) -> None:
        """See :class:`IStreamingRequest`."""
        if not self._disconnected and not self.finished:
            self.channel.abort()

    def process(self) -> None:
        """Find the resource and render it; whatever it raises is a 500 that tells the client nothing."""
        self.path = path = self.target.partition(b"?")[0]
        segments = path[1:].split(b"/")
        self.postpath = [unquote_to_bytes(segment) for segment in segments] if b"%" in path else segments
        self.prepath: list[bytes] = []
        self.sitepath: list[bytes] = []
        try:
            self.render(getChildForRequest(self.channel.site.resource, self))
        except Exception:
            self.processingFailed(Failure())

    def render(self, resource: IResource) -> None:
        """Render ``resource``, or say which methods it has."""
        try:
            body = resource.render(self)
        except UnsupportedMethod as unsupported:
            methods = b", ".join(sorted(unsupported.allowedMethods))
            self.setHeader(b"Allow", methods)
            self.answer_error(405, "method_not_allowed", f"use {methods.decode('ascii')}")
            return
        if body is server.NOT_DONE_YET:
            return
        self._answer(body)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, or cut an answer that has begun; the log has the reason and the request id."""
        self._log.failure("request {request_id} failed", failure=reason, request_id=self.requestId)
        if self._disconnected or self.finished:
            return reason
        if self.startedWriting:
            self.abort()
        else:
            self.responsePairs = None
            self.responseHeaders = Headers()
            self.answer_error(500, "server_error", f"internal error, reference {self.requestId}")
        return reason

    def answer_error(self, status: int, code: str, description: str) -> None:
        """Answer with an OAuth-shaped JSON error and finish."""
        self.setResponseCode(status)
        self.setHeader(b"Content-Type", b"application/json")
        self.setHeader(b"Cache-Control", b"no-store")
        self.setHeader(b"X-Content-Type-Options", b"nosniff")
        self._answer(error_body(code, description, self.requestId))

    def _answer(self, body: bytes) -> None:
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.finish(body)

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; the first one sends the head, and an empty one sends only that.

        :raises RuntimeError: after :meth:`finish`.
        """
        if self.finished:
            raise RuntimeError("Request.write called on a request after Request.finish was called.")
        if not self._disconnected and (piece := self._framed(data)):
            self.channel.write(piece)

    def _framed(self, data: bytes) -> bytes:
        """Return ``data`` as it goes out, behind the head where it is the first piece."""
        head, framing = b"", self._framing
        if framing is None:
            head, framing = self._begin()
            self._framing = framing
            self.startedWriting = 1
        if not framing.has_body:
            return head
        self.sentBodyLength += len(data)
        return head + framing.frame(data)

    def _begin(self) -> tuple[bytes, Framing]:
        pairs = self.responsePairs
        if pairs is None:
            for cookie in self.cookies:
                self.responseHeaders.addRawHeader(b"Set-Cookie", cookie)
            pairs = [
                (name, value) for name, values in self.responseHeaders.getAllRawHeaders() for value in values
            ]
        return response_head(
            method=self.method,
            version=self.clientproto,
            code=self.code,
            phrase=self.code_message or b"",
            pairs=pairs if isinstance(pairs, Lines) else [*pairs, *self.extraPairs],
            keep_alive=self.channel.keep_alive_after(self),
            date=self.channel.site.date(),
        )

    def finish(self, data: bytes = b"") -> None:
        """The answer is whole, with ``data`` as its last piece. A shorter or longer one than said is cut.

        :raises RuntimeError: when the client has gone, as Twisted does.
        """
        if self._disconnected:
            raise RuntimeError("Request.finish called on a request after its connection was lost")
        if self.finished:
            raise RuntimeError("Request.finish called twice")
        if self._framing is None and not data and self.responsePairs is None:
            self.responseHeaders.setRawHeaders(b"Content-Length", [b"0"])
        channel = self.channel
        piece = self._framed(data)
        framing: Framing = self._framing  # type: ignore[assignment]
        if not framing.complete():
            channel.write(piece)
            self.abort()
            return
        channel.write(piece + framing.last())
        self.finished = 1
        if self.producer is not None:
            self.unregisterProducer()
        self.channel = self._lost = None  # type: ignore[assignment]
        channel.request_done(self)
        if self.notifications:
            notifications, self.notifications = self.notifications, ()
            for notification in notifications:
                notification.callback(None)

    @property
    def closes_connection(self) -> bool:
        """Whether the head that was sent says that the connection ends with this answer."""
        return self._framing is not None and self._framing.closes

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone: whoever asked to be notified hears it."""
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()
        http.Request.connectionLost(self, reason)
