"""From bytes to answers, however the bytes are cut, and whatever has been answered before."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.answer import AnswerHead, AnswerParser
from mcp_oauth2_proxy.wire.errors import MalformedResponse

#: Answers of which some repeat, and some nearly do: the method that was asked with, and the bytes.
AGAIN = (
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\nok"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: b\r\n\r\nno"),
    (b"POST", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\nHT"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\n"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
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
