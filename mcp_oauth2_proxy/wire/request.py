"""``twisted.web``'s Request on this wire: rendered at its head, its body a stream, its answer framed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote_to_bytes

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.resource import IResource, getChildForRequest
from zope.interface import implementer

from mcp_oauth2_proxy.wire.answers import error_body
from mcp_oauth2_proxy.wire.body import RequestBody
from mcp_oauth2_proxy.wire.framing import Framing, response_head
from mcp_oauth2_proxy.wire.head import Pairs
from mcp_oauth2_proxy.wire.interfaces import IStreamingRequest
from mcp_oauth2_proxy.wire.parser import ArrivedHead

if TYPE_CHECKING:
    from mcp_oauth2_proxy.wire.channel import ServerChannel

#: Most query parameters looked at; more than that is no honest request.
MAX_QUERY_FIELDS = 200


@implementer(IStreamingRequest)
class StreamingRequest(server.Request):
    """One request and its answer. See :class:`IStreamingRequest` for what it adds to Twisted's."""

    defaultContentType = None  # what the resource did not say is not guessed
    channel: ServerChannel  # type: ignore[assignment]

    def __init__(
        self,
        channel: ServerChannel,
        arrived: ArrivedHead,
        *,
        body: RequestBody,
        request_id: str,
    ) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        head = arrived.head
        self.method = arrived.method
        self.uri = arrived.target
        self.target = head.path_and_query
        self.clientproto = b"HTTP/" + arrived.version.encode("ascii")
        self.path, _, self._query = head.path_and_query.partition(b"?")
        self.rawHeaders = arrived.pairs
        self._first = head.first
        self.length = UNKNOWN_LENGTH if head.length is None else head.length
        self.body = body
        self.expects_continue = head.expects_continue
        self.requestId = request_id
        self.startedAt = channel.site.reactor.seconds()
        self.notes: dict[str, object] = {}
        self.responsePairs: Pairs | None = None
        #: Header lines that whatever answer it will be carries too.
        self.extraPairs: Pairs = []
        self.sentBodyLength = 0
        self._framing: Framing | None = None
        self._headers: Headers | None = None
        self._arguments: dict[bytes, list[bytes]] | None = None

    def first(self, name: bytes) -> bytes | None:
        """See :class:`IStreamingRequest`."""
        return self._first.get(name)

    # Twisted fills these two for every request; here they are made when somebody looks.

    @property
    def requestHeaders(self) -> Headers:
        """The headers as Twisted's multi-map; :attr:`rawHeaders` has them in order."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.rawHeaders:
                self._headers.addRawHeader(name, value)
        return self._headers

    @requestHeaders.setter
    def requestHeaders(self, headers: Headers) -> None:
        self._headers = None

    @property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """The query's fields. A form in the body is never parsed here."""
        if self._arguments is None:
            try:
                self._arguments = parse_qs(
                    self._query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS
                )
            except ValueError:
                self._arguments = {}
        return self._arguments

    def deliverBody(self, protocol: IProtocol) -> None:
        """See :class:`IStreamingRequest`."""
        if self.expects_continue and not self.body.started and not self.startedWriting:
            self.expects_continue = False
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body.deliver_to(protocol)

    def abort(self) -> None:
        """See :class:`IStreamingRequest`."""
        if not self._disconnected and not self.finished:
            self.channel.abort()

    def process(self) -> None:
        """Find the resource and render it; whatever it raises is a 500 that tells the client nothing."""
        self.site = self.channel.site
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        try:
            self.sitepath: list[bytes] = []
            self.render(getChildForRequest(self.site.resource, self))
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
        self._answer(cast(bytes, body))

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
        self.write(body)
        self.finish()

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; the first one sends the head, and an empty one sends only that.

        :raises RuntimeError: after :meth:`finish`.
        """
        if self.finished:
            raise RuntimeError("Request.write called on a request after Request.finish was called.")
        if self._disconnected:
            return
        framing = self._framing
        if framing is None:
            head, framing = self._begin()
            self._framing = framing
            self.startedWriting = 1
            self.channel.write(head + framing.frame(data))
        elif data:
            self.channel.write(framing.frame(data))
        if framing.has_body:
            self.sentBodyLength += len(data)

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
            pairs=[*pairs, *self.extraPairs] if self.extraPairs else pairs,
            keep_alive=self.channel.keep_alive_after(self),
            date=self.channel.site.date(),
        )

    def finish(self) -> None:
        """The answer is whole. One that is shorter or longer than it said is cut instead.

        :raises RuntimeError: when the client has gone, as Twisted does.
        """
        if self._disconnected:
            raise RuntimeError("Request.finish called on a request after its connection was lost")
        if self.finished:
            raise RuntimeError("Request.finish called twice")
        if self._framing is None:
            self.responseHeaders.setRawHeaders(b"Content-Length", [b"0"])
            self.write(b"")
        framing = cast(Framing, self._framing)
        if not framing.complete():
            self.abort()
            return
        if last := framing.last():
            self.channel.write(last)
        self.finished = 1
        if self.producer is not None:
            self.unregisterProducer()
        self.content = None
        channel = self.channel
        self.channel = cast(Any, None)
        channel.request_done(self)
        notifications, self.notifications = self.notifications, []
        for notification in notifications:
            notification.callback(None)

    @property
    def closes_connection(self) -> bool:
        """Whether the head that was sent says that the connection ends with this answer."""
        return self._framing is not None and self._framing.closes

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone: body readers and whoever asked to be notified hear it."""
        http.Request.connectionLost(self, reason)
