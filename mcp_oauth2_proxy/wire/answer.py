"""Bytes to answers: llhttp, the limits of a head, and the judgement of each head. No I/O.

As for requests (see :mod:`mcp_oauth2_proxy.wire.parser`), llhttp never sees past an empty line outside a
body, and a head that is the last one of its connection but for its length and date is not parsed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import httptools
from attrs import field, frozen

from mcp_oauth2_proxy.wire.chunks import Chunks, empty_line
from mcp_oauth2_proxy.wire.errors import MalformedResponse
from mcp_oauth2_proxy.wire.head import (
    Ambiguous,
    Pairs,
    announces_body,
    answer_framing,
    date_of,
    is_phrase,
    kept_for,
    trimmed,
)
from mcp_oauth2_proxy.wire.limits import MAX_ANSWER_HEAD_BYTES, MAX_ANSWER_HEAD_LINES, MAX_REMEMBERED_HEAD
from mcp_oauth2_proxy.wire.parser import FRAMING_PER_BYTE, MAX_FRAMING
from mcp_oauth2_proxy.wire.repeats import DATE, LENGTH, Repeatable, replaced

#: What every answer begins with. llhttp would also take RTSP, ICE, and empty lines before it.
_START = b"HTTP/1."


@frozen
class AnswerHead:
    """A head that has been accepted. ``length`` is ``None`` where only the body's end tells it."""

    version: tuple[bytes, int, int]
    code: int
    phrase: bytes
    pairs: Pairs
    length: int | None
    #: Whether nothing but another answer may follow this one, as far as its head says.
    reusable: bool
    #: Seconds for which the upstream keeps the connection, if it says so.
    kept: int | None
    #: When it was made, as it says.
    date: bytes | None
    #: What others have made of this head: the same for all that repeat it, whatever their length and date.
    notes: dict[str, Any] = field(factory=dict, eq=False)

    @property
    def varying(self) -> tuple[bytes, ...]:
        """The lines whose values may differ in its repetition. To 204 and 304 a length is no length."""
        return (DATE,) if self.code in (204, 304) else (DATE, LENGTH)

    def repeated(self, changed: Mapping[bytes, bytes]) -> AnswerHead:
        """See :class:`~mcp_oauth2_proxy.wire.repeats.Reading`."""
        return AnswerHead(
            self.version,
            self.code,
            self.phrase,
            replaced(self.pairs, changed),
            int(changed[LENGTH]) if LENGTH in changed else self.length,
            self.reusable,
            self.kept,
            changed.get(DATE, self.date),
            self.notes,
        )


class AnswerEvents(Protocol):
    """What the parser tells. Whoever hears it acts once the parser has returned."""

    def head_arrived(self, head: AnswerHead) -> None:
        """The head of the answer is there; interim ones are not told of."""

    def body_received(self, data: bytes) -> None:
        """A piece of the body, without its framing."""


