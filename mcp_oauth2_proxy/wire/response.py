"""An upstream's answer while it arrives: its head at once, its body as fast as it is taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from mcp_oauth2_proxy.wire.answer import AnswerHead
from mcp_oauth2_proxy.wire.errors import WHOLE, is_whole
from mcp_oauth2_proxy.wire.limits import MAX_PIECES


@implementer(IResponse, IPushProducer)
class WireResponse:
    """See :class:`IResponse`. :attr:`rawHeaders` has the header lines in order, :meth:`abort` cuts it short.

    Whoever gets a response must either take its body or abort it: until then its connection waits.
    """

    previousResponse: IResponse | None = None
    request = None
    _reader: IProtocol | None = None
    _reason: Failure | None = None
    _paused = False
    _done = False

    def __init__(self, head: AnswerHead, *, changed: Callable[[], None], abort: Callable[[], None]) -> None:
        self.version = head.version
        self.code = head.code
        self.phrase = head.phrase
        self.rawHeaders = head.pairs
        self.date = head.date
        #: For what is made of the head: answers of one connection that repeat it share it, whatever their
        #: length and date.
        self.headNotes = head.notes
        self.length = UNKNOWN_LENGTH if head.length is None else head.length
        self.abort = abort
        self._changed = changed
        self._chunks: list[bytes] = []

    @cached_property
    def headers(self) -> Headers:
        """The headers as Twisted's multi-map."""
        headers = Headers()
        for name, value in self.rawHeaders:
            headers.addRawHeader(name, value)
        return headers

    def setPreviousResponse(self, response: IResponse) -> None:
        """See :class:`IResponse`."""
        self.previousResponse = response

    def take(self) -> bytes | None:
        """Return the body, if all of it is here already: as good as having it delivered, in one piece.

        :raises RuntimeError: when the body has been delivered before.
        """
        if self._reason is not WHOLE:
            return None
        if self._reader is not None or self._done:
            raise RuntimeError("the body of this response has been delivered already")
        self._done = True
        return b"".join(self._chunks)

    @property
    def until_close(self) -> bool:
        """Whether only the end of the connection ends the body."""
        return self.length is UNKNOWN_LENGTH and not any(
            name.lower() == b"transfer-encoding" for name, _ in self.rawHeaders
        )

    @property
    def wants_data(self) -> bool:
        """Whether the upstream's socket should be read for this answer."""
        return self._done or (self._reader is not None and not self._paused)

    def deliverBody(self, protocol: IProtocol) -> None:
        """See :class:`IResponse`.

        :raises RuntimeError: when the body has been delivered before.
        """
        if self._reader is not None or self._done:
            raise RuntimeError("the body of this response has been delivered already")
        self._reader = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]
        self._flush()
        self._changed()

    def data_received(self, data: bytes) -> None:
        """Take a piece of the body from the parser."""
        self._chunks.append(data)
        if len(self._chunks) > MAX_PIECES:
            self._chunks[:] = [b"".join(self._chunks)]
        if self._reader is not None:
            self._flush()

    def ended(self, reason: Failure) -> None:
        """No more will come: ``ResponseDone`` where the body is whole."""
        if self._reason is not None or self._done:
            return
        self._reason = reason
        if not is_whole(reason):
            # A cut answer is known at once: nobody should go on sending half of it.
            self._chunks.clear()
        if self._reader is not None:
            self._flush()

    def pauseProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = True
        self._changed()

    def resumeProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = False
        self._flush()
        self._changed()

    def stopProducing(self) -> None:
        """See :class:`IPushProducer`: the reader wants no more."""
        self.abort()

    def loseConnection(self) -> None:
        """Readers made for Twisted's Agent know the producer as a transport."""
        self.abort()

    abortConnection = loseConnection

    def _flush(self) -> None:
        reader = self._reader
        if reader is None:
            return
        while self._chunks and not self._paused:
            data = b"".join(self._chunks)
            self._chunks.clear()
            reader.dataReceived(data)
        if self._reason is not None and not self._chunks and not self._done:
            self._done = True
            # Reader and response know each other: who lets go leaves nothing for the collector.
            self._reader = None
            reader.connectionLost(self._reason)
