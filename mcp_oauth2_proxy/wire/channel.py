"""One client connection: requests in, through the Resource tree, answers out in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.wire.answers import MALFORMED, error_body
from mcp_oauth2_proxy.wire.body import RequestBody
from mcp_oauth2_proxy.wire.deadline import Deadline
from mcp_oauth2_proxy.wire.errors import BodyIncomplete, BodyMalformed, BodyStalled
from mcp_oauth2_proxy.wire.framing import response_head
from mcp_oauth2_proxy.wire.head import Rejection
from mcp_oauth2_proxy.wire.parser import ArrivedHead, RequestParser
from mcp_oauth2_proxy.wire.request import StreamingRequest
from mcp_oauth2_proxy.wire.sockets import ended, tune

if TYPE_CHECKING:
    from mcp_oauth2_proxy.wire.site import WireSite

#: Bytes of an unwanted body that are read and dropped to keep a connection; more closes it.
MAX_DRAINED = 64 * 1024
#: Seconds the client has to read the last answer of a connection that we close, before it is cut.
LINGER = 30.0
#: Seconds between two looks at whether a client has left, while nothing of it is read.
LOOK = 0.5
#: Seconds that a connection without a request is kept open once the process is told to end.
LAST_CHANCE = 1.0
#: Requests of one connection that wait behind the one being answered before no more are parsed.
MAX_PIPELINED = 8
#: Bytes of requests that wait, before no more are parsed.
MAX_AHEAD = 64 * 1024


@implementer(IPushProducer)
class ServerChannel(Protocol):
    """The server's side of HTTP/1.1, for :class:`StreamingRequest` and through it for any Resource."""

    _log = Logger()

    def __init__(self, site: WireSite, host: str = "") -> None:
        self.site = self.factory = site
        self._host = host
        self._parser = RequestParser(self, site.limits)
        self._waiting: list[StreamingRequest] = []
        self._unparsed = b""
        #: Bytes that have been parsed since no request waited.
        self._ahead = 0
        self._current: StreamingRequest | None = None
        self._body: RequestBody | None = None
        self._deadline = Deadline(site.deadlines, self._too_slow)
        self._blocked = Deadline(site.deadlines, self.abort)
        self._reading = True
        #: Whether a request has begun in what is being parsed.
        self._began = False
        self._beginning = False
        self._closing = False
        self._producer: Any = None
        #: Whether the client reads slower than we write.
        self._held = False

    # What twisted.web's Request asks of its channel.

    def getPeer(self) -> IAddress:
        """Return the client's address."""
        return self.peer

    def getHost(self) -> IAddress:
        """Return the address the client has connected to."""
        return self.transport.getHost()  # type: ignore[union-attr]

    def isSecure(self) -> bool:
        """Return whether the client's connection is TLS."""
        return self._secure

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if data:
            self.transport.write(data)  # type: ignore[union-attr]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the client hold back whoever writes the answer."""
        if streaming:
            self._producer = producer
            if self._held:
                producer.pauseProducing()
        else:
            self._hand_transport_to(producer, False)

    def unregisterProducer(self) -> None:
        """The answer has been handed over."""
        if self._producer is None:
            self._hand_transport_to(self, True)
        self._producer = None

    def _hand_transport_to(self, producer: Any, streaming: bool) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.registerProducer(producer, streaming)

    # What the transport asks of its producer, which the channel is for as long as the connection lasts.

    def pauseProducing(self) -> None:
        """The client reads slower than we write."""
        self._held = True
        self._blocked.set(self.site.limits.write_timeout)
        self._bound_unread()
        if self._producer is not None:
            self._producer.pauseProducing()

    def _bound_unread(self) -> None:
        """Whole answers do not wait for ever; one that goes on does, where nobody has set a time for it."""
        limits = self.site.limits
        if self._current is None and limits.idle_timeout and not limits.write_timeout:
            self._blocked.set(limits.idle_timeout + LINGER)

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._held = False
        self._blocked.clear()
        if self._producer is not None:
            self._producer.resumeProducing()
        else:
            self._next()

    def stopProducing(self) -> None:
        """The transport is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    def keep_alive_after(self, request: StreamingRequest) -> bool:
        """Return whether another request may follow ``request``: asked when its answer begins."""
        if self.site.draining:
            return False
        if self._waiting or self._parser.rejection is not None:
            return True  # there is more to answer here
        if self._parser.ended or self._parser.last:
            return False
        body = request.body
        if body.complete or body.is_read:
            return True
        # Nobody wants this body. A short one is read and dropped; a long one, or one that the client
        # holds back until it is asked for, is cheaper to cut.
        return (
            isinstance(request.length, int) and request.length <= MAX_DRAINED and not request.expects_continue
        )

    def forget_head(self) -> None:
        """Remember nothing of the present request's head, in case that the next one repeats it."""
        self._parser.forget()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        self.transport.abortConnection()  # type: ignore[union-attr]

    def request_done(self, request: StreamingRequest) -> None:
        """An answer has been sent whole."""
        self.site.request_ended(request)
        self._current = None
        if self._held:
            self._bound_unread()
        if request.closes_connection or self.site.draining:
            self._close()
            return
        if not request.body.complete and not request.body.is_read:
            request.body.discard()
        self._next()

    # The connection.

    def connectionMade(self) -> None:
        """A client has come."""
        transport: Any = self.transport
        tune(transport)
        self.peer: IAddress = transport.getPeer()
        self._secure = ISSLTransport.providedBy(transport)
        transport.registerProducer(self, True)
        self.site.connections.add(self)
        self._deadline.set(self.site.limits.idle_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Parse, then act."""
        if self._parser.ended or self._closing:
            return
        self._unparsed += data
        self._parse()
        self._next()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client has gone, or we have cut it: everything that belongs to it ends now."""
        self._closing = True
        self._deadline.stop()
        self._blocked.stop()
        self._parser.close()
        self._unparsed = b""
        self.site.left(self, self._host)
        self._producer = None
        requests = [request for request in (self._current, *self._waiting) if request is not None]
        self._current = None
        self._waiting.clear()
        for request in requests:
            request.body.fail(BodyIncomplete("the client has gone"))
            request.body.flush()
            request.connectionLost(reason)
            self.site.request_ended(request)

    def drain(self) -> None:
        """Take one more request: a connection closes after its answer, an idle one that stays so soon.

        What a load balancer sends over a kept connection crosses with our closing it, and a POST is not
        sent twice: most connections are used within the moment, and close with a word.
        """
        if self._current is None and not self._waiting and not self._parser.in_request:
            self._deadline.set(LAST_CHANCE)

    # What the parser tells.

    def request_began(self) -> None:
        """See :class:`Events`."""
        self._began = True

    def head_arrived(self, arrived: ArrivedHead) -> None:
        """See :class:`Events`."""
        self._body = RequestBody(self._update_reading)
        request = StreamingRequest(self, arrived, body=self._body, request_id=self.site.new_request_id())
        self.site.request_began(request)
        self._waiting.append(request)

    def body_received(self, data: bytes) -> None:
        """See :class:`Events`."""
        if self._body is not None:
            self._body.data_received(data)

    def request_ended(self) -> None:
        """See :class:`Events`."""
        if self._body is not None:
            self._body.message_complete()
        self._body = None
        self._deadline.clear()

    # What follows from it.

    def _parse(self) -> None:
        """Parse what has come, until enough requests wait; the rest is parsed when they are fewer."""
        parser, data = self._parser, self._unparsed
        waiting = self._waiting
        at, ahead = 0, self._ahead if waiting else 0
        while at < len(data) and not parser.ended:
            if waiting and (len(waiting) > MAX_PIPELINED or ahead + at > MAX_AHEAD):
                break
            at = parser.feed(data, at)
        self._ahead = ahead + at
        self._unparsed = b"" if parser.ended else data[at:]
        if parser.ended and not parser.in_request and self._body is not None:
            self._break_body(BodyMalformed("the framing of the request body is broken"))
        if self._began:
            self._began = False
            if parser.in_request:
                # From the first byte of a head, whatever trickles in. Most requests are whole already.
                self._deadline.set(self.site.limits.read_timeout if self._reading else LOOK)
        if self._current is not None:
            self._current.body.flush()
        body = self._body
        if body is not None and self._reading:
            self._deadline.set(self.site.limits.read_timeout)
            if body.dropped > MAX_DRAINED and self._current is None and not waiting:
                self._close()  # its answer is whole, and was not to be the last

    def _break_body(self, error: BodyIncomplete) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.fail(error)
            body.flush()

    def _next(self) -> None:
        """Begin the next request, if its turn has come."""
        if self._beginning:
            return  # a request that was answered at once: the loop below goes on to the next
        self._beginning = True
        while self._current is None and self._waiting and not self._closing and not self._held:
            request = self._current = self._waiting.pop(0)
            request.process()
            if self._unparsed and not self._closing:
                self._parse()
        self._beginning = False
        if self._current is None and not self._waiting and not self._closing:
            parser = self._parser
            if parser.rejection is not None:
                self._answer_rejection(parser.rejection)
            elif parser.ended and self._body is None:
                self._close()
            elif not parser.in_request:
                self._deadline.set(self.site.limits.idle_timeout)
        self._update_reading()

    def _answer_rejection(self, rejection: Rejection) -> None:
        reference = self.site.new_request_id()
        body = error_body("invalid_request", rejection.description, reference)
        self._log.info(
            "refused a connection's request: {status} {description}",
            status=rejection.status,
            description=rejection.description,
            reason=MALFORMED,
            request_id=reference,
        )
        head, framing = response_head(
            method=b"GET",
            version=b"HTTP/1.1",
            code=rejection.status,
            phrase=b"",
            pairs=[
                (b"Content-Type", b"application/json"),
                (b"Cache-Control", b"no-store"),
                (b"Content-Length", b"%d" % len(body)),
            ],
            keep_alive=False,
            date=self.site.date(),
        )
        self.write(head + framing.frame(body))
        self._close()

    def _update_reading(self) -> None:
        """Hold the client's socket back while nobody wants what it would bring."""
        body = self._body
        reading = self._closing or ((body is None or body.wants_data) and not self._unparsed)
        if reading == self._reading:
            return
        self._reading = reading
        if reading:
            limits = self.site.limits
            if body is not None or self._parser.in_request:
                self._deadline.set(limits.read_timeout)
            else:
                answering = self._current is not None or self._waiting
                self._deadline.set(0 if answering else limits.idle_timeout)
            self.transport.resumeProducing()  # type: ignore[union-attr]
        else:
            # We are the slow one now: the client may not be blamed, but it may leave.
            self._deadline.set(LOOK)
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def _too_slow(self) -> None:
        if self._closing:
            self.transport.abortConnection()  # type: ignore[union-attr]
        elif not self._reading:
            if ended(self.transport):
                self.abort()
            else:
                self._deadline.set(LOOK)
        elif self._parser.in_request:
            self._parser.give_up(Rejection(408, "the request head did not arrive in time"))
            self._break_body(BodyStalled("the request body did not go on in time"))
            self._next()
        else:
            self._close()

    def _close(self) -> None:
        """Close after what was written has gone out.

        Closing while the client still sends would make the kernel reset the connection and take the
        answer with it: our half is closed, and what comes is dropped for a moment.
        """
        if self._closing:
            return
        self._closing = True
        self._deadline.set(LINGER)
        self._blocked.clear()
        transport: Any = self.transport
        # A transport with a producer waits for it before it closes.
        transport.unregisterProducer()
        if not self._reading:
            self._reading = True
            transport.resumeProducing()
        half_close = getattr(transport, "loseWriteConnection", None)
        if half_close is None or (self._body is None and not self._parser.broken):
            transport.loseConnection()
        else:
            half_close()
