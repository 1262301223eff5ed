"""A request on its way to the upstream: its head as bytes, its body as it is produced."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from mcp_oauth2_proxy.wire.head import Pairs
from mcp_oauth2_proxy.wire.headers import RawHeaders

#: Header lines that are computed here. What the caller passes of them would be a second framing.
_OURS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"expect",
        b"te",
    }
)
#: Methods whose empty body is announced with ``Content-Length: 0``.
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


def request_head(
    method: bytes, target: bytes, host: bytes, headers: Headers | None, body: IBodyProducer | None
) -> bytes:
    """Return the head of a request.

    :raises ValueError: a part of it would break the head; nothing has been sent.
    """
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + host]
    lines += [name + b": " + value for name, value in _pairs(headers) if name.lower() not in _OURS]
    if body is not None and body.length is not UNKNOWN_LENGTH:
        lines.append(b"Content-Length: %d" % body.length)
    elif body is not None:
        lines.append(b"Transfer-Encoding: chunked")
    elif method in _WITH_BODY:
        lines.append(b"Content-Length: 0")
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    ends = len(lines)
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        raise ValueError("a header line of the request has a line break or a NUL")
    return head


def _pairs(headers: Headers | None) -> Pairs:
    if headers is None:
        return []
    if isinstance(headers, RawHeaders):
        return headers.pairs
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]


@implementer(IConsumer)
class BodyWriter:
    """What a body producer writes to: it frames the pieces and lets the transport hold the producer back."""

    def __init__(self, transport: Any, *, chunked: bool, progressed: Any) -> None:
        self._transport = transport
        self._chunked = chunked
        self._progressed = progressed
        self._closed = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See :class:`IConsumer`."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See :class:`IConsumer`."""
        self._transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See :class:`IConsumer`. After the answer has ended, what still comes is dropped."""
        if self._closed or not data:
            return
        self._progressed()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self) -> None:
        """The body is whole."""
        if self._chunked and not self._closed:
            self._transport.write(b"0\r\n\r\n")
        self._closed = True

    def close(self) -> None:
        """Nothing more is to be sent."""
        self._closed = True
