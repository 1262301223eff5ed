"""Upstreams that stop reading: what is bounded then, and that nothing of it stays."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.errors import ResponseHeadTimeout, UploadStalled
from mcp_oauth2_proxy.wire.sockets import unsent
from tests.support.kernel import SOCKET_BUFFER, TRANSPORT_BUFFER, Kernel, Socket
from tests.wire.test_agent import Upload
from tests.wire.transport import Reader

HEAD_TIMEOUT, IDLE_TIMEOUT = 60.0, 4.0


class StuckCase(SynchronousTestCase):
    """A request whose body is more than all buffers hold."""

    def setUp(self) -> None:
        self.kernel = kernel = Kernel()
        self.agent = WireAgent(
            kernel, connect_timeout=5, response_header_timeout=HEAD_TIMEOUT, idle_timeout=IDLE_TIMEOUT
        )
        endpoint = type("Endpoint", (), {"connect": lambda _, factory: kernel.connect(factory)})()
        self.patch(self.agent, "_endpoint", lambda _key: endpoint)

    def post(self, size: int, written: int) -> tuple[Deferred[Any], Upload, Socket]:
        """Begin a request and write a part of its body; return it, the body and the upstream's socket."""
        upload = Upload(size)
        waiting = self.agent.request(b"POST", b"http://up:1/", None, upload)
        self.kernel.settle()
        upload.consumer.write(b"x" * written)
        self.kernel.settle()
        return waiting, upload, self.kernel.accepted[-1]

    def assert_nothing_left(self) -> None:
        self.kernel.settle()
        self.assertEqual([one for one in self.kernel.transports if one.connected], [])
        self.assertEqual(self.kernel.getDelayedCalls(), [])


class Stuck(StuckCase):
    """An upload of more than all buffers hold, and an upstream that takes none of it."""

    def test_no_answer(self) -> None:
        """The client is held back, and after the time for an answer's head that is the answer."""
        size = SOCKET_BUFFER + TRANSPORT_BUFFER + 1
        waiting, upload, _ = self.post(10_000, size)
        self.assertEqual(upload.events, ["pause"])
        self.assertLess(len(unsent(self.kernel.transports[-1])), size)
        self.kernel.advance(HEAD_TIMEOUT - 1)
        self.assertNoResult(waiting)
        self.kernel.advance(1)
        self.failureResultOf(waiting, ResponseHeadTimeout)
        self.assertEqual(upload.events, ["pause", "stop"])
        self.assert_nothing_left()

    def test_an_answer_in_the_middle(self) -> None:
        """The answer is passed on; what had been written and is not taken does not keep the connection."""
        for rest in (b"", b"Connection: close\r\n"):
            waiting, upload, upstream = self.post(10_000, SOCKET_BUFFER + TRANSPORT_BUFFER + 1)
            upstream.send(b"HTTP/1.1 413 No\r\n" + rest + b"Content-Length: 2\r\n\r\nno")
            self.kernel.settle()
            reader = Reader()
            self.successResultOf(waiting).deliverBody(reader)
            self.assertEqual(reader.data, b"no")
            self.assertEqual(upload.events[-1], "stop")
            self.kernel.advance(IDLE_TIMEOUT)
            self.assert_nothing_left()

    def test_an_answer_before_a_whole_body_was_taken(self) -> None:
        """The same where the body is whole but still with us: the connection takes no other request."""
        size = SOCKET_BUFFER + TRANSPORT_BUFFER
        waiting, upload, upstream = self.post(size, size)
        upload.done.callback(None)
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.kernel.settle()
        self.successResultOf(waiting).deliverBody(Reader())
        self.agent.request(b"GET", b"http://up:1/").addErrback(lambda _: None)
        self.kernel.settle()
        self.assertEqual(len(self.kernel.accepted), 2)
        self.agent.closeIdle()
        self.kernel.accepted[-1].abort()
        self.kernel.settle()
        self.kernel.advance(IDLE_TIMEOUT)
        self.assert_nothing_left()


