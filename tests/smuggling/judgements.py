"""What the product makes of bytes, what h11 and the grammar make of them, and what must be true of all.

:func:`check_requests` and :func:`check_answer` raise :exc:`AssertionError` for bytes that break one of the
rules; hypothesis and the fuzzer look for such bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import h11
from attrs import define, evolve, field, frozen
from twisted.internet.task import Clock
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.parser import ArrivedHead, RequestParser
from mcp_oauth2_proxy.wire.requests import request_head
from tests.smuggling import grammar
from tests.smuggling.grammar import Message, Pair
from tests.wire.transport import Reader, Wire

#: Large enough that h11 never objects to a size: sizes are ours to judge.
_NO_LIMIT = 1 << 30
_FRAMING = (b"content-length", b"transfer-encoding")
_MANY_DIGITS = re.compile(rb"[0-9A-Fa-f]{21}")


@frozen
class Difference:
    """Something that the product accepts and h11 refuses, and where it is written that it may."""

    name: str
    section: str
    #: A whole message that shows it.
    example: bytes


#: All of them. Whatever else h11 refuses, the product must refuse.
EMPTY_LINE = Difference(
    "one empty line before a request",
    "RFC 9112 section 2.2",
    b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
)
LONG_SIZE = Difference(
    "more than 20 digits, zeros first, in the size of a chunk",
    "RFC 9112 section 7.1",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 30 + b"1\r\nx\r\n0\r\n\r\n",
)
KNOWN_DIFFERENCES = (EMPTY_LINE, LONG_SIZE)


@define
class Judgement:
    """All messages in a stream of bytes, and what was said to the rest: a status, or ``None``."""

    messages: list[Message] = field(factory=list)
    refusal: int | None = None
    broken: bool = False
    #: Whether a message has begun that is not whole.
    begun: bool = False
    #: Whether an answer's connection may carry the next one. An empty line behind it is not always seen.
    reused: bool = field(default=False, eq=False)


class _Told:
    """Notes what the parser tells."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def request_began(self) -> None:
        pass

    def head_arrived(self, arrived: ArrivedHead) -> None:
        self.messages.append(Message((arrived.method, arrived.target), arrived.pairs))

    def body_received(self, data: bytes) -> None:
        assert not self.messages[-1].whole, "a body behind the end"
        self.messages[-1].body += data

    def request_ended(self) -> None:
        self.messages[-1].whole = True


def judge_requests(pieces: Iterable[bytes], limits: Limits | None = None) -> Judgement:
    """Return what the product makes of a client's bytes, read in ``pieces``."""
    told = _Told()
    parser = RequestParser(told, limits or Limits())
    for piece in pieces:
        at = 0
        while at < len(piece) and not parser.ended:
            end = parser.feed(piece, at)
            assert at < end <= len(piece), "no progress"
            at = end
    refusal = parser.rejection.status if parser.rejection is not None else None
    return Judgement(told.messages, refusal, parser.broken, parser.in_request or parser._lead != b"")


