"""The way to the upstream: answers as they come, connections used again, and nothing sent twice."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.errors import MalformedResponse, ResponseHeadTimeout, UpstreamGone
from mcp_oauth2_proxy.wire.limits import MAX_PIECES
from mcp_oauth2_proxy.wire.requests import WholeBody, request_head
from tests.wire.transport import Reader, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@implementer(IBodyProducer)
class Upload:
    """A request body that the test produces piece by piece."""

    def __init__(self, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.events: list[str] = []
        self.done: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class ConnectionCase(SynchronousTestCase):
    """One connection and its clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.free: list[ClientConnection] = []
        self.gone: list[ClientConnection] = []
        self.connection = ClientConnection(
            Deadlines(self.clock),
            head_timeout=10,
            idle_timeout=4,
            released=self.free.append,
            lost=self.gone.append,
        )
        self.wire = Wire(self.connection)

    def tearDown(self) -> None:
        """Once the connection is over, no timer of it is left."""
        self.wire.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def send(self, method: bytes = b"GET", body: Any = None) -> Deferred[Any]:
        return self.connection.send(method, request_head(method, b"/", b"up", None, body), body)

    def body(self, response: Any) -> Reader:
        reader = Reader()
        response.deliverBody(reader)
        return reader


class Answers(ConnectionCase):
    """Answers of all shapes."""

    def test_whole(self) -> None:
        """Status, header lines in order, body; and the connection is free again."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.1 201 Made\r\nB: 1\r\nA: 2\r\nB: 3\r\nContent-Length: 5\r\n\r\nhe")
        response = self.successResultOf(waiting)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertEqual((response.code, response.phrase, response.length), (201, b"Made", 5))
        self.assertEqual(response.rawHeaders[:3], [(b"B", b"1"), (b"A", b"2"), (b"B", b"3")])
        self.assertEqual(response.headers.getRawHeaders(b"b"), [b"1", b"3"])
        reader = self.body(response)
        self.assertEqual((reader.data, self.free), (b"he", []))
        self.wire.receive(b"llo")
        self.assertEqual(reader.data, b"hello")
        self.assertIsInstance(reader.reason, ResponseDone)
        self.assertEqual(self.free, [self.connection])

    def test_crumbs(self) -> None:
        """A body in chunks of two bytes whose reader waits takes little more than its bytes."""
        asked = self.send()
        self.wire.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nxy\r\n" * 9_000)
        response = self.successResultOf(asked)
        self.assertLessEqual(len(response._chunks), MAX_PIECES)
        self.assertEqual(self.body(response).data, b"xy" * 9_000)
        self.wire.receive(b"0\r\n\r\n")

    def test_taken(self) -> None:
        """An answer that has come whole can be taken as it is, once; one that has not cannot."""
        asked = self.send()
        self.wire.receive(OK)
        response = self.successResultOf(asked)
        self.assertEqual((response.take(), self.free), (b"ok", [self.connection]))
        self.assertRaises(RuntimeError, response.deliverBody, Reader())
        asked = self.send()
        self.wire.receive(OK[:-1])
        response = self.successResultOf(asked)
        self.assertIsNone(response.take())
        reader = self.body(response)
        self.wire.receive(b"k")
        self.assertEqual(reader.data, b"ok")
        self.assertRaises(RuntimeError, response.take)

    def test_event_stream(self) -> None:
        """The head of a stream is there before its first event, and each event as it comes."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = self.body(self.successResultOf(waiting))
        for event in (b"data: 1\n\n", b": comment\n\n"):
            self.wire.receive(b"%x\r\n%b\r\n" % (len(event), event))
        self.assertEqual(reader.data, b"data: 1\n\n: comment\n\n")
        self.clock.advance(10_000)
        self.assertIsNone(reader.reason)
        self.wire.receive(b"0\r\n\r\n")
        self.assertIsInstance(reader.reason, ResponseDone)

    def test_backpressure(self) -> None:
        """Until the body is wanted, and while its reader pauses, the upstream is held back."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123")
        response = self.successResultOf(waiting)
        self.assertFalse(self.wire.reading)
        reader = self.body(response)
        self.assertTrue(self.wire.reading)
        response.pauseProducing()
        self.assertFalse(self.wire.reading)
        self.wire.receive(b"456789")
        self.assertEqual(reader.data, b"123")
        response.resumeProducing()
        self.assertEqual(reader.data, b"123456789")
        self.assertTrue(self.wire.reading)

    def test_until_close(self) -> None:
        """A body that ends with its connection is as whole as it can be."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.0 200 OK\r\n\r\nhello")
        reader = self.body(self.successResultOf(waiting))
        self.wire.close()
        self.assertEqual(reader.data, b"hello")
        self.assertIsInstance(reader.reason, PotentialDataLoss)

    def test_truncated(self) -> None:
        """A body that ends too early is known to."""
        for head, piece in ((b"Content-Length: 9", b"123"), (b"Transfer-Encoding: chunked", b"3\r\n123\r\n")):
            self.setUp()
            waiting = self.send()
            self.wire.receive(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + piece)
            reader = self.body(self.successResultOf(waiting))
            self.wire.close()
            self.assertIsInstance(reader.reason, UpstreamGone)
            self.assertEqual(self.free, [])

    def test_interim_answers(self) -> None:
        """1xx answers are not the answer."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        self.assertNoResult(waiting)
        self.wire.receive(OK)
        self.assertEqual(self.successResultOf(waiting).code, 200)

    def test_without_a_body(self) -> None:
        """HEAD, 204 and 304 have none; the connection is free at once, but not where a body was announced."""
        for method, head, free in (
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", True),
            (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", False),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", True),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
        ):
            self.setUp()
            waiting = self.send(method)
            self.wire.receive(head)
            reader = self.body(self.successResultOf(waiting))
            self.assertIsInstance(reader.reason, ResponseDone, method + head)
            self.assertEqual(self.free, [self.connection] if free else [], method + head)
            self.assertEqual(self.wire.over, not free, method + head)


class Misbehaviour(ConnectionCase):
    """Upstreams that break the rules."""

    def test_no_answer_to_pass_on(self) -> None:
        """What is no HTTP/1 answer is an error, and the connection is cut."""
        for data in (
            b"hello\r\n\r\n",
            b"HTTP/1.1 000 Zero\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 201 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"RTSP/1.0 200 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 19 + b"\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
        ):
            self.setUp()
            waiting = self.send()
            self.wire.receive(data)
            self.failureResultOf(waiting, MalformedResponse)
            self.assertTrue(self.wire.over, data[:60])
            self.assertEqual(self.free, [])

    def test_an_endless_head(self) -> None:
        """A head that never ends is given up."""
        waiting = self.send()
        self.wire.receive(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            self.wire.receive(b"a" * 1000)
        self.failureResultOf(waiting, MalformedResponse)

    def test_more_than_was_asked_for(self) -> None:
        """The answer is passed on, what follows it never; the connection is not used again."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        for answer in (OK, chunked):
            for more in (OK, b"HTTP/1.1 100 Continue\r\n\r\n", b"junk"):
                self.setUp()
                waiting = self.send()
                self.wire.receive(answer + more)
                reader = self.body(self.successResultOf(waiting))
                self.assertEqual((reader.data, self.free, self.wire.over), (b"ok", [], True))
                self.assertIsInstance(reader.reason, ResponseDone)
        self.setUp()
        waiting = self.send()
        self.wire.receive(OK)
        self.body(self.successResultOf(waiting))
        self.wire.receive(b"junk")
        self.assertTrue(self.wire.over)
        self.assertEqual(self.gone, [self.connection])

    def test_no_head_in_time(self) -> None:
        """Silence for the head timeout is an error; a body may then take as long as it likes."""
        waiting = self.send()
        self.clock.advance(9)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.failureResultOf(waiting, ResponseHeadTimeout)
        self.assertTrue(self.wire.over)

    def test_a_connection_that_closes(self) -> None:
        """An upstream that closes without an answer is said to have gone."""
        waiting = self.send()
        self.wire.close()
        self.failureResultOf(waiting, UpstreamGone)


