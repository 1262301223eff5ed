"""One connection to the upstream: one request at a time, its answer parsed as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer

from mcp_oauth2_proxy.wire.answer import AnswerHead, AnswerParser
from mcp_oauth2_proxy.wire.deadline import Deadline, Deadlines
from mcp_oauth2_proxy.wire.errors import (
    WHOLE,
    MalformedResponse,
    NotSent,
    ResponseHeadTimeout,
    UploadStalled,
    UpstreamGone,
    WireError,
)
from mcp_oauth2_proxy.wire.limits import LINGER
from mcp_oauth2_proxy.wire.requests import Upload, WholeBody
from mcp_oauth2_proxy.wire.response import WireResponse
from mcp_oauth2_proxy.wire.sockets import arrivals, tune, unsent


class ClientConnection(Protocol):
    """The client's side of HTTP/1.1. ``released`` is called when it may carry another request."""

    _log = Logger()

    def __init__(
        self,
        deadlines: Deadlines,
        *,
        head_timeout: float,
        idle_timeout: float,
        released: Callable[[ClientConnection], None],
        lost: Callable[[ClientConnection], None],
    ) -> None:
        self._head_timeout = head_timeout
        self._idle_timeout = idle_timeout
        self._released = released
        self._lost = lost
        self._deadline = Deadline(deadlines, self._too_slow)
        self._parser = AnswerParser(self)
        self._waiting: Deferred[WireResponse] | None = None
        self._response: WireResponse | None = None
        self._upload: Upload | None = None
        #: Bytes of the present request that were given to the transport.
        self._written = 0
        self._has_body = self._closing = False
        self._arrivals: Callable[[], bool] | None = None
        self._error: WireError | None = None
        self._reading = True
        #: Seconds for which the upstream keeps the connection, if it says so.
        self._kept: int | None = None
        #: Whether a byte of the answer to the present request has come.
        self._heard = False
        #: Whether the connection has carried a request before the present one.
        self.reused = False

    def send(self, method: bytes, head: bytes, body: IBodyProducer | None) -> Deferred[WireResponse]:
        """Send one request; the Deferred fires with the answer's head and fails with a WireError.

        Cancelling it cuts the connection.
        """
        if isinstance(body, WholeBody):
            waiting = self._begin(method, head + body.data)
            self._has_body = True
            return waiting
        waiting = self._begin(method, head)
        if body is not None:
            upload = self._upload = Upload(body)
            upload.start(self)
        return waiting

    def carry(self, method: bytes, request: NotSent) -> Deferred[WireResponse]:
        """Send a request that another connection could not even begin to send; else as :meth:`send`."""
        waiting = self._begin(method, request.data)
        self._has_body = True  # or not: it is not known here
        if request.upload is not None:
            self._upload = request.upload
            request.upload.attach(self)
        return waiting

    def _begin(self, method: bytes, data: bytes) -> Deferred[WireResponse]:
        waiting: Deferred[WireResponse] = Deferred(self._cancelled)
        self._waiting = waiting
        self._response = self._error = None
        self._heard = False
        self._parser.expect(method)
        self._deadline.set(self._head_timeout)
        self._written, self._has_body = len(data), False
        self.transport.write(data)  # type: ignore[union-attr]
        return waiting

    def usable(self) -> bool:
        """Return whether this connection, which was kept, can take a request.

        The end of a connection may have arrived and not been read yet: a request would be sent into the
        void, and whether it had been acted upon would be anybody's guess.
        """
        if self._arrivals is None:
            self._arrivals = arrivals(self.transport)
        return not self._arrivals()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._waiting is None and self._response is None and self._upload is None

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # The connection.

    def connectionMade(self) -> None:
        """Connected: small writes go out at once, and a dead peer is noticed in time."""
        transport: Any = self.transport
        tune(transport)
        if isinstance(transport, Connection):
            # The endpoint has told us, and would only pass on each byte.
            transport.protocol = self

    def dataReceived(self, data: bytes) -> None:
        """Parse the answer; whatever comes without having been asked for ends the connection."""
        if self.idle or self._error is not None:
            self.abort()
            return
        if self.reused and not self._heard and (request := self._take_back()) is not None:
            # An answer to what has not been asked: some servers say 408 before they hang up.
            self.abort()
            self._end(request)
            return
        self._heard = True
        parser = self._parser
        try:
            parser.feed(data)
        except MalformedResponse as error:
            self._fail(error)
            return
        if parser.complete:
            self._finish()
        self._update_reading()
        if self._upload is not None:
            self.body_held()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The upstream has closed, or we have cut."""
        self._deadline.stop()
        self._lost(self)
        response = self._response
        well = self._error is None and isinstance(reason.value, ConnectionDone)
        if well and response is not None and response.until_close:
            response.ended(Failure(PotentialDataLoss()))
        self._end(
            self._error
            or self._take_back()
            or UpstreamGone("the upstream closed the connection before its answer was whole")
        )
        self.transport = self._arrivals = None
        self._parser.close()
        del self._parser  # it knows this connection, which would wait for the collector

    # What the parser tells.

    def head_arrived(self, head: AnswerHead) -> None:
        """See :class:`AnswerEvents`."""
        self._deadline.clear()
        self._kept = head.kept
        self._response = WireResponse(head, changed=self._update_reading, abort=self.abort)

    def body_received(self, data: bytes) -> None:
        """See :class:`AnswerEvents`."""
        if self._response is not None:
            self._response.data_received(data)

    # What follows from it.

    def _progressed(self) -> None:
        if self._waiting is not None:
            self._deadline.set(self._head_timeout)

    def _take_back(self) -> NotSent | None:
        """Return the request, if this kept connection had ended before a byte of it was sent."""
        if not self.reused or self._waiting is None:
            return None
        data = unsent(self.transport)
        if len(data) != self._written:
            return None
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.detach()
        return NotSent(data, upload)

    def _update_reading(self) -> None:
        if self._waiting is not None:
            self._hand_over()
        transport: Any = self.transport
        if transport is None:
            return
        response = self._response
        reading = response is None or self._parser.complete or response.wants_data
        if reading != self._reading:
            self._reading = reading
            (transport.resumeProducing if reading else transport.pauseProducing)()
            if self._upload is not None:
                self.body_held()

    def _hand_over(self) -> None:
        """Fire the Deferred once the head is there: outside the parser, so that it may do anything."""
        if self._waiting is not None and self._response is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(self._response)

    def _finish(self) -> None:
        """The answer is whole: let go of the connection, or cut it where it cannot be used again."""
        response = self._response
        if response is None:
            return
        # Of a head nothing can be left when its answer has come; of a body, much.
        stuck = self._upload is not None or (self._has_body and unsent(self.transport) != b"")
        usable = self._error is None and not stuck and self._parser.persistent
        waiting, self._waiting = self._waiting, None
        self._response = None
        if usable:
            self.reused = True
            self._deadline.set(self._idle_timeout if self._kept is None else self._until_kept(self._kept))
            self._released(self)
        elif stuck:
            # A body that goes on after its answer has nobody left to read it.
            self._stop_upload()
            self.abort()
        else:
            self._close()
        response.ended(WHOLE)
        if waiting is not None:
            # Last of all: whoever waits can take the answer as a whole, and may use this connection again.
            waiting.callback(response)

    def _until_kept(self, kept: int) -> float:
        """Return how long an unused connection is kept here which the upstream keeps for ``kept`` seconds."""
        ours = max(kept - 1.0, kept / 2)
        return min(ours, self._idle_timeout or ours)

    def _close(self) -> None:
        """Close: at once, unless TLS still has to say good-bye, for which there is not for ever."""
        if self.transport is not None:
            self._closing = True
            self._deadline.set(LINGER)
            self.transport.loseConnection()

    def _too_slow(self) -> None:
        if self._closing:
            self.abort()
        elif self.idle:
            self._close()
        elif self._response is None:
            self._fail(ResponseHeadTimeout(f"no response head within {self._head_timeout:g} s"))
        else:
            self._log.warn(
                "cut an answer: for {seconds:g} s the upstream sent nothing, and took nothing of the request",
                seconds=self._head_timeout,
            )
            self._fail(
                UploadStalled(f"neither the request nor its answer went on for {self._head_timeout:g} s")
            )

    def _cancelled(self, _waiting: Deferred[WireResponse]) -> None:
        self._waiting = None
        self._fail(UpstreamGone("the request was given up"))
        _waiting.errback(CancelledError())

    def _fail(self, error: WireError) -> None:
        self._error = self._error or error
        self._stop_upload()
        self.abort()
        self._end(self._error)

    def _end(self, error: WireError) -> None:
        self._deadline.clear()
        self._stop_upload()
        waiting, self._waiting = self._waiting, None
        response, self._response = self._response, None
        if waiting is not None:
            waiting.errback(error)
        elif response is not None:
            response.ended(Failure(error))

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop()

    # What the upload calls: see :class:`Carrier`.

    def write_body(self, data: bytes) -> None:
        """Send a piece of the request's body, framing included."""
        self._written += len(data)
        self._has_body = True
        self._progressed()
        self.transport.write(data)  # type: ignore[union-attr]

    def body_held(self) -> None:
        """See :class:`Carrier`. Once the answer has begun, either it or the request must go on.

        As long as we do not read the answer, since its reader is slow, the upstream may not be able to.
        """
        if self._response is not None and self._upload is not None:
            stalls = self._upload.held and self._reading
            self._deadline.set(self._head_timeout if stalls else 0)

    def body_sent(self) -> None:
        """The request is whole."""
        self._upload = None
        if self._waiting is None:
            self._deadline.clear()
        self._progressed()

    def body_failed(self, failure: Failure) -> None:
        """The body's source has failed: what was sent must not look whole."""
        self._fail(UpstreamGone(f"the request body ended early: {failure.getErrorMessage()}"))
