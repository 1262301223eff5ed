"""From bytes to requests, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.head import Head
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.parser import ArrivedHead, RequestParser

THREE = (
    b"GET /one?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /two HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /three HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Trailer: t\r\n\r\n"
)


class Told:
    """Notes what the parser tells."""

    def __init__(self) -> None:
        self.requests: list[list[object]] = []
        self.heads: list[tuple[Head, dict[bytes, bytes]]] = []
        self.notes: list[dict[str, object]] = []

    def request_began(self) -> None:
        self.requests.append([])

    def head_arrived(self, arrived: ArrivedHead) -> None:
        self.requests[-1] += [arrived.method, arrived.target, tuple(arrived.pairs), b""]
        self.heads.append((arrived.head, dict(arrived.head.first)))
        self.notes.append(arrived.notes)

    def body_received(self, data: bytes) -> None:
        self.requests[-1][3] += data  # type: ignore[operator]

    def request_ended(self) -> None:
        self.requests[-1].append("whole")


#: Requests of which some repeat, and some nearly do.
AGAIN = (
    b"GET /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\n\r\n",
    b"GET /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer b\r\n\r\n",
    b"GET /mcp HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\nGET /mcp HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 012\r\n\r\nhello, hello",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length:  5 \r\nX: y\r\n\r\nhello",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length:  6 \r\nX: y\r\n\r\nhello!",
    b"POST /mcp HTTP/1.1\r\ncontent-length:15\r\nHost: h\r\n\r\nhello and hello",
    b"POST /mcp HTTP/1.1\r\ncontent-length:16\r\nHost: h\r\n\r\nhello and hello!",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)


class Parsing(SynchronousTestCase):
    """Requests of one connection."""

    def parse(self, *pieces: bytes, **limits: int) -> tuple[RequestParser, Told]:
        told = Told()
        parser = RequestParser(told, Limits(**limits))  # type: ignore[arg-type]
        for piece in pieces:
            at = 0
            while at < len(piece) and not parser.ended:
                at = parser.feed(piece, at)
        return parser, told

    def test_three_requests(self) -> None:
        """Pipelined requests come apart; trailers do not look like headers."""
        _, told = self.parse(THREE)
        host = (b"Host", b"h")
        self.assertEqual(
            told.requests,
            [
                [b"GET", b"/one?x=1", (host,), b"", "whole"],
                [b"POST", b"/two", (host, (b"Content-Length", b"5")), b"hello", "whole"],
                [b"POST", b"/three", (host, (b"Transfer-Encoding", b"chunked")), b"abcdefg", "whole"],
            ],
        )

    @given(st.lists(st.integers(1, len(THREE) - 1), max_size=12))
    def test_any_cut(self, cuts: list[int]) -> None:
        """Where the network cuts the bytes does not matter."""
        edges = [0, *sorted(set(cuts)), len(THREE)]
        pieces = [THREE[start:end] for start, end in pairwise(edges)]
        self.assertEqual(self.parse(*pieces)[1].requests, self.parse(THREE)[1].requests)

    @given(
        st.lists(st.sampled_from(AGAIN), min_size=1, max_size=12), st.lists(st.integers(1, 900), max_size=6)
    )
    def test_heads_that_repeat(self, requests: list[bytes], cuts: list[int]) -> None:
        """A request reads the same, whether its connection has seen its head before or not."""
        alone = [self.parse(request)[1].requests[0] for request in requests]
        data = b"".join(requests)
        edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
        together = self.parse(*(data[start:end] for start, end in pairwise(edges)))[1]
        self.assertEqual(together.requests, alone)
        self.assert_as_alone(*requests)

    def test_any_two(self) -> None:
        """So does each behind each."""
        for two in product(AGAIN, AGAIN):
            self.assert_as_alone(*two)

    def assert_as_alone(self, *requests: bytes) -> None:
        """Check it for requests of one connection, each a piece."""
        told, alone = self.parse(*requests)[1], [self.parse(request)[1] for request in requests]
        self.assertEqual(told.requests, [one.requests[0] for one in alone])
        self.assertEqual(told.heads, [one.heads[0] for one in alone])

    def test_another_length(self) -> None:
        """What was made of a head is there again though its length is another; not so of another head."""
        _, told = self.parse(AGAIN[4], AGAIN[6], AGAIN[8], AGAIN[4], AGAIN[0], AGAIN[4])
        first, *again, other, last = told.notes
        self.assertTrue(all(notes is first for notes in again))
        self.assertFalse(first is other or first is last)

    def test_a_length_that_is_none(self) -> None:
        """A repeated head with another length is refused for what it is refused for alone."""
        for length in (
            b"1" * 19,
            b"+5",
            b"-5",
            b"5 5",
            b"5,5",
            b"0x5",
            b"",
            b"5\r\nContent-Length: 5",
            b"5\x00",
        ):
            parser, told = self.parse(AGAIN[4], AGAIN[4].replace(b": 5", b": " + length))
            self.assertTrue(parser.ended and len(told.requests) < 3, length)
            self.assertEqual(parser.rejection.status, 400, length)  # type: ignore[union-attr]

    def test_what_follows_a_repeated_head(self) -> None:
        """It is held to the same rules: a malformed request is refused, one that is cut is not whole."""
        parser, told = self.parse(AGAIN[4], AGAIN[4], AGAIN[4], b"GET /mcp HTTP/1.1\r\nHost : h\r\n\r\n")
        self.assertEqual([request[-1] for request in told.requests[:3]], ["whole"] * 3)
        self.assertEqual(parser.rejection.status, 400)  # type: ignore[union-attr]
        parser, told = self.parse(AGAIN[4], AGAIN[4], AGAIN[4][:-1])
        self.assertTrue(parser.in_request)
        self.assertNotIn("whole", told.requests[2])

    def test_the_last_request_again(self) -> None:
        """A head that ends its connection is not looked for in what may follow it."""
        closing = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        parser, told = self.parse(AGAIN[2], closing, closing)
        self.assertEqual((len(told.requests), parser.ended), (2, True))

    @given(
        st.lists(
            st.tuples(st.text("\r\n0aG ;", min_size=1, max_size=12), st.sampled_from(["", ";a=b", ";0"]))
        ),
        st.sampled_from(["0", "000", "0;x=0"]),
        st.sampled_from(["", "X: 0\r\n", "X: 0\r\nY: 1\r\n"]),
        st.lists(st.integers(1, 200)),
    )
    def test_chunks_of_anything(
        self, chunks: list[tuple[str, str]], last: str, trailers: str, cuts: list[int]
    ) -> None:
        """What is in a chunk is never taken for framing, and the next request begins where the body ends."""
        framed = "".join(f"{len(data):X}{extension}\r\n{data}\r\n" for data, extension in chunks)
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = head + f"{framed}{last}\r\n{trailers}\r\n".encode() + AGAIN[0]
        at = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
        parser, told = self.parse(*(sent[begin:end] for begin, end in pairwise(at)))
        self.assertFalse(parser.broken)
        first, second = told.requests
        self.assertEqual(first[3:], ["".join(data for data, _ in chunks).encode(), "whole"])
        self.assertEqual((second[0], second[4:]), (b"GET", ["whole"]))

    def test_blank_lines_in_a_chunk(self) -> None:
        """A body of nothing but blank lines is one piece, like any other: it costs no more than its bytes."""
        body = b"\r\n\r\n" * 10_000
        parser, told = self.parse(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.assertEqual(parser.feed(data), len(data))
        self.assertEqual(told.requests[0][3:], [body, "whole"])

    def test_every_byte(self) -> None:
        """Not even one byte at a time."""
        pieces = [THREE[at : at + 1] for at in range(len(THREE))]
        self.assertEqual(self.parse(*pieces)[1].requests, self.parse(THREE)[1].requests)

    def test_refused(self) -> None:
        """What is no request, or an ambiguous one, ends the connection with its status."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\n"
        for status, data in (
            (400, b"hello\r\n\r\n"),
            (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            (400, b"GET / HTTP/1.1\r\nHost : h\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n"),
            (400, b"GET / HTTP/1.1\nHost: h\n\n"),
            (400, b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n"),
            (400, head + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
            (400, head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, head + b"Transfer-Encoding: xchunked\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 201 + b"\r\n"),
        ):
            parser, told = self.parse(data)
            self.assertTrue(parser.ended, data[:60])
            self.assertIsNotNone(parser.rejection, data[:60])
            self.assertEqual(parser.rejection.status, status, data[:60])  # type: ignore[union-attr]
            self.assertNotIn("whole", [event for request in told.requests for event in request])

    def test_one_reading_of_a_request_line(self) -> None:
        """llhttp would take other protocols and more spaces; one empty line may stand before a request."""
        rest = b"Host: h\r\n\r\n"
        for line, status in (
            (b"GET / HTTP/1.1\r\n", None),
            (b"\r\nGET / HTTP/1.1\r\n", None),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", 400),
            (b"\nGET / HTTP/1.1\r\n", 400),
            (b"\rGET / HTTP/1.1\r\n", 400),
            (b"GET  / HTTP/1.1\r\n", 400),
            (b"GET /  HTTP/1.1\r\n", 400),
            (b"GET / RTSP/1.1\r\n", 400),
            (b"SOURCE / ICE/1.1\r\n", 400),
            (b"GET / HTTP/3.0\r\n", 505),
            (b"GET / HTTP/1.10\r\n", 400),
            (b"GET / HTTP/0.9\r\n", 400),
        ):
            for data in (line + rest, THREE + line + rest):
                for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
                    found = self.parse(*pieces)[0].rejection
                    self.assertEqual(None if found is None else found.status, status, data)

    def test_the_size_of_a_head_is_exact(self) -> None:
        """White space counts, what precedes and follows the head does not, however the bytes are cut."""
        head = b"GET / HTTP/1.1\r\nHost:" + b" " * 50 + b"h\r\n\r\n"
        for limit, status in ((len(head), None), (len(head) - 1, 431)):
            for data in (head, head * 3, b"\r\n" + head):
                for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
                    found = self.parse(*pieces, max_header_bytes=limit)[0].rejection
                    self.assertEqual(None if found is None else found.status, status, data)
        found = self.parse(b"GET /" + b"a" * 70_000)[0].rejection
        self.assertEqual(found.status, 414)  # type: ignore[union-attr]

    def test_what_is_remembered_is_small(self) -> None:
        """An idle connection does not hold the largest heads that it has brought."""
        for size in (100, 60_000):
            head = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * size + b"\r\n\r\n"
            parser, told = self.parse(head * 3)
            self.assertEqual(len(told.requests), 3)
            kept = [value for value in vars(parser).values() if isinstance(value, bytes | tuple)]
            self.assertLess(
                sum(len(value[0]) if isinstance(value, tuple) else len(value) for value in kept), 8200
            )

    def test_white_space_around_values(self) -> None:
        """It does not belong to them."""
        _, told = self.parse(b"GET / HTTP/1.1\r\nHost: \t h\t \r\nContent-Length: 0 \r\n\r\n")
        self.assertEqual(told.requests[0][2], ((b"Host", b"h"), (b"Content-Length", b"0")))

    def test_endless_framing(self) -> None:
        """Chunk extensions are ignored, as long as they are not all there is."""
        start = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunks, whole in (
            (b"1\r\nx\r\n" * 10_000, True),
            (b"1;a=%b\r\nx\r\n" % (b"b" * 9000), True),
            (b"1;a=%b\r\nx\r\n" % (b"b" * 20_000), False),
            (b"1;a=%b\r\nx\r\n" % (b"b" * 100) * 1000, False),
        ):
            data = start + chunks + b"0\r\n\r\n"
            for pieces in ([data], [data[at : at + 100] for at in range(0, len(data), 100)]):
                _, told = self.parse(*pieces)
                self.assertEqual("whole" in told.requests[0], whole)

    def test_why_it_is_refused(self) -> None:
        """Who debugs a client reads what is wrong with it."""
        parser, _ = self.parse(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")
        self.assertEqual(
            parser.rejection.description,  # type: ignore[union-attr]
            "the request is not well-formed HTTP/1.1: Invalid header token",
        )

    def test_an_endless_line(self) -> None:
        """A header line that never ends is given up at the limit, however it trickles in."""
        parser, _ = self.parse(b"GET / HTTP/1.1\r\nX: ", *[b"a" * 1000] * 200)
        self.assertEqual(parser.rejection.status, 431)  # type: ignore[union-attr]

    def test_endless_trailers(self) -> None:
        """Nor are trailers without limit."""
        start = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        parser, told = self.parse(start, *[b"X: " + b"a" * 1000 + b"\r\n"] * 100)
        self.assertTrue(parser.ended)
        self.assertNotIn("whole", told.requests[0])

    def test_a_broken_body(self) -> None:
        """When the framing breaks in mid-body, the request has been made and answers for itself."""
        start = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        for rest in (b"zz\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"3\r\nabcd\r\n"):
            parser, told = self.parse(start, rest)
            self.assertEqual((parser.ended, parser.rejection), (True, None), rest)
            self.assertNotIn("whole", told.requests[0])

    def test_an_upgrade_is_not_taken_up(self) -> None:
        """The request is read as if it had not asked: its body is a body, and HTTP/1.1 goes on behind it."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUPGRADE:h2c\r\n"
        for framed in (
            b"Content-Length: 5\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ):
            data = head + framed + b"GET /two HTTP/1.1\r\nHost: h\r\n\r\n"
            for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
                parser, told = self.parse(*pieces)
                self.assertEqual([request[1] for request in told.requests], [b"/", b"/two"])
                self.assertEqual(
                    [request[3:] for request in told.requests], [[b"hello", "whole"], [b"", "whole"]]
                )
                self.assertFalse(parser.ended)
        parser, _ = self.parse(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\x81\x05hello"
        )
        self.assertEqual(parser.rejection.status, 400)  # type: ignore[union-attr]

    def test_what_llhttp_says_last(self) -> None:
        """It objects to some heads only after it has shown them: nobody has been told of them then."""
        data = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"
        parser, told = self.parse(data)
        self.assertEqual((told.requests, parser.rejection.status), ([[]], 400))  # type: ignore[union-attr]

    def test_the_last_request(self) -> None:
        """After ``Connection: close`` nothing more is a request."""
        last = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        parser, told = self.parse(last, last)
        self.assertEqual((len(told.requests), parser.ended, parser.rejection), (1, True, None))

    @given(
        st.lists(st.binary(max_size=60) | st.sampled_from([THREE[:80], b"\r\n\r\n", b"0\r\n"]), max_size=6)
    )
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Any bytes are requests or a refusal, never an exception."""
        self.parse(*pieces)