class HalfAnswered(StuckCase):
    """An upstream that begins its answer while it is to take more of the request than it does."""

    OPEN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    PIECE = b"1\r\nx\r\n"

    def begin(self) -> tuple[Upload, Socket, Reader]:
        """Have the body held back and the answer begun; return the body, the upstream and the reader."""
        waiting, upload, upstream = self.post(10_000, SOCKET_BUFFER + TRANSPORT_BUFFER + 1)
        self.kernel.advance(HEAD_TIMEOUT - 1)
        upstream.send(self.OPEN)
        self.kernel.settle()
        self.assertEqual(upload.events, ["pause"])
        reader = Reader()
        self.successResultOf(waiting).deliverBody(reader)
        return upload, upstream, reader

    def test_nothing_moves(self) -> None:
        """After as long as its answer's head may take the answer is cut, and the client let go."""
        upload, _, reader = self.begin()
        self.kernel.advance(HEAD_TIMEOUT - 1)
        self.assertIsNone(reader.reason)
        self.kernel.advance(1)
        self.assertIsInstance(reader.reason, UploadStalled)
        self.assertEqual(upload.events, ["pause", "stop"])
        self.assert_nothing_left()

    def test_the_answer_goes_on(self) -> None:
        """One that answers piece by piece and does not care for the rest of the request may do so."""
        _, upstream, reader = self.begin()
        for _ in range(4):
            self.kernel.advance(HEAD_TIMEOUT - 1)
            upstream.send(self.PIECE)
            self.kernel.settle()
        self.assertEqual((reader.data, reader.reason), (b"xxxx", None))
        self.kernel.advance(HEAD_TIMEOUT)
        self.assertIsInstance(reader.reason, UploadStalled)
        self.assert_nothing_left()

    def test_the_upload_goes_on(self) -> None:
        """Once the body has been taken nobody is waited for: the answer may be a quiet stream for hours."""
        upload, upstream, reader = self.begin()
        upstream.recv(10_000)
        self.kernel.settle()
        upstream.recv(10_000)
        self.kernel.settle()
        self.assertEqual(upload.events, ["pause", "resume"])
        self.kernel.advance(100 * HEAD_TIMEOUT)
        upload.consumer.write(b"y" * (SOCKET_BUFFER + TRANSPORT_BUFFER + 1))
        self.kernel.settle()
        self.kernel.advance(HEAD_TIMEOUT - 1)
        self.assertIsNone(reader.reason)
        upstream.recv(10_000)
        self.kernel.settle()
        upstream.send(self.PIECE)
        self.kernel.settle()
        self.kernel.advance(HEAD_TIMEOUT)
        self.assertEqual((reader.data, reader.reason), (b"x", None))
        upstream.close()
        self.assert_nothing_left()

    def test_a_reader_that_waits(self) -> None:
        """While it is the client that does not read its answer the upstream has nothing to answer for."""
        _, _, reader = self.begin()
        response: Any = reader.transport
        response.pauseProducing()
        self.kernel.advance(10 * HEAD_TIMEOUT)
        self.assertIsNone(reader.reason)
        response.resumeProducing()
        self.kernel.advance(HEAD_TIMEOUT - 1)
        self.assertIsNone(reader.reason)
        self.kernel.advance(1)
        self.assertIsInstance(reader.reason, UploadStalled)
        self.assert_nothing_left()

    def test_held_back_later(self) -> None:
        """It is the same where the upstream stops taking the body after it has begun to answer."""
        waiting, upload, upstream = self.post(10_000, 10)
        upstream.send(self.OPEN)
        self.kernel.settle()
        reader = Reader()
        self.successResultOf(waiting).deliverBody(reader)
        self.kernel.advance(10 * HEAD_TIMEOUT)
        upload.consumer.write(b"x" * (SOCKET_BUFFER + TRANSPORT_BUFFER))
        self.kernel.settle()
        self.assertEqual(upload.events, ["pause"])
        self.kernel.advance(HEAD_TIMEOUT)
        self.assertIsInstance(reader.reason, UploadStalled)
        self.assert_nothing_left()

    def test_on_another_connection(self) -> None:
        """A body that was held back on a connection that turned out to be closed is not on the next one."""
        first = self.agent.request(b"GET", b"http://up:1/")
        self.kernel.settle()
        self.kernel.accepted[0].recv(10_000)
        self.kernel.accepted[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.kernel.settle()
        self.successResultOf(first).deliverBody(Reader())
        self.kernel.accepted[0].close()
        upload = Upload(10_000)
        waiting = self.agent.request(b"POST", b"http://up:1/", None, upload)
        upload.consumer.write(b"x" * (TRANSPORT_BUFFER + 1))
        self.kernel.settle()
        upstream = self.kernel.accepted[1]
        upstream.recv(10_000)
        self.kernel.settle()
        self.assertEqual(upload.events[-1], "resume")
        upstream.send(self.OPEN)
        self.kernel.settle()
        reader = Reader()
        self.successResultOf(waiting).deliverBody(reader)
        self.kernel.advance(10 * HEAD_TIMEOUT)
        self.assertIsNone(reader.reason)
        upstream.close()
        self.assert_nothing_left()