class Uploads(ConnectionCase):
    """Requests with a body."""

    def test_known_length(self) -> None:
        """It goes out as it is produced, behind its length."""
        upload = Upload(5)
        self.send(b"POST", upload).addErrback(lambda _: None)
        self.assertIn(b"Content-Length: 5\r\n", self.wire.taken())
        upload.consumer.write(b"hello")
        self.assertEqual(self.wire.taken(), b"hello")
        self.wire.producer.pauseProducing()
        self.wire.producer.resumeProducing()
        self.assertEqual(upload.events, ["pause", "resume"])
        upload.done.callback(None)
        self.assertEqual((self.wire.taken(), self.wire.producer), (b"", None))

    def test_a_whole_body(self) -> None:
        """One that is there already goes out with the head, and nothing is left to be produced."""
        waiting = self.send(b"POST", WholeBody(b"hello"))
        self.assertTrue(self.wire.sent.endswith(b"Content-Length: 5\r\n\r\nhello"))
        self.assertIsNone(self.wire.producer)
        self.wire.receive(OK)
        self.assertEqual(self.body(self.successResultOf(waiting)).data, b"ok")
        self.assertEqual(self.free, [self.connection])

    def test_another_length_than_was_said(self) -> None:
        """The connection is cut: the next request would be taken for the rest, or the rest for a request."""
        for body in (b"hell", b"hello GET /smuggled"):
            self.setUp()
            upload = Upload(5)
            waiting = self.send(b"POST", upload)
            self.wire.taken()
            upload.consumer.write(body)
            upload.done.callback(None)
            self.failureResultOf(waiting, UpstreamGone)
            self.assertLessEqual(len(self.wire.sent), 5)
            self.assertTrue(self.wire.over)

    def test_unknown_length(self) -> None:
        """It goes out in chunks."""
        upload = Upload()
        self.send(b"POST", upload).addErrback(lambda _: None)
        self.wire.taken()
        upload.consumer.write(b"hello")
        upload.done.callback(None)
        self.assertEqual(self.wire.taken(), b"5\r\nhello\r\n0\r\n\r\n")

    def test_both_ways_at_once(self) -> None:
        """The answer streams while the upload still runs."""
        upload = Upload()
        waiting = self.send(b"POST", upload)
        self.wire.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        reader = self.body(self.successResultOf(waiting))
        upload.consumer.write(b"more")
        self.wire.receive(b"1\r\nb\r\n")
        self.assertEqual(reader.data, b"ab")
        upload.done.callback(None)
        self.wire.receive(b"0\r\n\r\n")
        self.assertIsInstance(reader.reason, ResponseDone)
        self.assertEqual(self.free, [self.connection])

    def test_an_answer_before_the_upload_ends(self) -> None:
        """It is passed on, the upload is stopped, and the connection is not used again."""
        upload = Upload()
        waiting = self.send(b"POST", upload)
        self.wire.receive(OK)
        reader = self.body(self.successResultOf(waiting))
        self.assertEqual(reader.data, b"ok")
        self.assertIsInstance(reader.reason, ResponseDone)
        self.assertEqual((upload.events, self.free, self.wire.over), (["stop"], [], True))
        upload.consumer.write(b"late")

    def test_an_upload_that_fails(self) -> None:
        """What was sent must not look whole: the connection is cut."""
        upload = Upload()
        waiting = self.send(b"POST", upload)
        upload.consumer.write(b"half")
        upload.done.errback(RuntimeError("the client has gone"))
        self.failureResultOf(waiting, UpstreamGone)
        self.assertTrue(self.wire.over)
        self.assertNotIn(b"0\r\n\r\n", self.wire.sent)

    def test_a_long_upload(self) -> None:
        """The time for the head counts from the last progress of the upload."""
        upload = Upload()
        waiting = self.send(b"POST", upload)
        for _ in range(5):
            self.clock.advance(9)
            upload.consumer.write(b"x")
        self.assertNoResult(waiting)
        upload.done.callback(None)
        self.clock.advance(10)
        self.failureResultOf(waiting, ResponseHeadTimeout)

    def test_cancelled(self) -> None:
        """Giving a request up stops its upload and cuts the connection."""
        upload = Upload()
        waiting = self.send(b"POST", upload)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual((upload.events, self.wire.over), (["stop"], True))


