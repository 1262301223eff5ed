"""A request's body: held back until somebody asks for it, then handed on as fast as it is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.wire.errors import WHOLE, BodyIncomplete, BodyTooLarge, is_whole
from mcp_oauth2_proxy.wire.limits import MAX_PIECES

if TYPE_CHECKING:
    from mcp_oauth2_proxy.wire.request import StreamingRequest


@implementer(IPushProducer)
class RequestBody:
    """The incoming body of one request, between the parser and whoever reads it.

    ``changed`` is called whenever :attr:`wants_data` may have changed, so that the channel can hold
    the client's socket back: at most what one read of the socket brought is ever held here.
    """

    __slots__ = (
        "_changed",
        "_chunks",
        "_discarding",
        "_paused",
        "_reader",
        "_reason",
        "complete",
        "dropped",
        "started",
    )

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._chunks: list[bytes] = []
        self._reader: IProtocol | None = None
        self._reason: Failure | None = None
        self._paused = False
        self._discarding = False
        #: Bytes that have come and that nobody wanted.
        self.dropped = 0
        #: Whether the last byte has come from the client.
        self.complete = False
        #: Whether anything has come from the client.
        self.started = False

    @property
    def asked_for(self) -> bool:
        """Whether somebody reads the body, or has read it."""
        return self._reader is not None or self._discarding

    @property
    def is_read(self) -> bool:
        """Whether somebody reads the body, and wants the rest of it."""
        return self._reader is not None and not self._discarding

    @property
    def wants_data(self) -> bool:
        """Whether the client's socket should be read for this body."""
        if self.complete or self._discarding:
            return True
        return self._reader is not None and not self._paused

    def data_received(self, data: bytes) -> None:
        """Take a piece from the parser."""
        self.started = True
        if self._discarding:
            self.dropped += len(data)
            return
        self._chunks.append(data)
        if len(self._chunks) > MAX_PIECES:
            self._chunks[:] = [b"".join(self._chunks)]

    def message_complete(self) -> None:
        """The parser has seen the end."""
        self.complete = True
        if self._reason is None and not self._discarding:
            self._reason = WHOLE

    def fail(self, error: Exception) -> None:
        """The rest will not come."""
        if self._reason is None and not self._discarding:
            self._reason = Failure(error)
            # A broken body is known at once, also to a reader that has paused.
            self._chunks.clear()
            self._paused = False

    def deliver_to(self, reader: IProtocol) -> None:
        """Begin to hand the body on.

        :raises RuntimeError: when it has been asked for before.
        """
        if self.asked_for:
            raise RuntimeError("the body of this request has been delivered already")
        self._reader = reader
        reader.makeConnection(self)  # type: ignore[arg-type]
        self.flush()
        self._changed()

    def take(self) -> bytes | None:
        """Return the body, if all of it is here already: as good as having it delivered, in one piece.

        :raises RuntimeError: when it has been asked for before.
        """
        if self._reason is not WHOLE:
            return None
        if self.asked_for:
            raise RuntimeError("the body of this request has been delivered already")
        self._discarding, self._reason = True, None
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

    def discard(self) -> None:
        """Read and drop what is still to come: its reader is gone, or never came."""
        self._discarding = True
        self._reader = None
        self._chunks.clear()
        self._changed()

    def flush(self) -> None:
        """Hand on what is held, as far as the reader takes it."""
        reader = self._reader
        if reader is None:
            return
        while self._chunks and not self._paused:
            data = b"".join(self._chunks)
            self._chunks.clear()
            reader.dataReceived(data)
        if self._reason is not None and not self._chunks and not self._discarding:
            reason, self._reason = self._reason, None
            self._discarding = True
            self._reader = None
            reader.connectionLost(reason)

    def pauseProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = True
        self._changed()

    def resumeProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = False
        self.flush()
        self._changed()

    def stopProducing(self) -> None:
        """See :class:`IPushProducer`: the reader wants no more."""
        self._reason = None
        self.discard()


class _Reader(Protocol):
    """Collects a whole body, up to a bound."""

    def __init__(self, limit: int, finished: Deferred[bytes]) -> None:
        self._limit = limit
        self._finished: Deferred[bytes] | None = finished
        self._chunks: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._chunks.append(data)
            return
        self._chunks.clear()
        self._end(BodyTooLarge(f"the body is larger than {self._limit} bytes"))
        if self.transport is not None:
            self.transport.stopProducing()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = WHOLE) -> None:
        if is_whole(reason):
            self._end(b"".join(self._chunks))
        else:
            self._end(BodyIncomplete(reason.getErrorMessage()))

    def _end(self, result: bytes | WireFailure) -> None:
        finished, self._finished = self._finished, None
        if finished is None:
            return
        if isinstance(result, bytes):
            finished.callback(result)
        else:
            finished.errback(result)


WireFailure = BodyTooLarge | BodyIncomplete


async def read_body(request: StreamingRequest, limit: int) -> bytes:
    """Return the whole body of ``request``.

    :raises BodyTooLarge: it is larger than ``limit`` bytes; nothing more of it is kept.
    :raises BodyIncomplete: its end did not come.
    """
    if isinstance(request.length, int) and request.length > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    finished: Deferred[bytes] = Deferred()
    request.deliverBody(_Reader(limit, finished))
    return await finished
