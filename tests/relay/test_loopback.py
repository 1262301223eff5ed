"""What only real sockets show: timing, backpressure, and connections that die."""

from __future__ import annotations

import gc
import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.relay.loopback import Loopback, Raw, request
from tests.support.reactor import global_reactor

#: Seconds within which a look at sockets has come, on any machine, and no timeout of the relay has.
SOON = 5
HEAD_END = b"\r\n\r\n"
EVENT = b"id: 1\nretry: 100\ndata:\n: comment\n\n"
OPEN_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@implementer(IPushProducer)
class Flood:
    """Writes into a transport for as long as it is let, and counts."""

    PIECE = b"x" * 65536

    def __init__(self, transport: Any, chunked: bool) -> None:
        self.written = 0
        self.stopped = False
        self._piece = chunk(self.PIECE) if chunked else self.PIECE
        self._transport = transport
        self._paused = False
        transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        global_reactor().callLater(0, self._write)

    def stopProducing(self) -> None:
        self.stopped = True

    def _write(self) -> None:
        if not self._paused and not self.stopped:
            self.written += len(self.PIECE)
            self._transport.write(self._piece)
            if not self._paused:
                global_reactor().callLater(0, self._write)


class Sockets(TestCase):
    """Each test has a proxy and an upstream of its own on the loopback interface."""

    timeout = 60

    def setUp(self) -> None:
        self.loopback = Loopback()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.loopback.stop()))

    async def replace(self, **options: Any) -> None:
        """Use a proxy with other settings."""
        await self.loopback.stop()
        self.loopback = Loopback(**options)

    async def exchange(self, line: bytes, *headers: bytes) -> tuple[Raw, Raw]:
        """Send a request without a body and return client and upstream, which has read it."""
        client = await self.loopback.send(line, *headers)
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        return client, upstream

    async def test_an_event_arrives_when_it_is_sent(self) -> None:
        """The head of a stream, then each event, reach the client while the stream is open."""
        client, upstream = await self.exchange(b"GET /mcp")
        upstream.write(OPEN_STREAM)
        head = await client.until(HEAD_END)
        self.assertIn(b"X-Accel-Buffering: no", head)
        for _ in range(3):
            upstream.write(chunk(EVENT))
            self.assertTrue(await client.until(lambda come: come.endswith(chunk(EVENT))))
            client.received = b""
        upstream.write(LAST_CHUNK)
        await client.until(LAST_CHUNK)

    async def test_an_upload_streams_before_the_answer(self) -> None:
        """The upstream has the first half before the client has sent the second."""
        client = await self.loopback.send(b"POST /mcp", b"Content-Length: 10", body=b"first")
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END + b"first")
        client.write(b"later")
        sent = await upstream.until(HEAD_END + b"firstlater")
        self.assertIn(b"Content-Length: 10\r\n", sent)
        upstream.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue((await client.until(HEAD_END)).startswith(b"HTTP/1.1 202 Accepted\r\n"))

    async def test_an_answer_passes_a_running_upload(self) -> None:
        """Full duplex: events come back while the body is still going out."""
        client = await self.loopback.send(b"POST /mcp", b"Transfer-Encoding: chunked", body=chunk(b"one"))
        upstream = await self.loopback.accept()
        await upstream.until(chunk(b"one"))
        upstream.write(OPEN_STREAM + chunk(EVENT))
        await client.until(chunk(EVENT))
        client.write(chunk(b"two") + LAST_CHUNK)
        await upstream.until(chunk(b"two") + LAST_CHUNK)
        upstream.write(LAST_CHUNK)
        await client.until(LAST_CHUNK)

    async def test_continue_comes_from_the_upstreams_connection(self) -> None:
        """The client is asked for its body once there is somebody to take it."""
        client = await self.loopback.send(b"POST /mcp", b"Content-Length: 4", b"Expect: 100-continue")
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.write(b"body")
        upstream = await self.loopback.accept()
        sent = await upstream.until(HEAD_END + b"body")
        self.assertNotIn(b"Expect", sent)
        upstream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await client.until(b"HTTP/1.1 200 OK\r\n")

    async def stalls(self, flood: Flood) -> None:
        """Wait until nothing of a flood gets through any more, and see that it was not much.

        Other requests measure the time: while twenty of them go through the proxy a flood that is not
        held back writes on. Kernels buffer a few megabytes for each of the four sockets.
        """
        still, before = 0, -1
        while still < 20:
            client, upstream = await self.exchange(b"GET /other")
            upstream.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await client.until(HEAD_END)
            still = still + 1 if flood.written == before else 0
            before = flood.written
            self.assertLess(flood.written, 64 * 2**20)

    async def test_a_slow_reader_holds_the_upstream_back(self) -> None:
        """A client that does not read costs a bounded amount of memory, however much there is to come."""
        client, upstream = await self.exchange(b"GET /mcp")
        client.transport.pauseProducing()
        upstream.write(OPEN_STREAM)
        flood = Flood(upstream.transport, chunked=True)
        await self.stalls(flood)
        held = flood.written
        client.transport.resumeProducing()
        await client.until(lambda come: len(come) > held)
        self.assertGreater(flood.written, held)
        client.abort()
        await upstream.lost

    async def test_a_slow_upstream_holds_the_client_back(self) -> None:
        """The same the other way: an upload goes as fast as the upstream takes it."""
        client = await self.loopback.send(b"POST /mcp", b"Transfer-Encoding: chunked")
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        upstream.transport.pauseProducing()
        flood = Flood(client.transport, chunked=True)
        await self.stalls(flood)
        held = flood.written
        upstream.transport.resumeProducing()
        await upstream.until(lambda come: len(come) > held)
        self.assertGreater(flood.written, held)
        client.abort()
        await upstream.lost

    async def test_a_client_that_leaves_takes_the_upstream_along(self) -> None:
        """A closed stream ends the upstream's request at once, before and after its head."""
        for answer in (b"", OPEN_STREAM):
            client, upstream = await self.exchange(b"GET /mcp")
            if answer:
                upstream.write(answer)
                await client.until(HEAD_END)
            client.abort()
            await upstream.lost.addTimeout(SOON, global_reactor())
        client = await self.loopback.send(b"POST /mcp", b"Content-Length: 10", body=b"half")
        upstream = await self.loopback.accept()
        await upstream.until(b"half")
        client.abort()
        await upstream.lost.addTimeout(SOON, global_reactor())

    async def test_a_client_that_leaves_unread(self) -> None:
        """So does one of which nothing is read at the time, since something before it is slow."""
        client = await self.loopback.send(b"POST /mcp", b"Transfer-Encoding: chunked")
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        upstream.write(OPEN_STREAM)
        await client.until(HEAD_END)
        upstream.transport.pauseProducing()
        await self.stalls(Flood(client.transport, chunked=True))
        client.abort()
        await self.forgotten()
        upstream.abort()
        for leave in ("loseConnection", "abortConnection"):
            client, upstream = await self.exchange(b"GET /mcp")
            client.write(request(b"GET /mcp") * 100)
            while all(channel._reading for channel in self.loopback.site.connections):
                await deferLater(global_reactor(), 0)
            getattr(client.transport, leave)()
            await upstream.lost.addTimeout(SOON, global_reactor())
            await self.forgotten()

    async def forgotten(self) -> None:
        """See that soon no request is under way."""
        end = global_reactor().seconds() + SOON
        while self.loopback.site.active_requests:
            self.assertLess(global_reactor().seconds(), end)
            await deferLater(global_reactor(), 0.01)

    async def test_a_truncated_answer_never_looks_whole(self) -> None:
        """If the upstream dies in mid-body the client's connection breaks, whatever the framing."""
        for head, part in (
            (OPEN_STREAM, chunk(EVENT)),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhal"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        ):
            client, upstream = await self.exchange(b"GET /mcp")
            upstream.write(head + part)
            await client.until(HEAD_END)
            upstream.abort()
            await client.lost
            self.assertNotIn(LAST_CHUNK, client.received)
            self.assertFalse(self.loopback.done[-1].finished)

    async def test_no_upstream(self) -> None:
        """502 as JSON where nobody listens, or where the upstream hangs up or speaks no HTTP."""
        for answer in (b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 000 No\r\n\r\n"):
            client = await self.loopback.send(b"POST /mcp", b"Content-Length: 2", body=b"{}")
            upstream = await self.loopback.accept()
            await upstream.until(HEAD_END + b"{}")
            upstream.write(answer)
            upstream.transport.loseConnection()
            await self.assert_gateway_error(client, 502, "bad_gateway")
        closed = global_reactor().listenTCP(0, Factory(), interface="127.0.0.1")
        port = closed.getHost().port
        await closed.stopListening()
        await self.replace(upstream_url=f"http://127.0.0.1:{port}")
        client = await self.loopback.send(b"POST /mcp", b"Content-Length: 2", body=b"{}")
        await self.assert_gateway_error(client, 502, "bad_gateway")

    async def test_a_silent_upstream(self) -> None:
        """504 as JSON where no head comes within ``upstream.responseHeaderTimeout``."""
        await self.replace(head_timeout=0.05)
        client, upstream = await self.exchange(b"GET /mcp")
        await self.assert_gateway_error(client, 504, "gateway_timeout")
        await upstream.lost

    async def test_an_upstream_that_answers_and_reads_no_more(self) -> None:
        """After the same time the client is let go, whose upload nobody takes: its answer is cut."""
        await self.replace(head_timeout=0.5)
        client = await self.loopback.send(b"POST /mcp", b"Transfer-Encoding: chunked")
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        upstream.transport.pauseProducing()
        upstream.write(OPEN_STREAM)
        await client.until(HEAD_END)
        flood = Flood(client.transport, chunked=True)
        await client.lost
        self.assertTrue(flood.stopped)
        self.assertNotIn(LAST_CHUNK, client.received)
        upstream.abort()

    async def assert_gateway_error(self, client: Raw, status: int, error: str) -> None:
        answer = await client.until(lambda come: come.endswith(b"}"))
        head, _, body = answer.partition(HEAD_END)
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertIn(b"Content-Type: application/json", head)
        document = json.loads(body)
        self.assertEqual(document["error"], error)
        self.assertEqual(document["request_id"], self.loopback.done[-1].requestId)

    async def test_answers_without_a_body(self) -> None:
        """HEAD, 204 and 304 end at their head, on both connections, which go on to the next request.

        The upstream's does not where a body was announced: one that came after all would be the next answer.
        """
        client = await self.loopback.client()
        upstream: Raw | None = None
        for line, answer in (
            (b"HEAD /mcp", b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n"),
            (b"GET /mcp", b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n"),
            (b"GET /mcp", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nDate: x\r\n\r\n"),
            (b"HEAD /mcp", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nDate: x\r\n\r\n"),
            (b"DELETE /mcp", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n\r\nok"),
        ):
            client.received = b""
            client.write(request(line))
            if upstream is None or line.startswith(b"DELETE"):
                upstream = await self.loopback.accept()
            await upstream.until(HEAD_END)
            upstream.received = b""
            upstream.write(answer)
            await client.until(lambda come, answer=answer: come == answer)
        self.assertEqual(len(self.loopback.upstreams), 2)

    async def test_nothing_is_left_for_the_collector(self) -> None:
        """What a request has made goes with it: cycles would wait, and cost an eighth of all time to find."""
        client = await self.loopback.client()
        upstream: Raw | None = None
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for line, body, answer in (
            (b"GET /mcp", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            (b"GET /mcp", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            (b"POST /mcp", b"hello", b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"),
        ):
            client.received = b""
            client.write(request(line, b"Content-Length: %d" % len(body), body=body))
            upstream = upstream or await self.loopback.accept()
            await upstream.until(b"\r\n\r\n" + body)
            upstream.received = b""
            upstream.write(answer)
            await client.until(b"ok")
            self.loopback.done.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, 0)
        gc.collect()
        left = [
            type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("mcp_oauth2_proxy")
        ]
        self.assertEqual(left, [])

    async def test_cookies_are_the_users_own(self) -> None:
        """Each Set-Cookie reaches its user, and nobody's cookie goes out with another's request."""
        client = await self.loopback.send(b"GET /mcp", subject="alice")
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        answer = (
            b"HTTP/1.1 200 OK\r\nSet-Cookie: session=alice; Path=/\r\nDate: x\r\nContent-Length: 0\r\n"
            b"set-cookie: b=2\r\n\r\n"
        )
        upstream.write(answer)
        self.assertEqual(await client.until(HEAD_END), answer)
        upstream.received = b""
        await self.loopback.send(b"GET /mcp", subject="bob")
        self.assertNotIn(b"cookie", (await upstream.until(HEAD_END)).lower())

    async def test_the_limit_of_a_body(self) -> None:
        """413 as JSON when a chunked body grows over ``server.maxBodyBytes``; upstream it has no end."""
        await self.replace(max_body_bytes=1000)
        client = await self.loopback.send(b"POST /mcp", b"Transfer-Encoding: chunked", body=chunk(b"x" * 900))
        upstream = await self.loopback.accept()
        await upstream.until(b"x" * 900)
        client.write(chunk(b"y" * 900))
        await self.assert_gateway_error(client, 413, "request_too_large")
        await upstream.lost
        self.assertNotIn(LAST_CHUNK, upstream.received)
        self.assertNotIn(b"y", upstream.received.partition(HEAD_END)[2])

    async def test_four_megabytes(self) -> None:
        """A large upload and a large answer arrive byte for byte."""
        body = bytes(range(256)) * 16384
        client = await self.loopback.send(b"POST /mcp", b"Content-Length: %d" % len(body), body=body)
        upstream = await self.loopback.accept()
        sent = await upstream.until(lambda come: come.endswith(body[-1000:]) and len(come) > len(body))
        self.assertEqual(sent.partition(HEAD_END)[2], body)
        upstream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        come = await client.until(lambda come: len(come.partition(HEAD_END)[2]) == len(body))
        self.assertEqual(come.partition(HEAD_END)[2], body)
