"""One client connection: the order of things, its limits in time, and its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.wire import channel as wire_channel
from mcp_oauth2_proxy.wire.channel import LAST_CHANCE, MAX_DRAINED, MAX_PIPELINED
from mcp_oauth2_proxy.wire.errors import BodyIncomplete, BodyMalformed
from mcp_oauth2_proxy.wire.interfaces import IStreamingRequest
from mcp_oauth2_proxy.wire.limits import MAX_PIECES, Limits
from mcp_oauth2_proxy.wire.site import WireSite
from tests.smuggling.holding import held
from tests.wire.transport import Reader, Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


class Held(Resource):
    """Keeps every request for the test to answer."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


class AtOnce(Resource):
    """Answers with its target at once, or breaks."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        if request.target == b"/broken":
            raise RuntimeError("a secret cause")
        return bytes(request.target)


class ChannelCase(SynchronousTestCase):
    """A site with its clock, and a way to connect."""

    resource: type[Resource] = Held

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.root: Any = self.resource()
        self.done: list[Any] = []
        self.site = WireSite(
            self.root, reactor=self.clock, limits=Limits(write_timeout=7), on_done=self.done.append
        )
        self.wire = self.connect()

    def tearDown(self) -> None:
        """Whatever happened: after the end of all connections nothing is left behind."""
        for channel in list(self.site.connections):
            channel.transport.close()  # type: ignore[union-attr]
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.site.active_requests, 0)
        self.assertEqual(len(set(map(id, self.done))), len(self.done), "each request is done once")

    def connect(self) -> Wire:
        return Wire(self.site.buildProtocol(None))


class Streaming(ChannelCase):
    """Requests whose bodies are streams."""

    def test_rendered_at_its_head(self) -> None:
        """A request is rendered before its body has come; the body waits in the socket until it is wanted."""
        self.wire.receive(POST % 10)
        (request,) = self.root.requests
        self.assertTrue(verifyObject(IStreamingRequest, request))
        self.assertFalse(self.wire.reading)
        reader = Reader()
        request.deliverBody(reader)
        self.assertTrue(self.wire.reading)
        self.wire.receive(b"hello")
        self.assertEqual((reader.data, reader.reason), (b"hello", None))
        self.wire.receive(b"world")
        self.assertEqual(reader.data, b"helloworld")
        self.assertIsInstance(reader.reason, ResponseDone)
        self.assertRaises(RuntimeError, request.deliverBody, Reader())

    def test_crumbs(self) -> None:
        """A body in chunks of two bytes that nobody asks for yet takes little more than its bytes."""
        self.wire.receive(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nxy\r\n" * 9_000
        )
        (request,) = self.root.requests
        self.assertLessEqual(len(request.body._chunks), MAX_PIECES)
        reader = Reader()
        request.deliverBody(reader)
        self.assertEqual(reader.data, b"xy" * 9_000)

    def test_taken(self) -> None:
        """A body that has come whole can be taken as it is, once; one that has not cannot."""
        self.wire.receive(POST % 5 + b"hell")
        request = self.root.requests[0]
        self.assertIsNone(request.takeBody())
        request.finish()
        self.wire.receive(b"o" + POST % 5 + b"hello")
        request = self.root.requests[1]
        self.assertEqual(request.takeBody(), b"hello")
        self.assertRaises(RuntimeError, request.deliverBody, Reader())
        request.finish()
        self.wire.receive(GET)
        self.assertEqual(len(self.root.requests), 3)

    def test_backpressure(self) -> None:
        """A reader that pauses holds the client back, and loses nothing."""
        self.wire.receive(POST % 10)
        reader = Reader()
        self.root.requests[0].deliverBody(reader)
        reader.transport.pauseProducing()  # type: ignore[union-attr]
        self.assertFalse(self.wire.reading)
        self.wire.receive(b"helloworld")
        self.assertEqual(reader.data, b"")
        reader.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(reader.data, b"helloworld")
        self.assertIsInstance(reader.reason, ResponseDone)

    def test_continue(self) -> None:
        """``100 Continue`` is sent when the body is wanted, and only then."""
        self.wire.receive((POST % 5)[:-2] + b"Expect: 100-continue\r\n\r\n")
        self.assertEqual(self.wire.sent, b"")
        self.root.requests[0].deliverBody(Reader())
        self.assertEqual(self.wire.sent, b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_response_backpressure(self) -> None:
        """A client that reads slowly holds the answer's producer back."""
        self.wire.receive(GET)
        calls: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        self.root.requests[0].registerProducer(Producer(), True)
        self.wire.producer.pauseProducing()
        self.wire.producer.resumeProducing()
        self.wire.close()
        self.assertEqual(calls, ["pause", "resume", "stop"])

    def test_head_first(self) -> None:
        """An empty write sends the head alone: an event stream is open before its first event."""
        self.wire.receive(GET)
        request = self.root.requests[0]
        request.write(b"")
        self.assertTrue(self.wire.sent.endswith(b"\r\n\r\n"))
        self.wire.taken()
        request.write(b"data: 1\n\n")
        self.assertEqual(self.wire.taken(), b"9\r\ndata: 1\n\n\r\n")
        request.finish()
        self.assertEqual(self.wire.taken(), b"0\r\n\r\n")

    def test_a_short_answer_is_cut(self) -> None:
        """An answer with less than it announced cannot be taken for whole."""
        self.wire.receive(GET)
        request = self.root.requests[0]
        request.setHeader(b"Content-Length", b"10")
        request.write(b"short")
        request.finish()
        self.assertTrue(self.wire.over)

    def test_abort(self) -> None:
        """An aborted answer ends the connection, and whoever asked hears it."""
        self.wire.receive(GET)
        request = self.root.requests[0]
        finished = request.notifyFinish()
        request.abort()
        self.failureResultOf(finished)
        self.assertEqual(self.done, [request])

    def test_a_broken_body(self) -> None:
        """Its reader hears it; the answer is the last one, and not lost to what the client still sends."""
        self.wire.receive(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        (request,) = self.root.requests
        reader = Reader()
        request.deliverBody(reader)
        self.assertIsInstance(reader.reason, BodyMalformed)
        request.finish()
        self.assertIn(b"Connection: close\r\n", self.wire.sent)
        self.assertEqual((self.wire.half_closed, self.wire.over), (True, False))
        self.clock.advance(31)
        self.assertTrue(self.wire.over)


class Order(ChannelCase):
    """Requests behind one another."""

    def test_one_at_a_time(self) -> None:
        """The second request is rendered when the first has been answered."""
        self.wire.receive(GET + GET)
        self.assertEqual(len(self.root.requests), 1)
        self.root.requests[0].finish()
        self.assertEqual(len(self.root.requests), 2)
        self.root.requests[1].finish()
        self.assertEqual(self.wire.sent.count(b"HTTP/1.1 200 OK"), 2)
        self.assertFalse(self.wire.over)

    def test_a_short_unwanted_body(self) -> None:
        """A short body that nobody reads is dropped, and the connection goes on."""
        self.wire.receive(POST % 5)
        self.root.requests[0].finish()
        self.wire.receive(b"hello" + GET)
        self.assertEqual(len(self.root.requests), 2)

    def test_a_long_unwanted_body(self) -> None:
        """A long one ends the connection, after the client has had the time to read the answer."""
        self.wire.receive(POST % (MAX_DRAINED + 1))
        self.root.requests[0].finish()
        self.assertIn(b"Connection: close\r\n", self.wire.sent)
        self.assertTrue(self.wire.half_closed)
        self.assertTrue(self.wire.reading)
        self.wire.receive(b"x" * 1000)
        self.assertFalse(self.wire.over)
        self.clock.advance(31)
        self.assertTrue(self.wire.over)

    def test_close(self) -> None:
        """``Connection: close`` and HTTP/1.0 end the connection with the answer."""
        for request in (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
            wire = self.connect()
            wire.receive(request)
            self.root.requests[-1].finish()
            self.assertTrue(wire.over)
            self.assertIn(b"Connection: close\r\n", wire.sent)

    def test_the_socket_is_held_back(self) -> None:
        """A client that pipelines more than a few requests waits."""
        for _ in range(12):
            self.wire.receive(GET)
        self.assertFalse(self.wire.reading)
        while self.root.requests[-1].finished == 0:
            self.root.requests[-1].finish()
        self.assertTrue(self.wire.reading)
        self.assertEqual(len(self.root.requests), 12)

    def test_large_requests_wait_unread(self) -> None:
        """Those that wait hold what one may hold, and not as much for each of them."""
        for number in range(MAX_PIPELINED):
            if self.wire.reading:
                self.wire.receive(b"GET /%d HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (number, b"x" * 60_000))
        self.assertFalse(self.wire.reading)
        self.assertLess(held(self.wire.protocol), 400 * 1024)
        answered = 0
        while self.wire.reading is False:
            self.root.requests[answered].finish()
            answered += 1
        self.assertEqual(answered, len(self.root.requests) - 1)

    def test_a_read_full_of_requests(self) -> None:
        """Thousands of requests in one read become objects a few at a time, and all are answered."""
        request = b"GET / HTTP/1.1\r\nHost:h\r\n\r\n"
        self.wire.receive(request * 2000)
        answered = 0
        while answered < 2000:
            self.assertLessEqual(self.site.active_requests, 2 + MAX_PIPELINED)
            self.assertEqual(self.wire.reading, answered + self.site.active_requests == 2000)
            self.root.requests[answered].finish()
            answered += 1
        self.assertEqual(self.wire.sent.count(b"HTTP/1.1 200 "), 2000)

    def test_requests_behind_a_body(self) -> None:
        """Those behind an upload in the same read wait as well; the upload is not cut into pieces."""
        request = b"GET / HTTP/1.1\r\nHost:h\r\n\r\n"
        self.wire.receive(POST % 20_000 + b"x" * 20_000 + request * 1000)
        self.assertLessEqual(self.site.active_requests, 2 + MAX_PIPELINED)
        reader = Reader()
        self.root.requests[0].deliverBody(reader)
        self.assertEqual(reader.data, b"x" * 20_000)


class AnsweredAtOnce(ChannelCase):
    """Resources that return their answer."""

    resource = AtOnce

    def test_many(self) -> None:
        """A hundred pipelined requests are answered in order, without nesting one in another."""
        targets = [b"/%d" % number for number in range(100)]
        self.wire.receive(b"".join(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target for target in targets))
        bodies = [part.rpartition(b"\r\n\r\n")[2] for part in self.wire.sent.split(b"HTTP/1.1 200 OK")[1:]]
        self.assertEqual(bodies, targets)

    def test_head(self) -> None:
        """HEAD has the length and no body."""
        self.wire.receive(b"HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b"Content-Length: 4\r\n", self.wire.sent)
        self.assertTrue(self.wire.sent.endswith(b"\r\n\r\n"))

    def test_a_method_that_is_not_there(self) -> None:
        """405 says which methods are."""
        self.wire.receive(b"DELETE /abc HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(self.wire.sent.startswith(b"HTTP/1.1 405 "))
        self.assertIn(b"Allow: GET, HEAD\r\n", self.wire.sent)

    def test_a_broken_resource(self) -> None:
        """A mistake of ours is a 500 with a reference, and its cause is only in the log."""
        self.wire.receive(b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(self.wire.sent.startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"secret", self.wire.sent)
        self.assertIn(self.done[0].requestId.encode(), self.wire.sent)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_refused(self) -> None:
        """What is no request gets its status as JSON, after the answers to what came before."""
        self.wire.receive(GET + b"nonsense\r\n\r\n")
        self.assertIn(b"HTTP/1.1 200 OK", self.wire.sent)
        self.assertIn(b"HTTP/1.1 400 Bad Request", self.wire.sent)
        self.assertIn(b'"error": "invalid_request"', self.wire.sent)
        self.assertTrue(self.wire.half_closed)

    def test_no_banner(self) -> None:
        """Nobody learns what software this is."""
        self.wire.receive(GET)
        self.assertNotIn(b"Server:", self.wire.sent)
        self.assertEqual(self.wire.sent.count(b"Date:"), 1)


class Time(ChannelCase):
    """How long anything may take."""

    def test_a_slow_head(self) -> None:
        """A head that trickles is 408 at the read timeout, counted from its first byte."""
        self.wire.receive(b"GET / HT")
        for _ in range(29):
            self.clock.advance(1)
            self.wire.receive(b"T" if not self.wire.sent and self.clock.seconds() < 1_000_001 else b"")
        self.assertEqual(self.wire.sent, b"")
        self.clock.advance(1)
        self.assertTrue(self.wire.sent.startswith(b"HTTP/1.1 408 "))

    def test_a_slow_head_behind_a_request(self) -> None:
        """So is one that waits behind another request."""
        self.wire.receive(GET + b"GET / HT")
        self.clock.advance(31)
        self.root.requests[0].finish()
        self.assertIn(b"HTTP/1.1 408 ", self.wire.sent)

    def test_a_slow_head_behind_many(self) -> None:
        """And one that was not even looked at while too many waited before it."""
        self.wire.receive(GET * 12 + b"GET / HT")
        self.assertFalse(self.wire.reading)
        self.clock.advance(1000)
        for number in range(12):
            self.root.requests[number].finish()
        self.assertTrue(self.wire.reading)
        self.clock.advance(31)
        self.assertIn(b"HTTP/1.1 408 ", self.wire.sent)

    def test_a_stalled_body(self) -> None:
        """A body without progress breaks off; one with progress may take as long as it likes."""
        self.wire.receive(POST % 100)
        reader = Reader()
        self.root.requests[0].deliverBody(reader)
        for _ in range(10):
            self.clock.advance(29)
            self.wire.receive(b"x")
        self.assertIsNone(reader.reason)
        self.clock.advance(31)
        self.assertIsInstance(reader.reason, BodyIncomplete)

    def test_a_slow_reader_of_ours(self) -> None:
        """While we are the slow side the client is not blamed."""
        self.wire.receive(POST % 10)
        self.clock.advance(1000)
        reader = Reader()
        self.root.requests[0].deliverBody(reader)
        self.wire.receive(b"helloworld")
        self.assertIsInstance(reader.reason, ResponseDone)

    def test_one_that_leaves_unread(self) -> None:
        """While nothing of a client is read it is looked for, though its request had come before its turn."""
        self.patch(wire_channel, "ended", lambda _: True)
        self.wire.receive(GET * 12 + POST % 10 + b"hello")
        for number in range(12):
            self.root.requests[number].finish()
        self.assertFalse(self.wire.reading)
        self.clock.advance(wire_channel.LOOK)
        self.assertTrue(self.wire.over)

    def test_idle(self) -> None:
        """A connection without a request is closed at the idle timeout, a running request never."""
        self.clock.advance(119)
        self.assertFalse(self.wire.over)
        self.clock.advance(1)
        self.assertTrue(self.wire.over)
        busy = self.connect()
        busy.receive(GET)
        self.clock.advance(10_000)
        self.assertFalse(busy.over)

    def test_write_timeout(self) -> None:
        """A client that reads nothing is cut at the write timeout."""
        self.wire.receive(GET)
        request = self.root.requests[0]
        request.registerProducer(Held(), True)  # type: ignore[arg-type]
        self.root.pauseProducing = self.root.stopProducing = lambda: None
        request.producer.pauseProducing = request.producer.stopProducing = lambda: None
        self.wire.producer.pauseProducing()
        self.clock.advance(6)
        self.assertFalse(self.wire.over)
        self.clock.advance(1)
        self.assertTrue(self.wire.over)


class Ends(ChannelCase):
    """Clients that leave, and processes that stop."""

    def test_a_client_that_leaves(self) -> None:
        """Whoever reads its body or waits for its end hears it, once."""
        self.wire.receive(POST % 100)
        request = self.root.requests[0]
        reader, finished = Reader(), request.notifyFinish()
        request.deliverBody(reader)
        self.wire.close()
        self.assertIsInstance(reader.reason, BodyIncomplete)
        self.failureResultOf(finished)
        self.assertEqual(self.done, [request])
        request.write(b"nobody hears this")

    def test_drain(self) -> None:
        """Draining closes busy connections with their answer, and idle ones when nothing has come soon."""
        busy = self.connect()
        busy.receive(GET)
        self.site.drain()
        self.clock.advance(LAST_CHANCE - 0.1)
        self.assertFalse(self.wire.over)
        self.clock.advance(0.1)
        self.assertTrue(self.wire.over)
        self.assertEqual(self.wire.sent, b"")
        self.assertFalse(busy.over)
        self.root.requests[0].finish()
        self.assertIn(b"Connection: close\r\n", busy.sent)
        self.assertTrue(busy.over)

    def test_a_request_that_crosses_with_draining(self) -> None:
        """It is answered, with the word that it was the last one; taking its time does not cut it."""
        self.site.drain()
        self.clock.advance(LAST_CHANCE / 2)
        self.wire.receive(GET)
        self.clock.advance(LAST_CHANCE * 3)
        self.assertFalse(self.wire.over)
        self.root.requests[0].finish()
        self.assertIn(b"Connection: close\r\n", self.wire.sent)
        self.assertTrue(self.wire.over)

    def test_abort_all(self) -> None:
        """The end of the grace cuts what is left."""
        self.wire.receive(GET)
        self.site.abort_all()
        self.assertTrue(self.wire.over)
        self.assertEqual(self.site.connections, set())
