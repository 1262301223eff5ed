"""What arrives is what was sent: bodies byte for byte, header lines as they were, in both directions."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.relay.loopback import Loopback, Raw, request
from tests.relay.players import chunked, unchunk

Pair = tuple[bytes, bytes]
HEAD_END = b"\r\n\r\n"
#: The lines that belong to one connection, and so are each side's own.
FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"date"})
#: All that a name may be made of (RFC 9110 section 5.6.2), and a value (5.5): obs-text is bytes from 0x80.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcXYZ"
_VALUE = bytes(range(0x21, 0x7F)) + b' \t"' + bytes(range(0x80, 0x100))
#: What servers and clients really send, oddly written.
ODD: list[Pair] = [
    (b"aCCept", b"text/event-stream, application/json;q=0.9"),
    (b"X-Twice", b"1"),
    (b"x-twice", b"2"),
    (b"X-Empty", b""),
    (b"X-TWICE", b""),
    (b"MCP-Session-Id", b"!~|"),
    (b"X-Obs", b"caf\xe9 \xff\x80"),
    (b"X-Inner", b"two  spaces, a\ttab, \"a 'quote'\""),
    (b"X_Under", b"score"),
    (b"Set-Cookie", b"a=1; Path=/"),
    (b"Vary", b"*"),
    (b"Set-Cookie", b"b=2"),
    (b"ETag", b'W/"x"'),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Type", b"application/octet-stream"),
    (b"Warning", b'199 - "misc"'),
]


def lines(pairs: list[Pair]) -> list[bytes]:
    """Return header lines."""
    return [name + b": " + value for name, value in pairs]


def split(message: bytes) -> tuple[bytes, list[Pair], bytes]:
    """Return first line, header lines and body, de-chunked."""
    head, _, body = message.partition(HEAD_END)
    first, *rest = head.split(b"\r\n")
    pairs = [(name, value[1:]) for name, _, value in (line.partition(b":") for line in rest)]
    if any(name.lower() == b"transfer-encoding" for name, _ in pairs):
        body = unchunk(body)[0]
    return first, pairs, body


def own(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs without those of the connection."""
    return [pair for pair in pairs if pair[0].lower() not in FRAMING]


def random_pairs(random: Random) -> list[Pair]:
    """Return header lines that no specification has heard of."""
    return [
        (
            b"x" + bytes(random.choices(_TOKEN, k=random.randrange(12))),
            bytes(random.choices(_VALUE, k=random.randrange(40))).strip(b" \t"),
        )
        for _ in range(random.randrange(12))
    ]


