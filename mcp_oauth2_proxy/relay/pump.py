"""Bodies on their way: each side is read as fast as the other takes it, and never faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from twisted.web.server import Request
from zope.interface import implementer

from mcp_oauth2_proxy.relay.legacy_sse import EndpointRewriter
from mcp_oauth2_proxy.wire.errors import WHOLE, BodyTooLarge, is_whole
from mcp_oauth2_proxy.wire.request import StreamingRequest


@implementer(IBodyProducer)
class RequestBody(Protocol):
    """A client's request body as the agent's body producer.

    Nothing is read, and no ``100 Continue`` sent, before the agent asks by :meth:`startProducing`:
    that is when it has a connection to the upstream. ``limit`` is in bytes, 0 for none; a longer body
    fails the upload with :exc:`BodyTooLarge`. ``failure`` says why an upload broke off, if it did.
    """

    def __init__(self, request: StreamingRequest, limit: int = 0) -> None:
        self.length = request.length
        self.failure: Failure | None = None
        self._request = request
        self._limit = limit
        self._received = 0
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin to read the client; the Deferred fires when the body is whole, or fails when it is not."""
        self._consumer = consumer
        self._request.deliverBody(self)
        return self._done

    def pauseProducing(self) -> None:
        """Hold the client back: the upstream is slower."""
        self._client().pauseProducing()

    def resumeProducing(self) -> None:
        """Let the client go on."""
        self._client().resumeProducing()

    def stopProducing(self) -> None:
        """The upstream wants no more: what still comes is thrown away, the client is not left hanging."""
        if self._consumer is not None:
            self._consumer = None
            self._client().stopProducing()

    def dataReceived(self, data: bytes) -> None:
        """Pass on a piece of the client's body."""
        if self._consumer is None:
            return
        self._received += len(data)
        if self._limit and self._received > self._limit:
            # The rest is not wanted, and the answer must say so: it may be without end.
            self._client().stopProducing()
            self._fail(Failure(BodyTooLarge(self._limit)))
            return
        self._consumer.write(data)

    def connectionLost(self, reason: Failure = WHOLE) -> None:
        """The client's body has ended: well, or not."""
        if self._consumer is None:
            return
        if is_whole(reason):
            self._consumer = None
            self._done.callback(None)
        else:
            self._fail(reason)

    def _fail(self, failure: Failure) -> None:
        self._consumer = None
        self.failure = failure
        self._done.errback(failure)

    def _client(self) -> Any:
        return self.transport


def _nobody(_whole: bool) -> None:
    """Nobody waits for this end any more."""


class ResponseBody(Protocol):
    """An upstream's response body, written into the client's request.

    The upstream's connection is the request's producer, so that a slow reader holds it back.
    ``on_data`` hears of each piece, and ``rewriter`` changes them. ``on_end`` is called once, with whether
    the body is whole; after a client has left it is not called at all.
    """

    def __init__(
        self,
        request: Request,
        *,
        on_end: Callable[[bool], None],
        on_data: Callable[[], None] | None = None,
        rewriter: EndpointRewriter | None = None,
    ) -> None:
        self._request = request
        self._rewriter = rewriter
        self._on_end = on_end
        self._on_data = on_data
        self._live = True

    def connectionMade(self) -> None:
        """Tie the two connections together."""
        self._request.registerProducer(self.transport, True)

    def detach(self) -> None:
        """Write nothing any more: the client has left."""
        self._live = False
        self._let_go()

    def finish(self) -> None:
        """End the answer here, cleanly, whatever the upstream may still have to say."""
        self._live = False
        self._let_go()
        self._request.unregisterProducer()
        self._request.finish()

    def dataReceived(self, data: bytes) -> None:
        """Pass on a piece of the upstream's body."""
        if self._live:
            if self._rewriter is not None:
                data = self._rewriter.feed(data)
            self._request.write(data)
            if self._on_data is not None:
                self._on_data()

    def connectionLost(self, reason: Failure = WHOLE) -> None:
        """The upstream's body has ended.

        Without a length and without chunks an HTTP/1.0 body ends with its connection: such a body is
        as whole as it can be. Anything else that is not the end is a truncated answer.
        """
        if self._live:
            self._live = False
            if self._rewriter is not None:
                self._request.write(self._rewriter.flush())
            self._request.unregisterProducer()
            on_end = self._on_end
            self._let_go()
            on_end(is_whole(reason) or isinstance(reason.value, PotentialDataLoss))

    def _let_go(self) -> None:
        """Forget who hears of this body: they know it, and a cycle would wait for the collector."""
        self._on_end, self._on_data, self.transport = _nobody, None, None