def read_requests(data: bytes) -> Judgement:
    """Return what h11 makes of the same bytes, given all at once."""
    found = Judgement()
    while data := data.removeprefix(b"\r\n"):  # EMPTY_LINE
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=_NO_LIMIT)
        server.receive_data(data)
        message: Message | None = None
        try:
            while not isinstance(event := server.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    message = Message((bytes(event.method), bytes(event.target)), _raw(event))
                    found.messages.append(message)
                elif isinstance(event, h11.Data) and message is not None:
                    message.body += bytes(event.data)
                else:
                    return found  # the rest has not come
        except h11.RemoteProtocolError:
            found.broken = True
            return found
        assert message is not None
        message.whole = True
        data = server.trailing_data[0]
    return found


def judge_answer(
    method: bytes, pieces: Sequence[bytes], *, hangs_up: bool, before: Sequence[bytes] = ()
) -> Judgement:
    """Return what the product makes of an upstream's bytes in answer to one request.

    ``before`` are answers to GETs made on the same connection before it: a head that is the last one again is
    not parsed again.
    """
    clock = Clock()
    clock.advance(1)
    free: list[ClientConnection] = []
    connection = ClientConnection(
        Deadlines(clock), head_timeout=10, idle_timeout=4, released=free.append, lost=lambda connection: None
    )
    wire = Wire(connection)
    for data in before:
        _Exchange(connection, wire, b"GET", [data])
        assert free.pop() is connection, f"not reusable: {data!r}"
        assert not wire.over
    found = _Exchange(connection, wire, method, pieces)
    reused = bool(free) and not wire.over
    if hangs_up:
        wire.close()
    judgement = found.judgement()
    judgement.reused = reused
    wire.close()
    assert clock.getDelayedCalls() == [], "a timer is left"
    return judgement


class _Exchange:
    """One request and what is said to it."""

    def __init__(
        self, connection: ClientConnection, wire: Wire, method: bytes, pieces: Iterable[bytes]
    ) -> None:
        self._failed = False
        self._messages: list[Message] = []
        self._reader = Reader()
        waiting = connection.send(method, request_head(method, b"/", b"up", None, None), None)
        waiting.addCallbacks(self._answered, self._unanswered)
        for piece in pieces:
            wire.receive(piece)

    def _answered(self, response: Any) -> None:
        self._messages.append(Message((b"%d" % response.code,), response.rawHeaders))
        response.deliverBody(self._reader)

    def _unanswered(self, _: object) -> None:
        self._failed = True

    def judgement(self) -> Judgement:
        """Return what it came to by now."""
        if not self._messages:
            return Judgement([], 502 if self._failed else None, self._failed)
        reason = self._reader.reason
        whole = isinstance(reason, ResponseDone | PotentialDataLoss)
        message = Message(self._messages[0].start, self._messages[0].pairs, self._reader.data, whole)
        return Judgement([message], None, reason is not None and not whole)


def read_answer(method: bytes, data: bytes, *, hangs_up: bool) -> Judgement:
    """Return what h11 makes of the same bytes."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_NO_LIMIT)
    client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"up")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if hangs_up and data:
        client.receive_data(b"")
    found = Judgement()
    try:
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                found.messages.append(Message((b"%d" % event.status_code,), _raw(event)))
            elif isinstance(event, h11.Data):
                found.messages[-1].body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return found
        found.messages[-1].whole = True
    except h11.RemoteProtocolError:
        found.broken = True
    return found


def _raw(event: h11.Request | h11.Response) -> list[Pair]:
    return [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]


def splits(data: bytes) -> list[list[bytes]]:
    """Return ``data`` cut at every byte, and in two at a few places."""
    places = {1, 2, len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}
    halves = [[data[:place], data[place:]] for place in sorted(places) if 0 < place < len(data)]
    return [[data[at : at + 1] for at in range(len(data))], *halves]


def _showing(check: Callable[..., Judgement]) -> Callable[..., Judgement]:
    """Put the input into what is raised: trial does not show hypothesis' notes."""

    @wraps(check)
    def checked(*arguments: Any, **options: Any) -> Judgement:
        try:
            return check(*arguments, **options)
        except AssertionError as error:
            raise AssertionError(f"{arguments} {options}: {error}") from error

    return checked


def _one_fault(judgement: Judgement) -> Judgement:
    """Return it with one status for both faults of a head that has a line too many and a broken one.

    Which of them is seen first depends on where a read ends.
    """
    return evolve(judgement, refusal=400) if judgement.refusal == 431 else judgement


@_showing
def check_requests(data: bytes) -> Judgement:
    """Return the judgement of a client's bytes, which must not depend on reads, nor be laxer than h11's."""
    ours = judge_requests([data])
    for pieces in splits(data):
        again = judge_requests(pieces)
        assert _one_fault(again) == _one_fault(ours), (
            f"read in {len(pieces)} pieces: {again} and at once: {ours}"
        )
    for message in ours.messages:
        _one_framing(message.pairs)
        names = [name.lower() for name, _ in message.pairs]
        for name in (b"host", b"authorization", b"expect"):
            assert names.count(name) <= 1, f"two {name!r}"
        assert not any(
            byte in line for line in (*message.start, *sum(message.pairs, ())) for byte in b"\r\n\0"
        )
    _not_laxer(ours.messages, grammar.requests(data))
    if not _MANY_DIGITS.search(data):  # LONG_SIZE
        _not_laxer(ours.messages, read_requests(data).messages)
    if ours.messages and not ours.begun and not ours.broken:
        # A head that is the last one again is not parsed again, and read as it was.
        for pieces in ([data * 3], [data, data, data]):
            for number, message in enumerate(judge_requests(pieces).messages):
                assert message == ours.messages[number % len(ours.messages)], f"read again as {message}"
    return ours


@_showing
def check_answer(method: bytes, data: bytes, *, hangs_up: bool) -> Judgement:
    """Return the judgement of an upstream's bytes, held to the same."""
    ours = judge_answer(method, [data], hangs_up=hangs_up)
    for pieces in splits(data):
        again = judge_answer(method, pieces, hangs_up=hangs_up)
        # An answer whose body breaks in the read that brought its head is not begun at all.
        assert again == ours or (ours.broken and again.broken), f"in {len(pieces)} pieces: {again}, {ours}"
    for before in _befores(method, data, ours):
        again = judge_answer(method, [data], hangs_up=hangs_up, before=before)
        assert (again, again.reused) == (ours, ours.reused), f"behind {before}: {again}, {ours}"
    for message in ours.messages:
        _one_framing(message.pairs)
    _not_laxer(ours.messages, grammar.answer(method, data, hangs_up=hangs_up))
    if not _MANY_DIGITS.search(data):
        _not_laxer(ours.messages, read_answer(method, data, hangs_up=hangs_up).messages)
    return ours


def _befores(method: bytes, data: bytes, judgement: Judgement) -> list[list[bytes]]:
    """Return answers that may come before ``data``: another one, and its own head with its body alone."""
    found = [[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"] * 2]
    for message in judgement.messages:
        head = data[: data.find(b"\r\n\r\n") + 4]
        own = head + message.body
        if message.whole and method != b"HEAD" and judge_answer(method, [own], hangs_up=False).reused:
            found.append([own] * 2)
    return found


def _one_framing(pairs: Sequence[Pair]) -> None:
    framing = [name for name, _ in pairs if name.lower() in _FRAMING]
    assert len(framing) <= 1, f"more than one framing: {framing}"


def _plain(pairs: list[Pair]) -> list[Pair]:
    """Leave out a wish for another protocol, which we drop, and the case of chunked, which h11 does."""
    return [
        (name, value.lower() if name.lower() == b"transfer-encoding" else value)
        for name, value in pairs
        if name.lower() != b"upgrade"
    ]


def _not_laxer(ours: list[Message], theirs: list[Message]) -> None:
    """Every message that we accept is one to the other reader too, and the same."""
    assert len(ours) <= len(theirs), f"accepted: {ours[len(theirs)]}"
    for mine, other in zip(ours, theirs, strict=False):
        assert mine.start == other.start, f"{mine} is read as {other}"
        assert _plain(mine.pairs) == _plain(other.pairs), f"{mine} is read as {other}"
        if mine.whole:
            assert other.whole, f"not whole: {other}"
            assert mine.body == other.body, f"{mine} is read as {other}"
        else:
            assert mine.body.startswith(other.body) or other.body.startswith(mine.body), f"{mine}, {other}"
