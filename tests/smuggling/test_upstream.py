"""The recording upstream notices what it is there to notice."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.smuggling.answers import read_answers
from tests.smuggling.upstream import Upstream

MARKED = b"Host: up\r\nX-Proxy-Mark: secret\r\n"
GOOD = b"GET /a HTTP/1.1\r\n" + MARKED + b"\r\n"


class Complaints(SynchronousTestCase):
    """What a server could hold against the proxy."""

    def complaints(self, *received: bytes) -> list[str]:
        upstream = Upstream(b"secret")
        connection = upstream.accept()
        for data in received:
            connection.feed(data)
        return upstream.complaints()

    def test_nothing(self) -> None:
        """Marked requests, with bodies that hold whatever they like, whole or not."""
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: up\r\n\r\n"
        post = b"POST /b HTTP/1.1\r\n" + MARKED
        by_length = post + b"Content-Length: %d\r\n\r\n" % len(smuggled) + smuggled
        chunked = post + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            len(smuggled),
            smuggled,
        )
        self.assertEqual(self.complaints(GOOD, by_length, chunked, GOOD), [])
        self.assertEqual(self.complaints(GOOD + by_length[:-10]), [])

    def test_what_a_careless_server_sees(self) -> None:
        """A request that only some readers see, one without a mark or with two, two framings, junk."""
        for data in (
            b"GET /a HTTP/1.1\r\nHost: up\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: up\r\nX-Proxy-Mark: guessed\r\n\r\n",
            b"GET /a HTTP/1.1\r\n" + MARKED + b"x_proxy_mark: secret\r\n\r\n",
            b"GET /a HTTP/1.1\r\n" + MARKED + b"X: a\n\nGET /smuggled HTTP/1.1\r\nHost: up\r\n\r\n",
            b"POST /a HTTP/1.1\r\n"
            + MARKED
            + b"Content_Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\n"
            + MARKED
            + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            b"GET /a HTTP/1.1\r\n" + MARKED + b"Host : other\r\n\r\n",
            b"GET /a HTTP/1.1\r\n" + MARKED + b"Content_Length: 60\r\n\r\n" + GOOD,
            GOOD + b"junk\r\n\r\n",
        ):
            self.assertNotEqual(self.complaints(data), [], data)


class Reading(SynchronousTestCase):
    """A strict client."""

    def test_one_framing(self) -> None:
        """Whole answers are read, half ones are not, and what is none is an error."""
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.assertEqual([one.status for one in read_answers(ok + ok, ended=False)], [200, 200])
        self.assertEqual([one.status for one in read_answers(ok + ok[:-1], ended=True)], [200])
        self.assertRaises(ValueError, read_answers, ok + b"junk\r\n\r\n", ended=True)
