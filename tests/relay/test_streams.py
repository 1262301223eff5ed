"""Event streams whose token expires: none lasts much longer than what let it in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.relay.streams import LOOK_EVERY
from tests.relay.scripted import Scene, ScriptedClient, ScriptedResponse, bearer, configuration
from tests.relay.test_exchange import EVENT, SSE
from tests.support.keys import NOW

GRACE = 300.0
#: What the tokens of these tests live.
LIFE = 300.0
END = b"\r\n0\r\n\r\n"


class Expiring(SynchronousTestCase):
    """A proxy that looks at its streams, under a test's clock."""

    def setUp(self) -> None:
        self.begin(GRACE)

    def begin(self, grace: float) -> None:
        self.scene = Scene(configuration(gate={"stream_grace": grace}))
        self.scene.proxy.streams.start()

    def open(
        self, line: bytes = b"GET /mcp", *headers: bytes, issued: float = 0, **claims: object
    ) -> tuple[ScriptedClient, ScriptedResponse]:
        """Open an event stream with a token of five minutes that was issued ``issued`` seconds after NOW."""
        claims = {"iat": int(NOW + issued), "exp": int(NOW + issued + LIFE), **claims}
        client = self.scene.client()
        client.request(line, bearer(**claims), *headers)
        response = self.scene.agent.sent[-1].answer(200, SSE)
        response.send(EVENT)
        return client, response

    def assert_ended(self, client: ScriptedClient, response: ScriptedResponse) -> None:
        """It has ended cleanly, after all that came, and the upstream's side with it."""
        self.assertTrue(client.received.endswith(END), client.received)
        self.assertIn(EVENT, client.received)
        self.assertTrue(response.aborted)

    def assert_open(self, client: ScriptedClient, response: ScriptedResponse) -> None:
        self.assertFalse(client.received.endswith(END) or response.aborted)

    def test_it_ends_after_the_grace(self) -> None:
        """Five minutes after its token has expired, whether it is busy or not, whoever asked for it."""
        for line in (b"GET /mcp", b"POST /mcp"):
            client, response = self.open(line)
            self.scene.clock.advance(LIFE + GRACE - 1)
            response.send(EVENT)
            self.assert_open(client, response)
            self.scene.clock.advance(1 + LOOK_EVERY)
            self.assert_ended(client, response)
            self.assertEqual(self.scene.done[-1].notes["reason"], "stream_token_expired")
            self.begin(GRACE)

    def test_no_grace(self) -> None:
        """With 0s it ends when its token expires."""
        self.begin(0)
        client, response = self.open()
        self.scene.clock.advance(LIFE - 1)
        self.assert_open(client, response)
        self.scene.clock.advance(1 + LOOK_EVERY)
        self.assert_ended(client, response)

    def test_other_answers_come_to_their_end(self) -> None:
        """A download that takes longer than its token lives is not cut: it ends by itself."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, [(b"Content-Length", b"2")])
        self.scene.clock.advance(LIFE + GRACE + 10)
        response.send(b"ok")
        response.end()
        self.assertEqual(client.body(), b"ok")

    def test_who_listens_again(self) -> None:
        """Who comes back with a new token ends its old stream, before the server hears of the new one."""
        old = self.open(b"GET /mcp", b"Mcp-Session-Id: m1")
        self.scene.clock.advance(LIFE)
        client = self.scene.client()
        issued = int(NOW + LIFE)
        client.request(
            b"GET /mcp", bearer(iat=issued, exp=issued + 300), b"Mcp-Session-Id: m1", b"Last-Event-ID: 1"
        )
        self.assert_ended(*old)
        new = client, self.scene.agent.sent[-1].answer(200, SSE)
        self.scene.clock.advance(GRACE)
        self.assert_open(*new)

    def test_who_listens_twice(self) -> None:
        """While its token is good, the first of two streams stays: a client may have several."""
        old = self.open(b"GET /mcp", b"Mcp-Session-Id: m1")
        self.scene.clock.advance(LIFE - 1)
        self.open(b"GET /mcp", b"Mcp-Session-Id: m1", issued=LIFE - 1)
        self.assert_open(*old)

    def test_others_do_not_end_it(self) -> None:
        """Another person's, another MCP session's or an unnamed listener, and a mere POST, leave it alone."""
        old = self.open(b"GET /mcp", b"Mcp-Session-Id: m1")
        unnamed = self.open()
        self.scene.clock.advance(LIFE)
        self.open(b"GET /mcp", b"Mcp-Session-Id: m1", issued=LIFE, sub="somebody-else")
        self.open(b"GET /mcp", b"Mcp-Session-Id: m2", issued=LIFE)
        self.open(b"GET /mcp", issued=LIFE)
        self.open(b"POST /mcp", b"Mcp-Session-Id: m1", issued=LIFE)
        self.assert_open(*old)
        self.assert_open(*unnamed)

    def test_nothing_is_left(self) -> None:
        """Streams that are over are forgotten, and a stopped proxy leaves nothing on the clock."""
        client, response = self.open(b"GET /mcp", b"Mcp-Session-Id: m1")
        client.leave()
        _, response = self.open(b"GET /mcp", b"Mcp-Session-Id: m1")
        response.end()
        self.assertEqual((len(self.scene.proxy.streams), self.scene.proxy.streams._listeners), (0, {}))
        calls = len(self.scene.clock.getDelayedCalls())
        self.scene.proxy.streams.stop()
        self.assertEqual(len(self.scene.clock.getDelayedCalls()), calls - 1)
