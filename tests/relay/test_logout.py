"""A session ends while its requests are under way."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.endings import Ending
from tests.relay.scripted import Scene, ScriptedClient, bearer
from tests.relay.test_exchange import EVENT, SSE
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
