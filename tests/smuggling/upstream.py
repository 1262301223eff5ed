"""An upstream that keeps every byte, and reads them as strictly and as carelessly as any server might.

No I/O: a test gives it what has come and sends what it returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import h11
from attrs import define, field, frozen

#: The header by which the proxy marks what it sends; its value is a secret of the test's run.
MARK = b"X-Proxy-Mark"
_SIZE = re.compile(rb"\s*([0-9a-fA-F]+)")
_DIGITS = re.compile(rb"\s*\+?([0-9]+)")
#: What servers have been seen to end a line at.
_LINE_ENDS = tuple(map(re.compile, (rb"\r\n", rb"\r?\n", rb"\r\n|\r|\n")))
Pair = tuple[bytes, bytes]


@frozen
class Request:
    """A whole request, as a strict server reads it."""

    method: bytes
    target: bytes
    headers: list[Pair]
    body: bytes
    #: The number of the connection it came on.
    connection: int

    @property
    def line(self) -> bytes:
        """Method, target and body, as the corpus writes them."""
        return b" ".join([self.method, self.target, *([self.body] if self.body else [])])


@frozen
class Answer:
    """What is sent for one request."""

    data: bytes
    hangs_up: bool = False


def ordinary(_request: Request) -> Answer:
    """Answer as an upstream does."""
    return Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@define(eq=False)
class Connection:
    """One connection of the proxy's."""

    number: int
    _answer: Callable[[Request], Answer]
    received: bytes = b""
    requests: list[Request] = field(factory=list)
    #: What a strict server had to object.
    broken: str | None = None
    _parser: h11.Connection = field(init=False)
    _head: h11.Request | None = None
    _body: list[bytes] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._fresh(b"")

    def feed(self, data: bytes) -> Answer:
        """Take bytes of the proxy; return what is to be sent for the requests that are whole now."""
        self.received += data
        answer = Answer(b"")
        if self.broken is not None:
            return answer
        self._parser.receive_data(data)
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                self.broken = str(error)
                return answer
            if isinstance(event, h11.Request):
                self._head, self._body = event, []
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                answer = self._whole(answer)
            else:
                return answer

    def _whole(self, before: Answer) -> Answer:
        assert self._head is not None
        head, body = self._head, b"".join(self._body)
        pairs = list(head.headers.raw_items())
        request = Request(bytes(head.method), bytes(head.target), pairs, body, self.number)
        self.requests.append(request)
        self._fresh(self._parser.trailing_data[0])
        answer = self._answer(request)
        return Answer(before.data + answer.data, hangs_up=answer.hangs_up)

    def _fresh(self, data: bytes) -> None:
        self._head = None
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        if data:
            self._parser.receive_data(data)


class Upstream:
    """All connections of one upstream. ``answer`` may be changed at any time."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.answer: Callable[[Request], Answer] = ordinary
        self.connections: list[Connection] = []

    def accept(self) -> Connection:
        """Return a new connection."""
        connection = Connection(len(self.connections), self._reply)
        self.connections.append(connection)
        return connection

    def _reply(self, request: Request) -> Answer:
        return self.answer(request)

    @property
    def requests(self) -> list[Request]:
        """Every whole request, in the order of connections."""
        return [request for connection in self.connections for request in connection.requests]

    def complaints(self) -> list[str]:
        """Return what any server could hold against what has come; nothing, if the proxy does its work.

        However careless the reader, it must see the very requests that a strict one sees, and each with
        the proxy's mark, once: one without it is not the proxy's but somebody's body.
        """
        found = []
        for connection in self.connections:
            where = f"connection {connection.number}"
            if connection.broken is not None:
                found.append(f"{where}: {connection.broken}")
            strict = [b"%b %b" % (request.method, request.target) for request in connection.requests]
            for ends in _LINE_ENDS:
                heads = list(_careless(connection.received, ends))
                lines = [b" ".join(head[0].split()[:2]) for head in heads]
                if lines[: len(strict)] != strict or len(lines) > len(strict) + 1:
                    found.append(f"{where}: read as {lines} where a strict server reads {strict}")
                for head in heads:
                    found += [f"{where}: {wrong} in {head!r}" for wrong in self._wrong(head)]
        return found

    def _wrong(self, head: list[bytes]) -> Iterator[str]:
        pairs = [_pair(line) for line in head[1:]]
        marks = [value for name, value in pairs if name == MARK.lower()]
        if marks != [self.mark]:
            yield "no single mark"
        for names in ((b"host",), (b"authorization",), (b"content-length", b"transfer-encoding")):
            if sum(name in names for name, _ in pairs) > 1:
                yield f"more than one {names[0].decode()}"


def _pair(line: bytes) -> Pair:
    name, _, value = line.partition(b":")
    return name.strip().lower().replace(b"_", b"-"), value.strip()


def _careless(data: bytes, ends: re.Pattern[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of each head in ``data``, as a server reads it that ends lines at ``ends``."""
    at = 0

    def line() -> bytes | None:
        nonlocal at
        found = ends.search(data, at)
        if found is None:
            return None
        read, at = data[at : found.start()], found.end()
        return read

    while True:
        head: list[bytes] = []
        while (read := line()) is not None and (read or not head):
            if read:
                head.append(read)
        if read is None:
            return
        yield head
        pairs = [_pair(one) for one in head[1:]]
        if any(name == b"transfer-encoding" and b"chunked" in value.lower() for name, value in pairs):
            while (read := line()) is not None and (size := _SIZE.match(read)) and int(size[1], 16):
                at += int(size[1], 16)
                line()
            while read:
                read = line()
        else:
            lengths = [_DIGITS.match(value) for name, value in pairs if name == b"content-length"]
            at += next((int(length[1]) for length in lengths if length), 0)
