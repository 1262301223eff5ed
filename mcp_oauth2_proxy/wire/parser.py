"""Bytes to requests: llhttp, the limits of a head, and the judgement of each head. No I/O.

llhttp's callbacks only become :class:`Events`; whoever feeds it acts on them after it has returned, so
that a resource that answers at once never runs inside the parser.
"""

from __future__ import annotations

from typing import Any, Protocol

import httptools
from attrs import define, field, frozen

from mcp_oauth2_proxy.wire.head import Head, Pairs, Rejection, judge_head
from mcp_oauth2_proxy.wire.limits import Limits


class Events(Protocol):
    """What the parser tells, in the order in which it was sent."""

    def request_began(self) -> None:
        """The first byte of a request has come."""

    def head_arrived(self, arrived: ArrivedHead) -> None:
        """A head is there and has been accepted."""

    def body_received(self, data: bytes) -> None:
        """A piece of the body, without its framing."""

    def request_ended(self) -> None:
        """The request is whole."""


@frozen
class ArrivedHead:
    """An accepted head as it came, and what was made of it."""

    method: bytes
    target: bytes
    version: str
    pairs: Pairs
    head: Head


class _Refused(Exception):
    """Ends a parse from within a callback; :attr:`RequestParser.rejection` holds the reason."""


@define(eq=False)
class _Message:
    """The request that is being parsed."""

    target: bytes = b""
    pairs: Pairs = field(factory=list)
    size: int = 0
    has_head: bool = False


class RequestParser:
    """Parses one connection's bytes."""

    def __init__(self, events: Events, limits: Limits) -> None:
        self._events = events
        self._limits = limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._message: _Message | None = None
        self._unparsed = 0
        #: Whether nothing more will be understood: broken, upgraded, or the last request has been parsed.
        self.ended = False
        #: Whether the request that has begun is the last one: its client wants the connection closed.
        self.last = False
        #: What to answer where the connection ended in something that was no acceptable request.
        self.rejection: Rejection | None = None

    @property
    def in_request(self) -> bool:
        """Whether a request has begun and is not whole yet."""
        return self._message is not None

    def feed(self, data: bytes | memoryview) -> None:
        """Parse what the client has sent."""
        message = self._message
        in_head = message is not None and not message.has_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An upgrade is never taken up: the request is answered as if it had not asked (RFC 9110
            # section 7.8), and what follows in the other protocol is dropped.
            self.ended = True
        except (httptools.HttpParserError, _Refused):
            self._break_off(Rejection(400, "the request is not well-formed HTTP/1.1"))
        else:
            if in_head and message is self._message and message is not None and not message.has_head:
                # llhttp holds an unfinished line where its callbacks cannot see it.
                self._unparsed += len(data)
                if self._unparsed > self._limits.max_header_bytes:
                    self._break_off(_TOO_LARGE)

    def give_up(self, rejection: Rejection) -> None:
        """Parse no more: the rest of the request did not come."""
        self._break_off(rejection)

    def _break_off(self, rejection: Rejection) -> None:
        self.ended = True
        message, self._message = self._message, None
        if message is not None and message.has_head:
            self.rejection = None  # its request has been made and answers for itself
        elif self.rejection is None:
            self.rejection = rejection

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._message = _Message()
        self._unparsed = 0
        self._events.request_began()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        message = self._current()
        message.target += url
        self._grow(message, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, whole."""
        message = self._current()
        if message.has_head:
            # A trailer: nobody here asks for them, and they must not look like headers.
            self._grow(message, len(name) + len(value) + 4)
            return
        message.pairs.append((name, value))
        self._grow(message, len(name) + len(value) + 4)
        if len(message.pairs) > self._limits.max_header_lines:
            self._refuse(Rejection(431, "the request has too many header lines"))

    def on_headers_complete(self) -> None:
        """The head is there: judge it."""
        message = self._current()
        method, version = self._parser.get_method(), self._parser.get_http_version()
        head = judge_head(method, message.target, version, message.pairs)
        if isinstance(head, Rejection):
            self._refuse(head)
            return
        message.has_head = True
        self.last = not self._parser.should_keep_alive()
        self._events.head_arrived(ArrivedHead(method, message.target, version, message.pairs, head))

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._events.body_received(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._message = None
        self.ended = self.last
        self._events.request_ended()

    def _current(self) -> _Message:
        if self._message is None:
            raise _Refused  # llhttp has called out of order: nothing it says can be trusted
        return self._message

    def _grow(self, message: _Message, size: int) -> None:
        message.size += size
        if message.size > self._limits.max_header_bytes:
            self._refuse(_TOO_LARGE)

    def _refuse(self, rejection: Rejection) -> None:
        if self.rejection is None:
            self.rejection = rejection
        raise _Refused


_TOO_LARGE = Rejection(431, "the request head is too large")
