"""Bytes to requests: llhttp, the limits of a head, and the judgement of each head. No I/O.

llhttp's callbacks only become :class:`Events`; whoever feeds it acts on them after it has returned, so
that a resource that answers at once never runs inside the parser.

Where a message ends is known to the byte: outside a body of known length llhttp never sees past an empty
line. So a limit is met, and the start of a request looked at, in the same way however the network has cut
the bytes.

A client says the same head again and again. One that is the last one of its connection but for its length
reads as that one did, and is not parsed again: that is two fifths of what a request costs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import httptools
from attrs import define, field, frozen

from mcp_oauth2_proxy.wire.chunks import Chunks, empty_line
from mcp_oauth2_proxy.wire.head import TARGET_TOO_LONG, Head, Pairs, Rejection, judge_head, trimmed
from mcp_oauth2_proxy.wire.limits import MAX_REMEMBERED_HEAD, Limits
from mcp_oauth2_proxy.wire.repeats import LENGTH, Repeatable, replaced

#: Bytes that the chunked framing of one body may take beside :data:`FRAMING_PER_BYTE` for each byte of it:
#: chunk extensions are ignored (RFC 9112 section 7.1.1), endless ones are not. As much as Go allows.
MAX_FRAMING = 16 * 1024
#: A body that trickles in chunks of one byte has five bytes of framing for each.
FRAMING_PER_BYTE = 8
#: A line that asks for another protocol (RFC 9110 section 7.8).
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
#: A request line that is well-formed up to a version that nobody here speaks.
_OTHER_VERSION = re.compile(rb"[A-Z-]+ [^ \r\n]+ HTTP/[2-9]\.[0-9]")


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
    #: What others have made of this head: the same for every request of the connection that repeats it.
    notes: dict[str, Any] = field(factory=dict, eq=False)

    @property
    def repeatable(self) -> bool:
        """Whether what follows the head is certain: no body, or one of known length that is not asked for."""
        return self.head.length is not None and b"expect" not in self.head.first

    def repeated(self, changed: Mapping[bytes, bytes]) -> ArrivedHead:
        """See :class:`~mcp_oauth2_proxy.wire.repeats.Reading`: of another length. The notes are the same."""
        old = self.head
        head = Head(old.path_and_query, int(changed[LENGTH]), False, {**old.first, **changed})
        return ArrivedHead(
            self.method, self.target, self.version, replaced(self.pairs, changed), head, self.notes
        )


class _Refused(Exception):
    """Ends a parse from within a callback; :attr:`RequestParser.rejection` holds the reason."""


class _Upgrade(Exception):
    """Ends the parse of a head that asks for another protocol."""


@define(eq=False)
class _Message:
    """The request that is being parsed."""

    target: bytes = b""
    pairs: Pairs = field(factory=list)
    has_head: bool = False
    #: Bytes of a body of known length that are still to come.
    left: int = 0
    #: Where a chunked body is, and how many bytes of framing it may still take.
    chunks: Chunks | None = None
    framing: int = MAX_FRAMING
    #: Whether llhttp has not seen the head, and must not see the body.
    repeated: bool = False


class RequestParser:
    """Parses one connection's bytes."""

    def __init__(self, events: Events, limits: Limits) -> None:
        self._events = events
        self._limits = limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._message: _Message | None = None
        #: A head that nobody has been told of yet.
        self._arrived: ArrivedHead | None = None
        #: The last head, in case that it is repeated.
        self._last_head: Repeatable[ArrivedHead] | None = None
        #: The head that is being parsed, as far as it has been; and the empty line before it.
        self._head = self._lead = b""
        #: Whether nothing more will be understood: broken, or the last request has been parsed.
        self.ended = False
        #: Whether what has come is no acceptable request, or not to its end.
        self.broken = False
        #: Whether the request that has begun is the last one: its client wants the connection closed.
        self.last = False
        #: What to answer where the connection ended in something that was no acceptable request.
        self.rejection: Rejection | None = None

    @property
    def in_request(self) -> bool:
        """Whether a request has begun and is not whole yet."""
        return self._message is not None

    def feed(self, data: bytes, start: int = 0) -> int:
        """Parse what the client has sent, from ``start`` to where a message may end; return where that is.

        What follows there waits until the caller feeds it: it is not looked at before.
        """
        message = self._message
        if message is None or not message.has_head:
            return self._feed_head(data, start)
        if message.chunks is not None:
            return self._feed_chunks(message, message.chunks, data, start)
        end = min(len(data), start + message.left)
        if end == start:
            self._break_off(_MALFORMED)  # llhttp waits for more of a body than there is: it is not believed
            return len(data)
        message.left -= end - start
        if message.repeated:
            self._events.body_received(data[start:end])
            if not message.left:
                self._complete()
            return end
        self._run(data if end - start == len(data) else memoryview(data)[start:end])
        return end

    def _feed_head(self, data: bytes, start: int) -> int:
        if not self._head and (data[start] in b"\r\n" or self._lead == b"\r"):
            # One empty line may precede a request (RFC 9112 section 2.2): old clients send one too many.
            self._lead += data[start : start + 1]
            if self._lead not in (b"\r", b"\r\n"):
                self._break_off(_MALFORMED)
            return start + 1
        last = self._last_head
        if last is not None and not self._head and (again := last.again(data, start)) is not None:
            self._repeat(again[0])
            return again[1]
        known, limit = len(self._head), self._limits.max_header_bytes
        end = empty_line(self._head[-3:], data, start)
        too_large = known + end - start > limit
        if too_large:
            end = start + limit - known
        piece = data[start:end]
        self._head = self._head + piece if known else piece
        self._run(piece)
        self._tell_head()
        if too_large and not self.ended:
            self._break_off(_TOO_LARGE if b"\r\n" in self._head else TARGET_TOO_LONG)
        return end

    def _repeat(self, arrived: ArrivedHead) -> None:
        """Take a head that is the last one again. llhttp is between two requests, and stays there."""
        left = arrived.head.length or 0
        self._message = _Message(has_head=True, left=left, repeated=True)
        self._events.request_began()
        self._events.head_arrived(arrived)
        if not left:
            self._complete()

    def _feed_chunks(self, message: _Message, chunks: Chunks, data: bytes, start: int) -> int:
        end = chunks.follow(data, start)
        message.framing -= end - start
        self._run(data if end - start == len(data) else memoryview(data)[start:end])
        if message.framing < 0 and message is self._message:
            self._break_off(_MALFORMED)
        return end

    def _run(self, piece: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserInvalidMethodError, httptools.HttpParserInvalidURLError) as error:
            self._break_off(_malformed(error))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if isinstance(error.__context__, _Upgrade):
                self._without_upgrade()
            else:
                self._break_off(_VERSION if _OTHER_VERSION.match(self._head) else _malformed(error))

    def _without_upgrade(self) -> None:
        """Parse a head again as if it had not asked for another protocol, which nobody has to grant.

        llhttp would take the request for whole at its head, and its body for the other protocol. Java's
        client asks for h2c with every POST.
        """
        self._parser = httptools.HttpRequestParser(self)
        self._head = _UPGRADE.sub(b"", self._head)
        self._run(self._head)

    def forget(self) -> None:
        """Keep nothing of the last head: what it asked for will take long."""
        self._last_head = None

    def close(self) -> None:
        """Forget everybody: the connection is over, and who know each other would wait for the collector."""
        self._parser = self._events = None  # type: ignore[assignment]

    def give_up(self, rejection: Rejection) -> None:
        """Parse no more: the rest of the request did not come."""
        self._break_off(rejection)

    def _break_off(self, rejection: Rejection) -> None:
        self.ended = self.broken = True
        message, self._message = self._message, None
        if message is not None and message.has_head and self._arrived is None:
            self.rejection = None  # its request has been made and answers for itself
        elif self.rejection is None:
            self.rejection = rejection
        self._arrived = None

    def _tell_head(self) -> None:
        """Tell of a head once llhttp has nothing against it either, which it says last."""
        if self._arrived is not None:
            arrived, self._arrived = self._arrived, None
            head, self._head = self._head, b""
            if arrived.repeatable and not self.last and len(head) <= MAX_REMEMBERED_HEAD:
                self._last_head = Repeatable(head, arrived, (LENGTH,))
            self._events.head_arrived(arrived)

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        begun = self._message is not None
        self._message = _Message()
        if not begun:
            self._events.request_began()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if self._message is None:
            raise _Refused
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, whole. Trailers are dropped: nobody here asks for them (RFC 9110 section 6.5.1)."""
        message = self._message
        if message is None:
            raise _Refused
        if message.has_head:
            return
        message.pairs.append((name, trimmed(name, value)))
        if len(message.pairs) > self._limits.max_header_lines:
            self._refuse(Rejection(431, "the request has too many header lines"))

    def on_headers_complete(self) -> None:
        """The head is there: judge it."""
        message = self._current()
        if self._parser.should_upgrade() and _UPGRADE.search(self._head):
            raise _Upgrade
        method, version = self._parser.get_method(), self._parser.get_http_version()
        # llhttp also takes RTSP and ICE, and more than one space; a line has one reading here.
        line = b"%b %b HTTP/%b\r\n" % (method, message.target, version.encode("ascii"))
        head = (
            judge_head(method, message.target, version, message.pairs)
            if self._head.startswith(line)
            else _MALFORMED
        )
        if isinstance(head, Rejection):
            self._refuse(head)
            return
        message.has_head = True
        if head.length is None:
            message.chunks = Chunks()
        else:
            message.left = head.length
        self.last = not self._parser.should_keep_alive()
        self._arrived = ArrivedHead(method, message.target, version, message.pairs, head)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._current().framing += (1 + FRAMING_PER_BYTE) * len(data)
        self._events.body_received(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        message = self._current()
        if message.framing < 0 or message.left or (message.chunks is not None and not message.chunks.last):
            self._refuse(_MALFORMED)
        self._tell_head()
        self._complete()

    def _complete(self) -> None:
        self._message = None
        self._head = self._lead = b""
        self.ended = self.last
        self._events.request_ended()

    def _current(self) -> _Message:
        if self._message is None:
            raise _Refused  # llhttp has called out of order: nothing it says can be trusted
        return self._message

    def _refuse(self, rejection: Rejection) -> None:
        if self.rejection is None:
            self.rejection = rejection
        raise _Refused


def _malformed(error: Exception) -> Rejection:
    """Return the refusal with llhttp's own words, which are fixed texts: who debugs a client needs them."""
    return Rejection(400, f"{_MALFORMED.description}: {error}")


_MALFORMED = Rejection(400, "the request is not well-formed HTTP/1.1")
_TOO_LARGE = Rejection(431, "the request head is too large")
_VERSION = Rejection(505, "this server speaks HTTP/1.1")