class AnswerParser:
    """Parses the answers of one connection, each after :meth:`expect`."""

    def __init__(self, events: AnswerEvents) -> None:
        self._events = events
        self._parser: Any = httptools.HttpResponseParser(self)
        self._method = b""
        self._pairs: Pairs = []
        self._phrase = b""
        #: The head that is being parsed, as far as it has been, and the bytes of all heads so far.
        self._head = b""
        self._head_size = 0
        #: Bytes of framing that the body may still take.
        self._framing = MAX_FRAMING
        self._in_head = True
        self._interim = False
        self._arrived: AnswerHead | None = None
        #: The last head, in case that it is repeated.
        self._last_head: Repeatable[AnswerHead] | None = None
        #: Bytes that are still to come of a body that llhttp does not see: its head was the last one again.
        self._left: int | None = None
        #: The same of one that it does see; or where a chunked one is.
        self._rest: int | None = None
        self._chunks: Chunks | None = None
        self._refusal: MalformedResponse | None = None
        #: Whether the answer is whole.
        self.complete = False
        #: Whether another answer may follow on this connection.
        self.persistent = False

    def expect(self, method: bytes) -> None:
        """A request was sent with ``method``: its answer comes next."""
        if self._method == b"HEAD":
            self._parser = httptools.HttpResponseParser(self)  # the old one waits for a body for ever
        self._method = method
        self._pairs, self._phrase, self._head, self._in_head = [], b"", b"", True
        self._head_size, self._framing = 0, MAX_FRAMING
        self._left = self._rest = self._chunks = self._refusal = self._arrived = None
        self.complete = self.persistent = False

    def close(self) -> None:
        """Let go of llhttp: the connection is over, and who know each other would wait for the collector."""
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Parse what has come. What follows a whole answer is not looked at, and makes it the last one.

        :raises MalformedResponse: this is no acceptable answer.
        """
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            raise MalformedResponse("the upstream switched protocols without being asked") from None
        except httptools.HttpParserError as error:
            if self._refusal is not None:
                raise self._refusal from None
            if not self.complete:
                raise MalformedResponse(f"the upstream's answer is no HTTP/1: {error}") from None
            self.persistent = False

    def _feed(self, data: bytes) -> None:
        start = 0
        last = self._last_head if self._in_head and not self._head and self._method != b"HEAD" else None
        if last is not None and (again := last.again(data, 0)) is not None:
            head, start = again
            self._repeat(head)
        # Head by head: none is looked at before the one before it has been judged.
        while self._in_head and start < len(data):
            end = empty_line(self._head[-3:], data, start)
            piece = data[start:end]
            self._head = self._head + piece if self._head else piece
            self._head_size += len(piece)
            if self._head_size > MAX_ANSWER_HEAD_BYTES:
                self._refuse("the upstream's response head is too large")
            if not self._head.startswith(_START[: len(self._head)]):
                self._refuse("the upstream's answer is no HTTP/1")
            self._parser.feed_data(piece)
            start = end
        if start == len(data):
            return
        if self.complete:
            self.persistent = False
            return
        if self._left is not None:
            self._feed_rest(data, start, self._left)
            return
        end = self._end_of_body(data, start)
        self._framing -= end - start
        self._parser.feed_data(data if end - start == len(data) else memoryview(data)[start:end])
        if self._framing < 0:
            self._refuse("the upstream sends chunks of next to nothing, or trailers without end")
        if end < len(data):
            if not self.complete:
                self._refuse("the upstream's answer has two readings of its length")
            self.persistent = False

    def _end_of_body(self, data: bytes, start: int) -> int:
        """Return where the body that begins or goes on at ``start`` ends in ``data``, or where ``data`` does.

        llhttp would take a line break behind it for one before the next answer, which nobody has asked for.
        """
        if self._chunks is not None:
            return self._chunks.follow(data, start)
        if self._rest is None:
            return len(data)
        end = min(len(data), start + self._rest)
        self._rest -= end - start
        return end

    def _repeat(self, head: AnswerHead) -> None:
        """Take a head that is the last one again. llhttp is between two answers, and stays there."""
        self._in_head, self._left = False, head.length
        self.complete = not head.length
        self.persistent = True
        self._events.head_arrived(head)

    def _feed_rest(self, data: bytes, start: int, left: int) -> None:
        """Take the body of an answer whose head was repeated."""
        piece = data[start : start + left]
        self._left = left - len(piece)
        self.complete = not self._left
        self.persistent = len(data) - start <= left
        self._events.body_received(piece)

    def _refuse(self, why: str) -> None:
        """End the parse: llhttp's callers cannot see what its callbacks raise, so it is kept too."""
        self._refusal = MalformedResponse(why)
        raise self._refusal

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """An answer begins, which must be the one that is waited for."""
        if self.complete:
            raise MalformedResponse("the upstream sent a second answer")

    def on_status(self, phrase: bytes) -> None:
        """A piece of the reason phrase."""
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, whole; trailers are dropped, but never frame (RFC 9110 section 6.5.1)."""
        if not self._in_head:
            if announces_body([(name, value)]):
                self._refuse("the upstream's trailers speak of framing")
            return
        self._pairs.append((name, trimmed(name, value)))
        if len(self._pairs) > MAX_ANSWER_HEAD_LINES:
            self._refuse("the upstream's response head has too many lines")

    def on_headers_complete(self) -> None:
        """The head is there: judge it."""
        parser, method = self._parser, self._method
        code = parser.get_status_code()
        if not 100 <= code <= 999 or not is_phrase(self._phrase):
            self._refuse("the upstream sent an answer without a valid status line")
        self._interim = code < 200
        if self._interim:
            if code == 101:
                self._refuse("the upstream switched protocols without being asked")
            if announces_body(self._pairs):
                self._refuse("the upstream sent an interim answer with a body")
            return
        version = parser.get_http_version()
        try:
            length, reusable = answer_framing(method, code, version, self._pairs)
        except Ambiguous as error:
            self._refuse(str(error))
        self._in_head = False
        kept = kept_for(self._pairs)
        reusable = reusable and kept != 0
        self._arrived = AnswerHead(
            (b"HTTP", 1, int(version[2:])),
            code,
            self._phrase,
            self._pairs,
            length,
            reusable,
            kept,
            date_of(self._pairs),
        )
        # llhttp cannot know that this answer has no body.
        self.complete = method == b"HEAD"
        self.persistent = reusable and parser.should_keep_alive()
        self._last_head = None
        self._rest = length
        if length is None:
            self._head = b""  # it is not remembered
            if any(len(name) == 17 and name.lower() == b"transfer-encoding" for name, _ in self._pairs):
                self._chunks = Chunks()
        self._events.head_arrived(self._arrived)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._framing += (1 + FRAMING_PER_BYTE) * len(data)
        self._events.body_received(data)

    def on_message_complete(self) -> None:
        """The answer is whole, or it was an interim one."""
        if self._interim:
            self._interim = False
            self._pairs, self._phrase, self._head = [], b"", b""
            return
        head = self._arrived
        if self._chunks is not None and not self._chunks.last:
            self._refuse("the upstream's answer has two readings of its length")
        self.complete = True
        # llhttp knows it only within this call.
        self.persistent = head is not None and head.reusable and self._parser.should_keep_alive()
        if head is not None and self.persistent and 0 < len(self._head) <= MAX_REMEMBERED_HEAD:
            self._last_head = Repeatable(self._head, head, head.varying)
        self._head = b""