class Idle(ConnectionCase):
    """Between requests."""

    def test_what_the_upstream_says_of_its_time(self) -> None:
        """A connection is closed a second before its upstream would do it, or at half of a short time."""
        for said, closes in ((b"timeout=3", 2), (b"timeout=1", 0.5), (b"timeout=60", 4), (b"timeout=x", 4)):
            answer = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: " + said + b"\r\n\r\n")
            self.setUp()
            for _ in range(2):  # the second head repeats the first
                waiting = self.send()
                self.wire.receive(answer)
                self.body(self.successResultOf(waiting))
            self.clock.advance(closes - 0.1)
            self.assertFalse(self.wire.over, said)
            self.clock.advance(0.1)
            self.assertTrue(self.wire.over, said)

    def test_it_keeps_none(self) -> None:
        """An upstream that says it keeps a connection for no time at all gets no second request on it."""
        waiting = self.send()
        self.wire.receive(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=0\r\n\r\n"))
        self.assertEqual(self.body(self.successResultOf(waiting)).data, b"ok")
        self.assertEqual((self.free, self.wire.over), ([], True))

    def test_it_says_nothing_any_more(self) -> None:
        """Each answer speaks for itself."""
        for answer in (OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=2\r\n\r\n"), OK):
            waiting = self.send()
            self.wire.receive(answer)
            self.body(self.successResultOf(waiting))
        self.clock.advance(3.9)
        self.assertFalse(self.wire.over)

    def test_idle_timeout(self) -> None:
        """An unused connection is closed before the upstream closes it."""
        waiting = self.send()
        self.wire.receive(OK)
        self.body(self.successResultOf(waiting))
        self.clock.advance(3)
        self.assertFalse(self.wire.over)
        self.clock.advance(1)
        self.assertTrue(self.wire.over)
        self.assertEqual(self.gone, [self.connection])


class Pool(SynchronousTestCase):
    """The agent and its connections, with endpoints in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.agent = WireAgent(self.clock, connect_timeout=1, response_header_timeout=10, idle_timeout=4)
        self.wires: list[Wire] = []
        case = self

        class Endpoint:
            def connect(self, factory: Any) -> Deferred[Any]:
                case.wires.append(Wire(factory.buildProtocol(None)))
                made: Deferred[Any] = Deferred()
                made.callback(case.wires[-1].protocol)
                return made

        self.patch(self.agent, "_endpoint", lambda key: Endpoint())

    def get(self, method: bytes = b"GET", body: Any = None) -> Deferred[Any]:
        return self.agent.request(method, b"http://up:1/x", Headers({b"A": [b"1"]}), body)

    def finish(self, waiting: Deferred[Any], wire: Wire) -> None:
        wire.receive(OK)
        self.successResultOf(waiting).deliverBody(Reader())

    def test_used_again(self) -> None:
        """The next request goes over the connection of the last, and never two at a time."""
        self.assertTrue(verifyObject(IAgent, self.agent))
        self.finish(self.get(), self.wires[0])
        first, second = self.get(), self.get()
        self.assertEqual(len(self.wires), 2)
        self.finish(first, self.wires[0])
        self.finish(second, self.wires[1])
        self.assertEqual(self.wires[0].sent.count(b"GET /x HTTP/1.1\r\nHost: up:1\r\n"), 2)

    def test_closed_ones_are_forgotten(self) -> None:
        """A connection that the upstream has closed is not tried."""
        self.finish(self.get(), self.wires[0])
        self.wires[0].close()
        self.finish(self.get(), self.wires[1])

    def test_nothing_is_sent_twice(self) -> None:
        """Whether the upstream has acted upon what it was sent cannot be known, whatever it was."""
        for number, method in enumerate((b"POST", b"GET", b"DELETE")):
            self.finish(self.get(), self.wires[number])
            waiting = self.get(method)
            self.wires[number].close()
            self.failureResultOf(waiting, UpstreamGone)
            self.assertEqual(len(self.wires), number + 1)

    def test_close_idle(self) -> None:
        """At the end the kept connections are closed."""
        self.finish(self.get(), self.wires[0])
        self.agent.closeIdle()
        self.assertTrue(self.wires[0].over)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_no_request(self) -> None:
        """A URI that is not absolute, and a header that would be two, fail before anything is sent."""
        self.failureResultOf(self.agent.request(b"GET", b"/x"), ValueError)
        broken = Headers({b"A": [b"1"]})
        broken._rawHeaders[b"a"] = [b"1\r\nB: 2"]
        self.failureResultOf(self.agent.request(b"GET", b"http://up/", broken), ValueError)
        self.assertEqual(self.wires, [])
