"""A client and an upstream that say exactly what a test wants, and read strictly what comes back."""

from __future__ import annotations

from typing import Any

import h11
from attrs import define, field

from tests.support import kernel, machine

#: What an answer of the proxy's own may say.
OWN_STATUS = frozenset({401, 408, 502, 503, 504})
_BODILESS = frozenset({204, 304})


def pattern(letter: str, number: int, size: int) -> bytes:
    """Return so many bytes that nobody else's body has."""
    piece = b"<%b%d>" % (letter.encode(), number)
    return (piece * (size // len(piece) + 1))[:size]


@define(eq=False)
class Question:
    """One request of a client. ``at`` is where its bytes begin and end in what the client sends."""

    number: int
    method: bytes
    framing: str
    body: bytes
    version: bytes = b"1.1"
    closes: bool = False
    authorization: bytes = b""
    expects: bool = False
    begins: int = 0
    head_ends: int = 0
    ends: int = 0

    def encode(self) -> bytes:
        """Return its bytes."""
        lines = [
            b"%b /q%d HTTP/%b" % (self.method, self.number, self.version),
            b"Host: mcp.example",
            *([self.authorization] if self.authorization else []),
            *([b"Connection: close"] if self.closes else []),
            *([b"Expect: 100-continue"] if self.expects else []),
        ]
        body = self.body
        if self.framing == "length":
            lines.append(b"Content-Length: %d" % len(body))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            body = chunked(body) + b"0\r\n\r\n"
        head = b"\r\n".join([*lines, b"", b""])
        self.head_ends = self.begins + len(head)
        self.ends = self.head_ends + len(body)
        return head + body


def chunked(body: bytes) -> bytes:
    """Return ``body`` in chunks of up to 100 bytes, without the last one."""
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@define(eq=False)
class Answered:
    """What a client has read of one answer. ``whole`` is ``None`` where only the connection's end tells."""

    status: int
    number: int | None
    body: bytes
    whole: bool | None


@define(eq=False)
class Client:
    """One client connection."""

    socket: kernel.Socket | machine.End
    questions: list[Question] = field(factory=list)
    outbox: bytes = b""
    sent: int = 0
    received: bytes = b""
    #: The proxy has ended the connection, well or not; or the client has.
    ended: bool = False
    was_reset: bool = False
    left: bool = False

    def ask(self, question: Question) -> None:
        question.begins = len(self.outbox)
        self.outbox += question.encode()
        self.questions.append(question)

    def send(self, size: int) -> None:
        """Send up to so many bytes, as many as the kernel takes."""
        if self.left or self.socket.reset or self.socket.room <= 0:
            return
        self.sent += self.socket.send(self.outbox[self.sent : self.sent + size])

    def read(self, size: int) -> None:
        if self.left:
            return
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.ended = self.was_reset = True
            return
        self.received += data
        self.ended = self.ended or not data

    def close(self) -> None:
        """Leave. Behind bytes that nobody takes the end would not be known before somebody does."""
        if self.socket.stuck:
            self.socket.abort()
        else:
            self.socket.close()

    def answers(self) -> list[Answered]:
        """Return what has been read, in order; the last one may be a part."""
        answers: list[Answered] = []
        at = 0
        for question in self.questions:
            end = self.received.find(b"\r\n\r\n", at)
            while end >= 0 and self.received.startswith(b"HTTP/1.1 100 ", at):
                at = end + 4
                end = self.received.find(b"\r\n\r\n", at)
            if end < 0:
                break
            answer, at = self._answer(question, at, end)
            answers.append(answer)
            if not answer.whole:
                break
        else:
            # A 408 or 400 may still come, to what became no question.
            rest = self.received[at:]
            assert not rest or rest.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")[: len(rest)]), rest
        return answers

    def _answer(self, question: Question, at: int, end: int) -> tuple[Answered, int]:
        first, *lines = self.received[at:end].split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), first
        status = int(first.split(b" ")[1])
        fields: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            assert name.lower() not in fields, f"{name!r} twice"
            fields[name.lower()] = value
        number = int(fields[b"x-id"]) if b"x-id" in fields else None
        at = end + 4
        rest = self.received[at:]
        body, whole, size = b"", True, 0
        # 408 is for a head that has not come to its end: whose it is, is not known.
        if (question.method == b"HEAD" and status != 408) or status in _BODILESS:
            pass
        elif b"transfer-encoding" in fields:
            assert b"content-length" not in fields
            body, whole, size = unchunk(rest)
        elif b"content-length" in fields:
            size = int(fields[b"content-length"])
            body = rest[:size]
            whole = len(body) == size
        else:
            return Answered(status, number, rest, None), len(self.received)
        return Answered(status, number, body, whole), at + size


def unchunk(data: bytes) -> tuple[bytes, bool, int]:
    """Return a chunked body, whether it is whole, and the bytes it took."""
    body, at = b"", 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        at = end + 2
        if not size:
            return body, data[at : at + 2] == b"\r\n", at + 2
        body += data[at : at + size]
        at += size + 2
    return body, False, len(data)


@define(eq=False)
class Arrived:
    """One request as the upstream has it, and the answer that it gives."""

    number: int
    method: bytes
    body: bytes = b""
    whole: bool = False
    answer_body: bytes | None = None
    #: Whether the answer is an event stream.
    stream: bool = False
    #: Whether only the connection's end ends the answer, and whether it has been sent to its end.
    until_close: bool = False
    keeps: bool = True
    answer_whole: bool = False


@define(eq=False)
class Upstream:
    """One connection of the proxy to the upstream."""

    socket: kernel.Socket | machine.End
    arrived: list[Arrived] = field(factory=list)
    outbox: bytes = b""
    over: bool = False
    _parser: Any = None

    @property
    def current(self) -> Arrived | None:
        """Return the request that has not been answered to its end."""
        return self.arrived[-1] if self.arrived and not self.arrived[-1].answer_whole else None

    def read(self, size: int) -> list[Arrived]:
        """Read; return the requests that begin with it."""
        if self.over:
            return []
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            self.over = True
            return []
        if not data:
            # The proxy never ends its half alone: nobody is there any more.
            self.close()
            return []
        return self._parse(data)

    def _parse(self, data: bytes) -> list[Arrived]:
        begun: list[Arrived] = []
        if self._parser is None:
            self._parser = h11.Connection(h11.SERVER)
        self._parser.receive_data(data)
        while True:
            event = self._parser.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
            if isinstance(event, h11.Request):
                prefix, _, number = event.target.partition(b"/q")
                assert prefix == b"", event.target
                self.arrived.append(Arrived(int(number), event.method))
                begun.append(self.arrived[-1])
            elif isinstance(event, h11.Data):
                self.arrived[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.arrived[-1].whole = True
                rest = self._parser.trailing_data[0]
                self._parser = None
                if rest:
                    # It was answered before its end had been read.
                    assert self.arrived[-1].answer_whole, "a second request before the answer"
                    begun += self._parse(rest)
                break
        return begun

    def answer(self, framing: str, size: int, *, status: int = 200, interim: bool = False) -> None:
        """Begin to answer the current request."""
        request = self.current
        if self.over or request is None or request.answer_body is not None:
            return
        lines = [b"HTTP/1.1 %d Fine" % status, b"X-Id: %d" % request.number]
        body = b"" if status in _BODILESS else pattern("a", request.number, size)
        request.answer_body = b"" if request.method == b"HEAD" else body
        if framing == "length":
            lines.append(b"Content-Length: %d" % len(body))
        elif framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            body = chunked(body) + b"0\r\n\r\n"
        else:
            request.until_close = request.method != b"HEAD" and status not in _BODILESS
            request.keeps = False
            lines.append(b"Connection: close")
        if framing == "stream":
            request.stream = True
            lines.append(b"Content-Type: text/event-stream")
        head = b"\r\n".join([*lines, b"", b""])
        self.outbox += b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * interim + head
        if request.method != b"HEAD" and status not in _BODILESS:
            self.outbox += body

    def send(self, size: int) -> None:
        """Send up to so many bytes of the answer."""
        if self.over or self.socket.reset or self.socket.room <= 0 or not self.outbox:
            return
        self.outbox = self.outbox[self.socket.send(self.outbox[:size]) :]
        request = self.current
        if not self.outbox and request is not None and not request.until_close:
            request.answer_whole = True
            if not request.keeps:
                self.close()

    def close(self) -> None:
        """Close; an answer that this ends is whole, unless the close is a reset."""
        self._end_answer(not self.socket.inbox)
        self.socket.close()

    def end_half(self) -> None:
        """Send no more."""
        self._end_answer(True)
        self.socket.shutdown(1)

    def _end_answer(self, orderly: bool) -> None:
        request = self.current
        if request is not None and request.until_close and request.answer_body is not None:
            body = request.answer_body
            if len(self.outbox) <= len(body) and orderly and not self.over:
                # Nobody can know that it was meant to be longer.
                request.answer_body = body[: len(body) - len(self.outbox)]
                request.answer_whole = True
        self.outbox = b""
        self.over = True

    def abort(self) -> None:
        self.over = True
        self.socket.abort()


def accept(system: kernel.Kernel | machine.Machine, known: list[Upstream]) -> None:
    """Add the connections that have come since to ``known``."""
    known.extend(Upstream(socket) for socket in system.accepted[len(known) :])