class Fidelity(TestCase):
    """A client and an upstream of raw bytes, with the relay between them on real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.loopback = Loopback()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.loopback.stop()))
        self._client: Raw | None = None
        self._upstream: Raw | None = None

    async def exchange(self, asked: bytes, answer: bytes, *, closes: bool = False) -> tuple[bytes, bytes]:
        """Send a request and answer it; return what the upstream and what the client received."""
        if self._client is None or self._client.closed:
            self._client = await self.loopback.client()
        client = self._client
        client.received = b""
        if self._upstream is not None and not self._upstream.closed:
            self._upstream.received = b""
        client.write(asked)
        if self._upstream is None or self._upstream.closed:
            self._upstream = await self.loopback.accept()
        upstream = self._upstream
        came = await upstream.until(whole)
        upstream.write(answer)
        if closes:
            upstream.transport.loseConnection()
            await upstream.lost
        return came, await client.until(lambda data: whole(data, answer_to=asked))

    async def asked(
        self, line: bytes, pairs: list[Pair], body: bytes = b""
    ) -> tuple[bytes, list[Pair], bytes]:
        """Send a request and return what the upstream receives of it."""
        length = [b"Content-Length: %d" % len(body)] if body else []
        came, _ = await self.exchange(
            request(line, *lines(pairs), *length, body=body), b"HTTP/1.1 204 No Content\r\n\r\n"
        )
        return split(came)

    async def answered(
        self, status: bytes, pairs: list[Pair], body: bytes, *, line: bytes = b"GET /mcp", **how: Any
    ) -> tuple[bytes, list[Pair], bytes]:
        """Answer a request and return what the client receives of it."""
        answer = b"\r\n".join([b"HTTP/1.1 " + status, *lines(pairs), b"", body])
        return split((await self.exchange(request(line), answer, **how))[1])

    async def test_requests(self) -> None:
        """Case, order, duplicates, empty values and bytes beyond ASCII arrive; the Host is the upstream's."""
        odd = [pair for pair in ODD if pair[0] != b"Set-Cookie"] + [
            (b"Cookie", b"a=1; b=2"),
            (b"cookie", b"c"),
        ]
        first, pairs, body = await self.asked(b"POST /mcp", odd, b"hello")
        self.assertEqual(first, b"POST /mcp HTTP/1.1")
        port = self.loopback.upstream_port
        self.assertEqual(pairs[0], (b"Host", b"127.0.0.1:%d" % port))
        self.assertEqual(pairs[1][0], b"Authorization")
        self.assertEqual(own(pairs)[1:], odd)
        self.assertEqual(pairs[-1], (b"Content-Length", b"5"))
        self.assertEqual(body, b"hello")

    async def test_targets(self) -> None:
        """Path and query are passed on as they are written."""
        for target in (
            b"/mcp/%7Euser/a%2Fb;v=1?x=1&y=%20&&z=+&%e4",
            b"/mcp?",
            b"/mcp//double///slash",
            b"/mcp/!$&'()*+,;=:@",
        ):
            first, _, _ = await self.asked(b"GET " + target, [])
            self.assertEqual(first, b"GET " + target + b" HTTP/1.1")

    async def test_methods(self) -> None:
        """Methods that a browser does not ask for beforehand pass, those of other protocols over HTTP too."""
        for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"PROPFIND"):
            first, pairs, _ = await self.asked(method + b" /mcp", [])
            self.assertEqual(first, method + b" /mcp HTTP/1.1")
            has_length = method in (b"POST", b"PUT", b"PATCH")
            self.assertEqual((b"Content-Length", b"0") in pairs, has_length)

    async def test_answers(self) -> None:
        """The same for answers: with a length the head is the upstream's to the byte."""
        date = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
        for pairs in ([(b"Content-Length", b"5"), date, *ODD], [*ODD, date, (b"content-length", b"5")]):
            first, come, body = await self.answered(b"299 It's \xe9 fine", pairs, b"hello")
            self.assertEqual(first, b"HTTP/1.1 299 It's \xe9 fine")
            self.assertEqual(come, pairs)
            self.assertEqual(body, b"hello")

    async def test_framings(self) -> None:
        """However an answer's end is marked, the body is the same and the other lines are as they were."""
        body = bytes(range(256)) * 300
        trailer = b"\r\nX-Trailer: dropped\r\n\r\n"
        for marks, sent, closes in (
            ([(b"Content-Length", b"%d" % len(body))], body, False),
            ([(b"Transfer-Encoding", b"chunked")], chunked(body) + b"0\r\n\r\n", False),
            (
                [(b"Trailer", b"X-Trailer"), (b"Transfer-Encoding", b"chunked")],
                chunked(body) + b"0" + trailer,
                False,
            ),
            ([(b"Connection", b"close")], body, True),
        ):
            _, pairs, come = await self.answered(b"200 OK", [*ODD, *marks], sent, closes=closes)
            self.assertEqual(own(pairs), ODD)
            self.assertEqual(come, body)

    async def test_without_a_body(self) -> None:
        """HEAD keeps the length that GET would have; 304 keeps its lines; 204 has none.

        Of an upstream that speaks of a body where there is none the relay uses no connection again.
        """
        length = (b"Content-Length", b"1234")
        _, pairs, _ = await self.answered(b"200 OK", [length, *ODD], b"", line=b"HEAD /mcp", closes=True)
        self.assertEqual((pairs[0], own(pairs)), (length, ODD))
        _, pairs, _ = await self.answered(b"304 Not Modified", [length, *ODD], b"", closes=True)
        self.assertEqual((pairs[0], own(pairs)), (length, ODD))
        _, pairs, _ = await self.answered(b"204 No Content", ODD, b"")
        self.assertEqual(own(pairs), ODD)

    async def test_interim_answers(self) -> None:
        """1xx answers of the upstream end here; the answer behind them is passed on."""
        answer = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        answer += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        _, come = await self.exchange(request(b"GET /mcp"), answer)
        self.assertTrue(come.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), come)

    async def test_what_nobody_has_heard_of(self) -> None:
        """A hundred heads of random names and values, there and back."""
        random = Random(9110)
        for number in range(100):
            there, back = random_pairs(random), random_pairs(random)
            body = random.randbytes(random.randrange(3000))
            sent = request(b"POST /mcp", *lines(there), b"Content-Length: %d" % len(body), body=body)
            marks = [(b"Content-Length", b"%d" % len(body))]
            answer = b"\r\n".join([b"HTTP/1.1 200 OK", *lines(back + marks), b"", body])
            came, got = await self.exchange(sent, answer)
            self.assertEqual(own(split(came)[1])[1:], there, number)
            self.assertEqual(own(split(got)[1]), back, number)
            self.assertEqual((split(came)[2], split(got)[2]), (body, body), number)


def whole(message: bytes, answer_to: bytes = b"") -> bool:
    """Return whether a message has come to its end."""
    head, mark, rest = message.partition(HEAD_END)
    if not mark:
        return False
    lowered = head.lower()
    if answer_to.startswith(b"HEAD") or lowered[9:12] in (b"204", b"304"):
        return True
    if b"\r\ntransfer-encoding: chunked" in lowered:
        return unchunk(rest)[1]
    return len(rest) >= int(lowered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or b"0")
