"""A session ends while its requests are under way."""

from __future__ import annotations

import json
import time

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mcp_oauth2_proxy.gate.endings import Ending
from tests.relay.loopback import Loopback, Raw
from tests.relay.scripted import Scene, ScriptedClient, bearer
from tests.relay.test_exchange import EVENT, SSE
from tests.relay.test_loopback import HEAD_END, LAST_CHUNK, OPEN_STREAM, Flood, chunk
from tests.support.keys import NOW


class Ended(SynchronousTestCase):
    """What each kind of request hears."""

    def setUp(self) -> None:
        self.scene = Scene()

    def end(self, session: str = "f2a7") -> None:
        """End the session that the tokens of these tests belong to."""
        self.scene.endings.add(Ending(session=session, at=NOW), NOW)
        self.scene.proxy.end_ended()
        self.scene.clock.advance(0)

    def assert_challenged(self, client: ScriptedClient) -> None:
        """The client hears that its token is worth nothing, and where to get another."""
        self.assertEqual(client.head()[0], 401)
        challenge = client.header(b"WWW-Authenticate") or b""
        self.assertIn(b'error="invalid_token"', challenge)
        self.assertIn(b"/.well-known/oauth-protected-resource/mcp", challenge)
        self.assertEqual(json.loads(client.body())["error"], "invalid_token")

    def test_the_next_request(self) -> None:
        """401 with the challenge; the upstream does not see it."""
        self.end()
        client = self.scene.client()
        client.request(b"GET /mcp", bearer())
        self.assert_challenged(client)
        self.assertEqual(self.scene.agent.sent, [])
        self.assertEqual(self.scene.done[0].notes["reason"], "token_session_ended")

    def test_an_event_stream(self) -> None:
        """It ends cleanly after what has been sent, the listening one and the answer to a call alike."""
        for line in (b"GET /mcp", b"POST /mcp"):
            self.setUp()
            client, sent = self.scene.relayed(line)
            response = sent.answer(200, SSE)
            response.send(EVENT)
            self.end()
            self.assertTrue(client.received.endswith(b"\r\n0\r\n\r\n"), client.received)
            self.assertTrue(response.aborted)
            response.send(EVENT)
            self.assertEqual(client.received.count(EVENT), 1)
            self.assertEqual(self.scene.done[0].notes["reason"], "token_session_ended")

    def test_a_request_that_waits_for_its_answer(self) -> None:
        """401 in place of the answer, and the upstream's work is given up."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 2", body=b"{}")
        self.end()
        self.assertTrue(sent.cancelled)
        self.assert_challenged(client)

    def test_an_upload(self) -> None:
        """A request whose body is still coming is answered 401 too."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 10", body=b"{}")
        self.end()
        self.assertTrue(sent.cancelled)
        self.assert_challenged(client)

    def test_another_answer_under_way(self) -> None:
        """It is cut, so that nobody takes it for whole."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, [(b"Content-Type", b"application/json")])
        response.send(b"[1,")
        self.end()
        self.assertTrue(client.aborted)
        self.assertTrue(response.aborted)
        self.assertNotIn(b"\r\n0\r\n\r\n", client.received)

    def test_others_go_on(self) -> None:
        """Another session's stream stays, and one whose token says nothing."""
        mine, theirs = self.scene.relayed()[1], []
        mine.answer(200, SSE)
        for claims in ({"sid": "another"}, {"sid": None, "sub": None}):
            client = self.scene.client()
            client.request(b"GET /mcp", bearer(**claims))
            theirs.append((client, self.scene.agent.sent[-1].answer(200, SSE)))
        self.end()
        for client, response in theirs:
            self.assertFalse(response.aborted)
            response.send(EVENT)
            self.assertIn(EVENT, client.received)

    def test_nothing_is_left(self) -> None:
        """What has ended is not held in memory, and ends no second time."""
        self.test_an_event_stream()
        self.assertEqual(self.scene.proxy._under_way, set())
        self.end("another")


class OnSockets(TestCase):
    """The same with a client, a proxy and an upstream that are really connected."""

    timeout = 60

    def setUp(self) -> None:
        self.loopback = Loopback()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.loopback.stop()))

    def end(self) -> None:
        """End all that the person of these tests has under way."""
        self.loopback.endings.add(Ending(subject="alice", at=time.time() + 1), time.time())
        self.loopback.proxy.end_ended()

    async def exchange(self, line: bytes, *headers: bytes, body: bytes = b"") -> tuple[Raw, Raw]:
        client = await self.loopback.send(line, *headers, body=body)
        upstream = await self.loopback.accept()
        await upstream.until(HEAD_END)
        return client, upstream

    async def test_waiting_and_uploading(self) -> None:
        """Both are told 401, and the upstream is hung up on."""
        for length in (b"2", b"1000000"):
            client, upstream = await self.exchange(b"POST /mcp", b"Content-Length: " + length, body=b"{}")
            self.end()
            answer = await client.until(b'"invalid_token"')
            self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)
            await upstream.lost
            self.loopback.endings.moments.clear()

    async def test_a_stream(self) -> None:
        """It ends with its last chunk, and the upstream is hung up on."""
        client, upstream = await self.exchange(b"GET /mcp")
        upstream.write(OPEN_STREAM + chunk(EVENT))
        await client.until(EVENT)
        self.end()
        await client.until(LAST_CHUNK)
        await upstream.lost

    async def test_a_stream_that_nobody_reads(self) -> None:
        """The upstream is hung up on at once, however long the client sleeps."""
        client, upstream = await self.exchange(b"GET /mcp")
        upstream.write(OPEN_STREAM)
        await client.until(HEAD_END)
        client.transport.pauseProducing()
        Flood(upstream.transport, chunked=True)
        self.end()
        await upstream.lost

    async def test_another_answer(self) -> None:
        """It is cut in the middle: both connections close."""
        client, upstream = await self.exchange(b"GET /mcp")
        upstream.write(OPEN_STREAM.replace(b"text/event-stream", b"application/json") + chunk(b"[1,"))
        await client.until(b"[1,")
        self.end()
        await client.lost
        await upstream.lost
        self.assertNotIn(LAST_CHUNK, client.received)
