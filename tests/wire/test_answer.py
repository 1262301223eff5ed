"""From bytes to answers, however the bytes are cut, and whatever has been answered before."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.answer import AnswerHead, AnswerParser
from mcp_oauth2_proxy.wire.errors import MalformedResponse

#: A head with a date and a length.
DATED = b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Length: %b\r\nServer: s\r\n\r\n"
TWICE = DATED.replace(b"Server", b"Date: Wed, 04 Nov 2026 10:00:00 GMT\r\nServer")
#: Answers of which some repeat, and some nearly do: the method that was asked with, and the bytes.
AGAIN = (
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\nok"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: b\r\n\r\nno"),
    (b"POST", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\nHT"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\n"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, hello"),
    (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length:12\r\n\r\nhello, hello"),
    (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length:13\r\n\r\nhello, hello!"),
    (b"GET", DATED % (b"Mon, 02 Nov 2026 10:00:00 GMT", b"5") + b"hello"),
    (b"GET", DATED % (b"Mon, 02 Nov 2026 10:00:01 GMT", b"5") + b"hello"),
    (b"GET", DATED % (b"Mon, 02 Nov 2026 10:00:01 GMT", b"6") + b"hello!"),
    (b"GET", DATED % (b"Mon,  2 Nov 2026 10:00:01 GMT", b"6") + b"hello!"),
    (b"GET", TWICE % (b"Mon, 02 Nov 2026 10:00:02 GMT", b"6") + b"hello!"),
    (b"GET", TWICE % (b"Tue, 03 Nov 2026 10:00:02 GMT", b"6") + b"hello!"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (b"GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\nok"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\nConnection: close\r\n\r\nok"),
)


class Told:
    """Notes what the parser tells."""

    def __init__(self) -> None:
        self.heads: list[AnswerHead] = []
        self.bodies: list[bytes] = []

    def head_arrived(self, head: AnswerHead) -> None:
        self.heads.append(head)
        self.bodies.append(b"")

    def body_received(self, data: bytes) -> None:
        self.bodies[-1] += data


class Parsing(SynchronousTestCase):
    """Answers of one connection."""

    def setUp(self) -> None:
        self.told = Told()
        self.parser = AnswerParser(self.told)

    def answer(self, method: bytes, *pieces: bytes) -> tuple[object, ...]:
        """Return how an answer is read: head, body, whether it is whole and whether another may follow."""
        self.parser.expect(method)
        for piece in pieces:
            self.parser.feed(piece)
        return self.told.heads[-1], self.told.bodies[-1], self.parser.complete, self.parser.persistent

    @given(st.lists(st.tuples(st.sampled_from(AGAIN), st.lists(st.integers(1, 80), max_size=4)), max_size=10))
    def test_heads_that_repeat(self, answers: list[tuple[tuple[bytes, bytes], list[int]]]) -> None:
        """An answer reads the same, whether its connection has seen its head before or not."""
        self.assert_as_alone(answers)

    def test_any_two(self) -> None:
        """So does each behind each."""
        for two in product(AGAIN, AGAIN):
            self.assert_as_alone([(answer, []) for answer in two])

    def assert_as_alone(self, answers: list[tuple[tuple[bytes, bytes], list[int]]]) -> None:
        """Check it for answers of one connection, each cut at some places."""
        self.setUp()
        for (method, data), cuts in answers:
            edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
            read = self.answer(method, *(data[start:end] for start, end in pairwise(edges)))
            alone = Parsing()
            alone.setUp()
            self.assertEqual(read, alone.answer(method, data))
            if not self.parser.persistent:
                return

    def test_what_follows_a_repeated_head(self) -> None:
        """A body that is cut is not whole; more than the body, whenever it comes, is the connection's end."""
        ok = AGAIN[0][1]
        for last in ((ok + b"x",), (ok, b"x"), (ok[:-1], b"kx"), (ok, ok)):
            self.setUp()
            self.answer(b"GET", ok)
            self.assertEqual(self.answer(b"GET", *last)[1:], (b"ok", True, False), last)
        self.setUp()
        self.answer(b"GET", ok)
        self.assertEqual(self.answer(b"GET", ok[:-1])[1:3], (b"o", False))

    def test_what_follows_an_answer(self) -> None:
        """A line break too many is more than was asked for, whether the head has been seen before or not."""
        for method, ok in AGAIN[0], AGAIN[4], AGAIN[6], AGAIN[8]:
            for more in (b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"x"):
                for before in 0, 1:
                    self.setUp()
                    for _ in range(before):
                        self.answer(method, ok)
                    self.assertEqual(self.answer(method, ok + more)[2:], (True, False), (ok, more, before))

    def test_after_repeated_heads(self) -> None:
        """What is no answer is refused as ever."""
        for _ in range(3):
            self.answer(*AGAIN[0])
        self.assertRaises(MalformedResponse, self.answer, b"GET", b"HTTP/1.1 000 No\r\n\r\n")

    def test_it_is_the_same_head(self) -> None:
        """What was made of a head is there when it comes again, and not when another one does."""
        for method, data in (AGAIN[0], AGAIN[0], AGAIN[2], AGAIN[1], AGAIN[0]):
            self.answer(method, data)
        first, second, third, other, last = (head.notes for head in self.told.heads)
        self.assertTrue(first is second is third)
        self.assertFalse(first is other or other is last or first is last)

    def test_another_length_and_date(self) -> None:
        """What was made of a head is there again with another length and another date."""
        monday, tuesday = b"Mon, 02 Nov 2026 10:00:00 GMT", b"Tue, 03 Nov 2026 10:00:00 GMT"
        for date, body in ((monday, b"one"), (monday, b"three"), (tuesday, b"three"), (tuesday, b"two")):
            length = b"%d" % len(body)
            read = self.answer(b"GET", DATED % (date, length) + body)
            self.assertEqual(read[1:], (body, True, True))
            self.assertEqual(self.told.heads[-1].pairs[:2], [(b"Date", date), (b"Content-Length", length)])
        self.assertEqual([head.date for head in self.told.heads], [monday, monday, tuesday, tuesday])
        first, *others = (head.notes for head in self.told.heads)
        self.assertTrue(all(notes is first for notes in others))

    def test_a_length_that_is_none(self) -> None:
        """A repeated head with another length is refused for what it is refused for alone."""
        for length in (b"1" * 19, b"+5", b"5 5", b"5,5", b"0x5", b"5\r\nContent-Length: 5"):
            self.setUp()
            self.answer(*AGAIN[0])
            again = AGAIN[0][1].replace(b": 2", b": " + length)
            self.assertRaises(MalformedResponse, self.answer, b"GET", again)
