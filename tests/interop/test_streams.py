"""Cases about streams, with a clock to turn: six silent minutes take none here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.relay.scripted import Scene, bearer

SSE = [(b"Content-Type", b"text/event-stream"), (b"Mcp-Session-Id", b"s-1")]
EVENTS = b": hello\n\nid: 7\nretry: 100\ndata:\ndata: x\n\n"


class Streams(SynchronousTestCase):
    """Between a scripted client and a scripted upstream, through the product's own relay and wire."""

    def setUp(self) -> None:
        self.scene = Scene()

    def test_interop_34_a_silent_stream(self) -> None:
        """Alive after six minutes, and every byte of an event as it was sent."""
        client, sent = self.scene.relayed(b"GET /mcp")
        response = sent.answer(200, SSE)
        response.send(EVENTS)
        before = client.received
        self.assertIn(EVENTS, before)
        self.assertEqual(client.header(b"X-Accel-Buffering"), b"no")
        for _ in range(12):
            self.scene.clock.advance(30)
        self.assertFalse(client.aborted)
        self.assertEqual(client.received, before, "nothing is added to a silent stream")
        response.send(b"data: late\n\n")
        self.assertIn(b"data: late\n\n", client.received)

    def test_interop_35_a_client_that_leaves(self) -> None:
        """The upstream is let go at once, before and after its answer has begun."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 0")
        client.leave()
        self.assertTrue(sent.cancelled)
        client, sent = self.scene.relayed(b"GET /mcp")
        response = sent.answer(200, SSE)
        client.leave()
        self.assertTrue(response.aborted)

    def test_interop_36_reconnecting(self) -> None:
        """``Last-Event-ID`` and session reach the server with the next token; the replay comes back whole."""
        client = self.scene.client()
        client.request(b"GET /mcp", bearer(jti="another"), b"Last-Event-ID: 7", b"Mcp-Session-Id: s-1")
        sent = self.scene.agent.sent[-1]
        headers = {name.lower(): value for name, value in sent.pairs}
        self.assertEqual((headers[b"last-event-id"], headers[b"mcp-session-id"]), (b"7", b"s-1"))
        sent.answer(200, SSE).send(EVENTS * 3)
        self.assertIn(EVENTS * 3, client.received)
