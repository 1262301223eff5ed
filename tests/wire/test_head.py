"""What a request head must be, and what is said to one that is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.framing import MAX_PHRASE, ready, response_head
from mcp_oauth2_proxy.wire.head import Head, Rejection, judge_head, kept_for
from mcp_oauth2_proxy.wire.headers import RawHeaders
from mcp_oauth2_proxy.wire.limits import MAX_TARGET_BYTES
from mcp_oauth2_proxy.wire.requests import request_head

HOST = (b"Host", b"h")
DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"


class Judged(SynchronousTestCase):
    """Heads that llhttp lets through."""

    def judged(
        self, *pairs: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", version: str = "1.1"
    ):  # type: ignore[no-untyped-def]
        return judge_head(method, target, version, list(pairs))

    def test_accepted(self) -> None:
        """Ordinary requests, with and without a body."""
        self.assertEqual(self.judged(HOST, target=b"/a?b"), Head(b"/a?b", 0, False))
        self.assertEqual(self.judged(HOST, (b"Content-Length", b"3")), Head(b"/", 3, False))
        self.assertEqual(self.judged(HOST, (b"Transfer-Encoding", b"Chunked")), Head(b"/", None, False))
        self.assertEqual(
            self.judged(HOST, (b"Content-Length", b"3"), (b"Expect", b"100-Continue")), Head(b"/", 3, True)
        )
        self.assertEqual(self.judged(version="1.0"), Head(b"/", 0, False))
        for host in (b"h:80", b"127.0.0.1:1", b"[::1]:443", b"under_score.example"):
            self.assertEqual(self.judged((b"Host", host)), Head(b"/", 0, False))
        self.assertEqual(self.judged(HOST, method=b"OPTIONS", target=b"*"), Head(b"*", 0, False))

    def test_absolute_form(self) -> None:
        """A proxy's target is taken when it names the same host."""
        self.assertEqual(self.judged(HOST, target=b"http://H/x?y"), Head(b"/x?y", 0, False))
        self.assertEqual(self.judged(HOST, target=b"http://h"), Head(b"/", 0, False))
        self.assertEqual(self.judged(HOST, target=b"HTTPS://h?y"), Head(b"/?y", 0, False))
        self.assertEqual(self.judged(HOST, target=b"http://h//x;a/?"), Head(b"//x;a/?", 0, False))
        self.assertIsInstance(self.judged(HOST, target=b"http://h/x#"), Rejection)

    def test_refused(self) -> None:
        """Everything that could be read in two ways, or that nobody here offers, has its status."""
        length, chunked = (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")
        for status, verdict in (
            (400, self.judged()),
            (400, self.judged((b"Host", b""))),
            (400, self.judged((b"Host", b"a b"))),
            (400, self.judged((b"Host", b"a,b"))),
            (400, self.judged((b"Host", b"u@h"))),
            (400, self.judged((b"Host", b"h/x"))),
            (400, self.judged((b"Host", b"h:80x"))),
            (400, self.judged((b"Host", b"[::1"))),
            (400, self.judged(HOST, HOST)),
            (400, self.judged(HOST, length, length)),
            (400, self.judged(HOST, length, chunked)),
            (400, self.judged(HOST, chunked, chunked)),
            (400, self.judged(chunked, version="1.0")),
            (400, self.judged(HOST, (b"Content-Length", b"+3"))),
            (400, self.judged(HOST, (b"Content-Length", b"9" * 30))),
            (400, self.judged(HOST, (b"Authorization", b"a"), (b"authorization", b"b"))),
            (400, self.judged(HOST, target=b"http://other/")),
            (400, self.judged(HOST, target=b"http://u@h/")),
            (400, self.judged(HOST, target=b"mcp")),
            (400, self.judged(HOST, target=b"*")),
            (400, self.judged(HOST, target=b"/#fragment")),
            (414, self.judged(HOST, target=b"/" * (MAX_TARGET_BYTES + 1))),
            (417, self.judged(HOST, length, (b"Expect", b"miracles"))),
            (400, self.judged(HOST, (b"Transfer-Encoding", b"gzip, chunked"))),
            (400, self.judged(HOST, method=b"CONNECT", target=b"h:1")),
            (400, self.judged(HOST, method=b"TRACE")),
            (400, self.judged(HOST, version="0.9")),
            (505, self.judged(HOST, version="2.0")),
        ):
            self.assertIsInstance(verdict, Rejection)
            self.assertEqual(verdict.status, status, verdict)

    @given(
        st.binary(max_size=40),
        st.lists(
            st.tuples(st.sampled_from([b"Host", b"Expect", b"Content-Length"]), st.binary(max_size=12)),
            max_size=4,
        ),
    )
    def test_any_head(self, target: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
        """Any head is accepted or refused, never an exception."""
        verdict = judge_head(b"POST", target, "1.1", pairs)
        self.assertIsInstance(verdict, Head | Rejection)


class Answers(SynchronousTestCase):
    """The head of an answer and its framing."""

    def head(self, *pairs: tuple[bytes, bytes], code: int = 200, **changes: object) -> tuple[bytes, object]:
        options = {"method": b"GET", "version": b"HTTP/1.1", "keep_alive": True, **changes}
        return response_head(code=code, phrase=b"", pairs=list(pairs), date=DATE, **options)  # type: ignore[arg-type]

    def test_known_length(self) -> None:
        """A single valid length is announced; chunks are not."""
        head, framing = self.head((b"Content-Length", b"5"), (b"X-A", b"1"), (b"X-A", b"2"))
        self.assertEqual(head.lower().count(b"content-length: 5\r\n"), 1)
        self.assertNotIn(b"chunked", head)
        self.assertLess(head.index(b"X-A: 1"), head.index(b"X-A: 2"))
        self.assertEqual(framing.frame(b"hello"), b"hello")
        self.assertTrue(framing.complete())

    def test_a_lie_about_the_length_is_told(self) -> None:
        """Less than was announced is not complete, and more never leaves."""
        for body in (b"hell", b"hello!"):
            _, framing = self.head((b"Content-Length", b"5"))
            framing.frame(body)
            self.assertFalse(framing.complete())

    def test_unknown_length(self) -> None:
        """Chunks for HTTP/1.1; for HTTP/1.0 the end of the connection."""
        head, framing = self.head()
        self.assertIn(b"Transfer-Encoding: chunked\r\n", head)
        self.assertEqual(framing.frame(b"hello") + framing.last(), b"5\r\nhello\r\n0\r\n\r\n")
        head, framing = self.head(version=b"HTTP/1.0")
        self.assertNotIn(b"Transfer-Encoding", head)
        self.assertTrue(framing.closes)

    def test_without_a_body(self) -> None:
        """HEAD, 204 and 304 have none, whatever is written."""
        for code, method in ((200, b"HEAD"), (204, b"GET"), (304, b"GET")):
            _, framing = self.head(code=code, method=method)
            self.assertEqual((framing.frame(b"x"), framing.last(), framing.complete()), (b"", b"", True))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Connection", b"X", b"Date"]),
                st.binary(max_size=10),
            ),
            max_size=6,
        ),
        st.booleans(),
    )
    def test_one_framing_and_no_injection(self, pairs: list[tuple[bytes, bytes]], keep_alive: bool) -> None:
        """Whatever a resource sets, one framing goes out, and no line that it did not set."""
        head, _ = self.head(*pairs, keep_alive=keep_alive)
        lines = head.split(b"\r\n")
        self.assertEqual(lines[-2:], [b"", b""])
        names = [line.partition(b":")[0].lower() for line in lines[1:-2]]
        self.assertLessEqual(names.count(b"content-length") + names.count(b"transfer-encoding"), 1)
        self.assertLessEqual(len(names), len(pairs) + 3)
        self.assertFalse(any(b"\n" in line or b"\0" in line for line in lines))

    @given(
        st.lists(
            st.sampled_from([(b"Date", DATE), (b"date", DATE), (b"X", DATE), (b"content-length", b"5")]),
            max_size=4,
            unique_by=lambda pair: pair[0].lower(),
        )
    )
    def test_another_date_and_length(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Lines that were made ready once say another date and length as if they had been made for them."""
        later = DATE.replace(b"00:00:00", b"23:59:59")
        other = {b"date": later, b"content-length": b"678"}
        expected = ready([(name, other.get(name.lower(), value)) for name, value in pairs])
        lines = ready(pairs)
        if lines.length is not None:
            lines = lines.with_length(678)
        self.assertEqual(lines.with_date(later), expected)

    def test_a_broken_phrase(self) -> None:
        """A reason phrase that would break the head gives way to the usual one; the lines stay."""
        head, _ = response_head(
            method=b"GET",
            version=b"HTTP/1.1",
            code=404,
            phrase=b"No\r\nX-Evil: 1",
            pairs=[(b"X-A", b"1"), (b"X-B", b"a\nb"), (b"Content-Length", b"0")],
            keep_alive=True,
            date=DATE,
        )
        expected = b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nContent-Length: 0\r\nDate: " + DATE + b"\r\n\r\n"
        self.assertEqual(head, expected)


class Phrases(SynchronousTestCase):
    """Reason phrases, which are remembered with their status."""

    def test_an_endless_one(self) -> None:
        """One that nobody reads to its end is the usual one: hundreds of them would be remembered."""
        for phrase, told in ((b"x" * MAX_PHRASE, b"x" * MAX_PHRASE), (b"x" * (MAX_PHRASE + 1), b"Not Found")):
            head, _ = response_head(
                method=b"GET",
                version=b"HTTP/1.1",
                code=404,
                phrase=phrase,
                pairs=[],
                keep_alive=True,
                date=DATE,
            )
            self.assertTrue(head.startswith(b"HTTP/1.1 404 " + told + b"\r\n"))


class Requests(SynchronousTestCase):
    """The head of a request to the upstream."""

    def test_order_and_duplicates_are_kept(self) -> None:
        """What the client wrote arrives in its order; the framing and the Host are ours."""
        pairs = [(b"b", b"1"), (b"A", b"2"), (b"b", b"3"), (b"Content-Length", b"9"), (b"Host", b"evil")]
        head = request_head(b"GET", b"/x", b"up", RawHeaders(pairs), None)
        self.assertEqual(head, b"GET /x HTTP/1.1\r\nHost: up\r\nb: 1\r\nA: 2\r\nb: 3\r\n\r\n")

    def test_an_empty_post(self) -> None:
        """Its length is said, so that no upstream waits for a body."""
        self.assertIn(b"Content-Length: 0\r\n", request_head(b"POST", b"/", b"up", None, None))

    @given(st.binary(max_size=10), st.binary(max_size=10))
    def test_nothing_breaks_the_head(self, name: bytes, value: bytes) -> None:
        """A line that would be two is an error before anything is sent."""
        try:
            head = request_head(b"GET", b"/", b"up", RawHeaders([(b"X-" + name, value)]), None)
        except ValueError:
            return
        self.assertLessEqual(head.count(b"\n"), 4)
        self.assertEqual(head.count(b"\n"), head.count(b"\r\n"))


class Kept(SynchronousTestCase):
    """How long an upstream says that it keeps a quiet connection."""

    def test_said(self) -> None:
        """As Node.js, nginx and Apache say it; the shortest time counts."""
        for value, seconds in (
            (b"timeout=5", 5),
            (b"timeout=5, max=100", 5),
            (b"max=100,Timeout = 75", 75),
            (b"timeout=0", 0),
            (b"timeout=9, timeout=3", 3),
            (b"timeout=5;x", 5),
        ):
            self.assertEqual(kept_for([(b"A", b"b"), (b"keep-Alive", value)]), seconds, value)
        self.assertEqual(kept_for([(b"Keep-Alive", b"timeout=5"), (b"Keep-Alive", b"timeout=2")]), 2)

    def test_not_said(self) -> None:
        """Anything else says nothing."""
        for value in (
            b"",
            b"5",
            b"timeout",
            b"timeout=",
            b"timeout=-1",
            b"timeout=1.5",
            b"timeout=5s",
            b"timeout=\xd9\xa5",
            b"mytimeout=5",
            b"timeout=1234567890",
            b'timeout="5"',
        ):
            self.assertIsNone(kept_for([(b"Keep-Alive", value)]), value)
        self.assertIsNone(kept_for([(b"Keep-Alives", b"timeout=5"), (b"X", b"timeout=5")]))

    @given(st.lists(st.tuples(st.sampled_from([b"Keep-Alive", b"keep-alive", b"X"]), st.binary())))
    def test_anything(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Whatever it says is a time or nothing."""
        kept = kept_for(pairs)
        self.assertTrue(kept is None or 0 <= kept < 10**9)
