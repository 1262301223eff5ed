"""Upstreams that stop reading: what is bounded then, and that nothing of it stays."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.errors import ResponseHeadTimeout
from mcp_oauth2_proxy.wire.sockets import unsent
from tests.support.kernel import SOCKET_BUFFER, TRANSPORT_BUFFER, Kernel, Socket
from tests.wire.test_agent import Upload
from tests.wire.transport import Reader

HEAD_TIMEOUT, IDLE_TIMEOUT = 60.0, 4.0


class Stuck(SynchronousTestCase):
    """An upload of more than all buffers hold, and an upstream that takes none of it."""

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
