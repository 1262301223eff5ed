"""Requests that repeat the head of the one before: what was made of it is used again, and nothing more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.relay.streams import LOOK_EVERY
from tests.relay.scripted import Scene, ScriptedClient, bearer, configuration
from tests.smuggling.memory import MemoryProxy
from tests.smuggling.upstream import Answer
from tests.support.keys import NOW
from tests.wire.transport import Wire

OK = [(b"Content-Length", b"2")]
ORIGIN = "https://app.example"
_TOKEN = bearer()


class Repeated(SynchronousTestCase):
    """A client that says the same again and again on one connection."""

    def setUp(self) -> None:
        mutations = (
            Mutation(Action.SET_X_FORWARDED),
            Mutation(Action.ADD, "X-Query", value_from=ValueFrom(query_parameter="q")),
            Mutation(Action.ADD, "X-User", value_from=ValueFrom(claim="sub")),
        )
        self.scene = Scene(configuration(mutations=mutations))

    def ask(self, client: ScriptedClient, *lines: bytes, target: bytes = b"/mcp?q=1") -> None:
        """Send a request, and let the upstream answer it if it gets it."""
        before = len(self.scene.agent.sent)
        client.request(b"GET " + target, *lines)
        if len(self.scene.agent.sent) > before:
            response = self.scene.agent.sent[-1].answer(200, OK)
            response.send(b"ok")
            response.end()

    def test_the_upstream_gets_the_same(self) -> None:
        """Every one of them arrives as the first did, and is answered."""
        client = self.scene.client()
        for _ in range(4):
            self.ask(client, bearer())
        sent = [(one.uri, one.pairs) for one in self.scene.agent.sent]
        self.assertEqual(sent, sent[:1] * 4)
        self.assertEqual(client.received.count(b"\r\n\r\nok"), 4)

    def test_others_in_between(self) -> None:
        """Another target, token or peer is another request, whatever was asked before."""
        client, other = self.scene.client(), self.scene.client("203.0.113.9")
        alice, bob = bearer(sub="alice"), bearer(sub="bob")
        for one in (client, other):
            for line in (alice, alice, bob, alice, bob, bob):
                self.ask(one, line)
                self.ask(one, line, target=b"/mcp?q=2")
        sent = self.scene.agent.sent
        self.assertEqual(len(sent), 24)
        users = [b"alice", b"alice", b"bob", b"alice", b"bob", b"bob"] * 2
        self.assertEqual([one.value(b"X-User") for one in sent[::2]], users)
        self.assertEqual([one.value(b"X-User") for one in sent[1::2]], users)
        self.assertEqual([one.value(b"X-Query") for one in sent], [b"1", b"2"] * 12)
        peers = [one.value(b"X-Forwarded-For") for one in sent]
        self.assertEqual(peers, [b"203.0.113.7"] * 12 + [b"203.0.113.9"] * 12)

    def test_a_rule_that_reads_the_length(self) -> None:
        """The operator's rule sees each request's own."""
        read = Mutation(Action.ADD, "X-Length", value_from=ValueFrom(request_header="Content-Length"))
        self.scene = Scene(configuration(mutations=(read,)))
        client = self.scene.client()
        for body in (b"{}", b"{ }", b"{  }", b"{}"):
            client.request(b"POST /mcp", bearer(), b"Content-Length: %d" % len(body), body=body)
            self.scene.agent.sent[-1].answer(200, [(b"Content-Length", b"0")]).end()
        self.assertEqual([one.value(b"X-Length") for one in self.scene.agent.sent], [b"2", b"3", b"4", b"2"])

    def test_a_token_that_ends(self) -> None:
        """The gate judges each of them: an expired token is refused, as good as it was a moment ago."""
        client = self.scene.client()
        soon_over = bearer(exp=NOW + 60)
        for _ in range(3):
            self.ask(client, soon_over)
        self.scene.clock.advance(61)
        self.ask(client, soon_over)
        self.assertEqual(len(self.scene.agent.sent), 3)
        self.assertEqual(self.scene.done[-1].code, 401)

    def test_a_key_that_is_withdrawn(self) -> None:
        """So is a token whose key the realm has taken back."""
        client = self.scene.client()
        for _ in range(3):
            self.ask(client, bearer())
        self.scene.realm.keys = KeySet()
        self.ask(client, bearer())
        self.assertEqual((len(self.scene.agent.sent), len(self.scene.realm.fetches)), (3, 1))

    def test_a_stream_keeps_nothing(self) -> None:
        """An open event stream holds no head in memory for a request that may never come, and no token."""
        client = self.scene.client()
        for _ in range(2):
            self.ask(client, bearer())
        client.request(b"GET /mcp?q=1", bearer())
        parser = client.protocol._parser
        self.assertIsNotNone(parser._last_head)
        self.scene.agent.sent[-1].answer(200, [(b"Content-Type", b"text/event-stream")])
        self.assertIsNone(parser._last_head)
        request = parser._events._current
        self.assertIsNone(request.first(b"authorization"))
        self.assertFalse(request.requestHeaders.hasHeader(b"authorization"))
        self.assertEqual(request.first(b"host"), b"mcp.example")

    def test_a_stream_that_lasts(self) -> None:
        """So does one that answers a call, once it has been open for a moment."""
        client = self.scene.client()
        self.scene.proxy.streams.start()
        client.request(b"POST /mcp", bearer(), b"Content-Length: 2", body=b"{}")
        self.scene.agent.sent[-1].answer(200, [(b"Content-Type", b"text/event-stream")])
        parser = client.protocol._parser
        request = parser._events._current
        self.assertIsNotNone(parser._last_head)
        self.scene.clock.advance(LOOK_EVERY)
        self.assertIsNone(parser._last_head)
        self.assertIsNone(request.first(b"authorization"))
        self.scene.proxy.streams.stop()


#: Calls as they differ: body, answer, its status, date and type, and the page that asks. Most repeat much.
CALLS = st.tuples(
    st.sampled_from([b"{}", b"{ }", b"[1, 2]"]),
    st.sampled_from([b"", b"[]", b"[ ]", b"[1, 2, 3]"]),
    st.sampled_from([b"200 OK"] * 7 + [b"401 Unauthorized", b"204 No Content", b"304 Not Modified"]),
    st.sampled_from([b"", *(b"Date: Mon, 02 Nov 2026 10:00:%d GMT\r\n" % second for second in (10, 11))]),
    st.sampled_from([b"application/json"] * 3 + [b"text/event-stream"]),
    st.sampled_from([b""] * 3 + [b"Origin: %b\r\n" % ORIGIN.encode()]),
)


class BothEnds(SynchronousTestCase):
    """Calls on one connection, relayed on one connection, of which each repeats some of the one before."""

    @settings(deadline=None)
    @given(st.lists(CALLS, min_size=2, max_size=8))
    def test_as_if_alone(self, calls: list[tuple[bytes, ...]]) -> None:
        """Each is relayed and answered as the only one is."""
        together = MemoryProxy(cors_origins=(ORIGIN,))
        client = together.client()
        for call in calls:
            alone = MemoryProxy(cors_origins=(ORIGIN,))
            expected = self.call(alone, alone.client(), *call)
            self.assertEqual(self.call(together, client, *call), expected)
            self.assertEqual(together.upstream.requests[-1].headers, alone.upstream.requests[-1].headers)
            if client.over:
                client = together.client()

    def call(self, proxy: MemoryProxy, client: Wire, *call: bytes) -> tuple[bytes, bytes]:
        """Return what came of a call: its body at the upstream, and the answer at the client."""
        body, answer, status, date, kind, origin = call
        framed = b"" if status[:3] in (b"204", b"304") else answer
        head = b"HTTP/1.1 %b\r\n%bContent-Type: %b\r\nContent-Length: %d\r\nServer: s\r\n\r\n"
        sent = head % (status, date, kind, len(answer)) + framed
        proxy.upstream.answer = lambda _: Answer(sent)
        before = len(client.sent)
        client.receive(
            b"POST /mcp HTTP/1.1\r\nHost: mcp.example\r\n%b\r\n%bContent-Length: %d\r\n\r\n%b"
            % (_TOKEN, origin, len(body), body)
        )
        proxy.run()
        return proxy.upstream.requests[-1].body, client.sent[before:]
