"""A request on its way to the upstream: its head as bytes, its body as it is produced."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from mcp_oauth2_proxy.wire.errors import BodyIncomplete
from mcp_oauth2_proxy.wire.head import Pairs
from mcp_oauth2_proxy.wire.headers import RawHeaders, begun

#: Methods whose empty body is announced with ``Content-Length: 0``.
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


def request_head(
    method: bytes, target: bytes, host: bytes, headers: Headers | None, body: IBodyProducer | None
) -> bytes:
    """Return the head of a request.

    :raises ValueError: a part of it would break the head; nothing has been sent.
    """
    start = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host)
    head = headers.begun(start) if isinstance(headers, RawHeaders) else begun(start, _pairs(headers))
    if body is not None:
        chunked = body.length is UNKNOWN_LENGTH
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % body.length
    else:
        framing = b"Content-Length: 0\r\n" if method in _WITH_BODY else b""
    return head + framing + b"\r\n"


def _pairs(headers: Headers | None) -> Pairs:
    if headers is None:
        return []
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]


@implementer(IBodyProducer)
class WholeBody:
    """A body that is there already. On this wire it goes out with the head, in one write."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :class:`IBodyProducer`."""
        consumer.write(self.data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """See :class:`IBodyProducer`: nothing is left to hold back."""

    def resumeProducing(self) -> None:
        """See :class:`IBodyProducer`."""

    def stopProducing(self) -> None:
        """See :class:`IBodyProducer`."""


class Carrier(Protocol):
    """The connection that a request's body goes out on."""

    transport: Any

    def write_body(self, data: bytes) -> None:
        """Send a piece of the body, framing included."""

    def body_held(self) -> None:
        """The peer takes the body slower than it comes, or as fast again: see :attr:`Upload.held`."""

    def body_sent(self) -> None:
        """The body is whole, and has been written."""

    def body_failed(self, failure: Failure) -> None:
        """The body's source has failed: what was sent must not look whole."""


@implementer(IConsumer, IPushProducer)
class Upload:
    """A request's body between its producer and its connection: framed here, held back by the transport.

    It can change connections as long as nothing of the request has been sent: see :meth:`detach`.
    """

    __slots__ = ("_body", "_carrier", "_failure", "_kept", "_left", "held")

    def __init__(self, body: IBodyProducer) -> None:
        #: ``None`` once it has ended, or is not wanted any more.
        self._body: IBodyProducer | None = body
        #: Bytes that are still to come of those announced; ``None`` for chunks.
        self._left: int | None = None if body.length is UNKNOWN_LENGTH else body.length
        self._carrier: Carrier | None = None
        self._failure: Failure | None = None
        #: What the body brought while there was no connection.
        self._kept: list[bytes] = []
        #: Whether the connection takes no more for the moment.
        self.held = False

    def start(self, carrier: Carrier) -> None:
        """Ask for the body, and send it on the connection ``carrier``."""
        self._carrier = carrier
        carrier.transport.registerProducer(self, True)
        if self._body is not None:
            self._body.startProducing(self).addCallbacks(self._whole, self._broken)

    def detach(self) -> None:
        """Wait for another connection: the body is held back until :meth:`attach`."""
        self._carrier, self.held = None, False
        if self._body is not None:
            self._body.pauseProducing()

    def attach(self, carrier: Carrier) -> None:
        """Go on, on another connection, which has what the one before had not sent."""
        if self._failure is not None:
            carrier.body_failed(self._failure)
            return
        for data in self._kept:
            carrier.write_body(data)
        self._kept.clear()
        if self._body is None:
            carrier.body_sent()
            return
        self._carrier = carrier
        carrier.transport.registerProducer(self, True)
        self._body.resumeProducing()

    def stop(self) -> None:
        """Nothing more is to be sent: what still comes is dropped."""
        carrier, self._carrier = self._carrier, None
        body, self._body = self._body, None
        if carrier is not None and carrier.transport is not None:
            carrier.transport.unregisterProducer()
        if body is not None:
            body.stopProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See :class:`IConsumer`: the producer is known already."""

    def unregisterProducer(self) -> None:
        """See :class:`IConsumer`."""

    def write(self, data: bytes) -> None:
        """See :class:`IConsumer`. After the answer has ended, what still comes is dropped."""
        if not data or self._body is None:
            return
        if self._left is None:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))
            return
        self._left -= len(data)
        if self._left >= 0:
            self._send(data)

    def pauseProducing(self) -> None:
        """See :class:`IPushProducer`: the upstream reads slower than the client sends."""
        self._hold(True)
        if self._body is not None:
            self._body.pauseProducing()

    def resumeProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._hold(False)
        if self._body is not None:
            self._body.resumeProducing()

    def _hold(self, held: bool) -> None:
        self.held = held
        if self._carrier is not None:
            self._carrier.body_held()

    def stopProducing(self) -> None:
        """See :class:`IPushProducer`: the transport is gone, and its connection decides what follows."""

    def _send(self, data: bytes) -> None:
        if self._carrier is None:
            self._kept.append(data)
        else:
            self._carrier.write_body(data)

    def _whole(self, _: object) -> None:
        if self._body is None:
            return  # it was stopped: nobody asks any more
        if self._left:
            # The next request on this connection would be taken for the rest, or the rest for a request.
            self._broken(Failure(BodyIncomplete("the body is not as long as it was said to be")))
            return
        self._body = None
        if self._left is None:
            self._send(b"0\r\n\r\n")
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.transport.unregisterProducer()
            carrier.body_sent()

    def _broken(self, failure: Failure) -> None:
        if self._body is None:
            return
        self._body, self._failure = None, failure
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.body_failed(failure)
