"""Requests and answers on their way through: nothing lost, nothing held, nothing made up."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import PotentialDataLoss

from mcp_oauth2_proxy.wire.channel import MAX_DRAINED
from mcp_oauth2_proxy.wire.errors import MalformedResponse, ResponseHeadTimeout, UpstreamGone
from tests.relay.scripted import Scene, Sink, bearer, configuration

EVENT = b"id: 1\nretry: 100\ndata:\ndata: x\n\n: comment\n\n"
SSE = [(b"Content-Type", b"text/event-stream; charset=utf-8")]


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


class Answers(SynchronousTestCase):
    """From the upstream to the client."""

    def setUp(self) -> None:
        self.scene = Scene()

    def test_status_headers_and_body_are_the_upstreams(self) -> None:
        """The client sees the upstream's lines, in order, duplicates and reason phrase included."""
        client, sent = self.scene.relayed()
        pairs = [
            (b"server", b"uvicorn"),
            (b"Set-Cookie", b"a=1"),
            (b"Content-Length", b"4"),
            (b"date", b"Mon, 23 Nov 2026 00:00:00 GMT"),
            (b"set-cookie", b"b=2"),
            (b"Connection", b"keep-alive, X-Hop"),
            (b"X-Hop", b"1"),
        ]
        response = sent.answer(404, pairs, b"Nothing Here")
        response.send(b"body")
        response.end()
        self.assertTrue(client.received.startswith(b"HTTP/1.1 404 Nothing Here\r\n"))
        self.assertEqual(client.head()[1], pairs[:5])
        self.assertEqual(client.body(), b"body")

    def test_one_policy_for_scripts(self) -> None:
        """A page's script reads the answer by this proxy's policy, and there is no second one."""
        theirs = (b"Access-Control-Allow-Origin", b"https://other.example")
        length = (b"Content-Length", b"0")
        for headers, expected in (
            ((b"Origin: https://app.example",), [b"*"]),
            ((), [b"https://other.example"]),
        ):
            client, sent = self.scene.relayed(b"GET /mcp", *headers)
            sent.answer(200, [theirs, (b"access-control-allow-credentials", b"true"), length]).end()
            pairs = client.head()[1]
            allowed = [value for name, value in pairs if name.lower() == b"access-control-allow-origin"]
            self.assertEqual(allowed, expected)
            if headers:
                names = {name.lower() for name, _ in pairs}
                self.assertNotIn(b"access-control-allow-credentials", names)
                self.assertIn(b"access-control-expose-headers", names)

    def test_a_body_of_unknown_length(self) -> None:
        """Each piece goes out as it comes, and the end is an end."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, [(b"Content-Type", b"text/plain")])
        response.send(b"one")
        self.assertEqual(client.body(), chunked(b"one"))
        response.send(b"two")
        response.end()
        self.assertEqual(client.body(), chunked(b"one", b"two") + b"0\r\n\r\n")

    def test_an_http_1_0_body_ends_with_its_connection(self) -> None:
        """An answer framed by its end is as whole as it can be."""
        client, sent = self.scene.relayed()
        response = sent.answer(200)
        response.send(b"old")
        response.end(PotentialDataLoss())
        self.assertEqual(client.body(), chunked(b"old") + b"0\r\n\r\n")

    def test_no_body_where_there_is_none(self) -> None:
        """HEAD, 204 and 304 carry their headers and nothing after them."""
        for line, code, pairs in (
            (b"HEAD /mcp", 200, [(b"Content-Length", b"1234")]),
            (b"GET /mcp", 204, []),
            (b"GET /mcp", 304, [(b"ETag", b'"x"')]),
        ):
            client, sent = self.scene.relayed(line)
            sent.answer(code, pairs).end()
            self.assertEqual(client.head_without_date(), (code, pairs))
            self.assertEqual(client.body(), b"")

    def test_the_connection_serves_the_next_request(self) -> None:
        """After a relayed answer the client's connection goes on."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, [(b"Content-Length", b"2")])
        response.send(b"ok")
        response.end()
        client.transport.clear()
        client.request(b"GET /mcp", bearer())
        self.scene.agent.sent[-1].answer(204)
        self.assertEqual(client.head()[0], 204)

    def test_the_head_of_an_event_stream_does_not_wait(self) -> None:
        """A client sees that its stream is open before the first event."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, SSE)
        self.assertEqual(client.head()[0], 200)
        self.assertEqual(client.header(b"Content-Type"), SSE[0][1])
        self.assertEqual(client.header(b"X-Accel-Buffering"), b"no")
        self.assertEqual(client.body(), b"")
        response.send(EVENT)
        self.assertEqual(client.body(), chunked(EVENT))

    def test_other_answers_say_nothing_of_buffering(self) -> None:
        """Only event streams get the header, once, whatever the upstream says."""
        client, sent = self.scene.relayed()
        sent.answer(204, [(b"Content-Type", b"application/json")])
        self.assertIsNone(client.header(b"X-Accel-Buffering"))
        client, sent = self.scene.relayed()
        sent.answer(200, [*SSE, (b"x-accel-buffering", b"yes")])
        self.assertEqual(client.header(b"X-Accel-Buffering"), b"no")

    def test_a_truncated_answer_never_looks_whole(self) -> None:
        """If the upstream dies in mid-body, the client's connection dies with it."""
        for pairs in ([], [(b"Content-Length", b"10")], SSE):
            client, sent = self.scene.relayed()
            response = sent.answer(200, pairs)
            response.send(b"half")
            response.end(UpstreamGone("reset"))
            self.assertTrue(client.aborted)
            self.assertNotIn(b"0\r\n\r\n", client.body())
            self.assertEqual(self.scene.done[-1].notes["reason"], "upstream_truncated")

    def test_a_slow_reader_holds_the_upstream_back(self) -> None:
        """When the client's socket is full, the upstream's is not read."""
        client, sent = self.scene.relayed()
        response = sent.answer(200)
        client.transport.producer.pauseProducing()
        self.assertTrue(response.transport.paused)
        client.transport.producer.resumeProducing()
        self.assertFalse(response.transport.paused)

    def test_a_client_that_leaves_ends_the_upstreams_answer(self) -> None:
        """A closed stream cancels: the upstream's connection is dropped at once."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, SSE)
        client.leave()
        self.assertTrue(response.aborted)
        response.send(EVENT)
        response.end(UpstreamGone("aborted"))
        self.assertEqual(len(self.scene.done), 1)

    def test_a_client_that_leaves_before_the_answer(self) -> None:
        """Nobody waits for an answer that nobody will read."""
        client, sent = self.scene.relayed()
        client.leave()
        self.assertTrue(sent.cancelled)
        self.assertEqual(len(self.scene.done), 1)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=6))
    def test_every_byte_in_order(self, pieces: list[bytes]) -> None:
        """However a body is cut into pieces, the client gets it byte for byte."""
        client, sent = self.scene.relayed()
        response = sent.answer(200)
        for piece in pieces:
            response.send(piece)
        response.end()
        self.assertEqual(client.body(), chunked(*pieces) + b"0\r\n\r\n")


class Failures(SynchronousTestCase):
    """When the upstream does not answer."""

    def setUp(self) -> None:
        self.scene = Scene()

    def test_bad_gateway(self) -> None:
        """502 with an id to look for in the log, and nothing about the upstream."""
        for error in (ConnectionRefusedError("10.0.0.9"), MalformedResponse("x"), UpstreamGone("x")):
            client, sent = self.scene.relayed()
            sent.fail(error)
            self.assertEqual(client.head()[0], 502)
            document = json.loads(client.body())
            self.assertEqual(document["error"], "bad_gateway")
            self.assertEqual(document["request_id"], self.scene.done[-1].requestId)
            self.assertNotIn(b"10.0.0.9", client.received)

    def test_gateway_timeout(self) -> None:
        """504 where the upstream has taken the request and said nothing."""
        client, sent = self.scene.relayed()
        sent.fail(ResponseHeadTimeout("300 s"))
        self.assertEqual(client.head()[0], 504)
        self.assertEqual(json.loads(client.body())["error"], "gateway_timeout")

    def test_the_upstream_wants_another_token(self) -> None:
        """Its 401 and 403 carry this proxy's challenge with the upstream's meaning, and its own body."""
        for code in (401, 403):
            client, sent = self.scene.relayed()
            response = sent.answer(
                code,
                [
                    (b"WWW-Authenticate", b'Bearer realm="up", error="insufficient_scope", scope="a b"'),
                    (b"WWW-Authenticate", b"Basic"),
                    (b"Content-Length", b"2"),
                ],
            )
            response.send(b"{}")
            response.end()
            self.assertEqual((client.head()[0], client.body()), (code, b"{}"))
            challenge = client.header(b"WWW-Authenticate") or b""
            self.assertIn(b"oauth-protected-resource/mcp", challenge)
            self.assertIn(b'error="insufficient_scope"', challenge)
            self.assertIn(b'scope="a b"', challenge)
            self.assertNotIn(b"realm", challenge)

    def test_other_errors_are_the_upstreams(self) -> None:
        """400, 404 and 405 keep status, headers and body: clients read the protocol's era from them."""
        for code in (400, 404, 405, 500):
            client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 0")
            pairs = [(b"Content-Type", b"application/json"), (b"Content-Length", b"14")]
            response = sent.answer(code, pairs)
            response.send(b'{"error":"-1"}')
            response.end()
            self.assertEqual(client.head_without_date(), (code, pairs))
            self.assertEqual(client.body(), b'{"error":"-1"}')


class Uploads(SynchronousTestCase):
    """From the client to the upstream."""

    def setUp(self) -> None:
        self.scene = Scene()
        self.sink = Sink()

    def test_a_body_streams(self) -> None:
        """Each piece goes on as it comes; the length is the client's."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 6", body=b"one")
        self.assertEqual(sent.body.length, 6)
        sent.take_body(self.sink)
        self.assertEqual(self.sink.received, b"one")
        client.send(b"two")
        self.assertEqual(self.sink.received, b"onetwo")
        assert sent.uploaded is not None
        self.assertIsNone(self.successResultOf(sent.uploaded))

    def test_a_chunked_body_streams(self) -> None:
        """A body of unknown length does too, without its framing."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Transfer-Encoding: chunked", body=b"3\r\none\r\n")
        sent.take_body(self.sink)
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        self.assertEqual(self.sink.received, b"onetwo")
        assert sent.uploaded is not None
        self.assertIsNone(self.successResultOf(sent.uploaded))

    def test_a_body_that_is_not_to_be_had(self) -> None:
        """Broken chunks are 400 and a stalled body 408, then the connection ends; the upload is cut."""
        for status, more, seconds in ((400, b"zz\r\n", 0), (408, b"3\r\none", 31)):
            client, sent = self.scene.relayed(b"POST /mcp", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n")
            sent.take_body(self.sink)
            client.send(more)
            client.clock.advance(seconds)
            self.assertEqual(client.head()[0], status)
            self.assertEqual(client.header(b"Connection"), b"close")
            self.assertEqual(self.scene.done[-1].notes["reason"], "request_body_incomplete")
            assert sent.uploaded is not None
            self.assertEqual(sent.uploaded.called, True)

    def test_a_body_that_is_too_large_ends_its_connection(self) -> None:
        """It might be without end, and nobody wants the rest."""
        scene = Scene(configuration(server={"max_body_bytes": 4}))
        client, sent = scene.relayed(b"POST /mcp", b"Transfer-Encoding: chunked", body=b"2\r\nxx\r\n")
        sent.take_body(self.sink)
        client.send(b"3\r\nxxx\r\n")
        self.assertEqual((client.head()[0], client.header(b"Connection")), (413, b"close"))

    def test_continue_is_said_when_the_upstream_is_there(self) -> None:
        """100 Continue means that somebody takes the body."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 3", b"Expect: 100-continue")
        self.assertEqual(client.received, b"")
        self.assertIsNone(sent.value(b"Expect"))
        sent.take_body(self.sink)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))

    def test_a_slow_upstream_holds_the_client_back(self) -> None:
        """When the upstream's socket is full, the client's is not read."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 6", body=b"one")
        sent.take_body(self.sink)
        sent.body.pauseProducing()
        self.assertEqual(client.transport.producerState, "paused")
        sent.body.resumeProducing()
        self.assertEqual(client.transport.producerState, "producing")

    def test_an_early_answer_passes_a_running_upload(self) -> None:
        """The client hears the answer while it is still sending."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 6", body=b"one")
        sent.take_body(self.sink)
        response = sent.answer(200, SSE)
        response.send(EVENT)
        self.assertEqual(client.body(), chunked(EVENT))
        client.send(b"two")
        self.assertEqual(self.sink.received, b"onetwo")

    def test_an_upstream_that_wants_no_more(self) -> None:
        """What the upstream has refused is not piled up, and the client gets its answer."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 6", body=b"one")
        sent.take_body(self.sink)
        sent.body.stopProducing()
        client.send(b"two")
        self.assertEqual(self.sink.received, b"one")
        response = sent.answer(413, [(b"Content-Length", b"2")])
        response.send(b"no")
        response.end()
        self.assertEqual((client.head()[0], client.body()), (413, b"no"))

    def test_the_rest_of_a_body(self) -> None:
        """Of a body that nobody wants any more a little is dropped; for more its connection ends."""
        over = b"x" * (MAX_DRAINED + 1)
        for framing, goes_on in (
            (b"Content-Length: 1000", True),
            (b"Content-Length: 1000000", False),
            (b"Transfer-Encoding: chunked", False),
        ):
            for begun in (True, False):
                client, sent = self.scene.relayed(b"POST /mcp", framing, body=b"fffff\r\none")
                sent.take_body(self.sink)
                if begun:
                    response = sent.answer(200, SSE)
                    response.send(EVENT)
                sent.body.stopProducing()
                if not begun:
                    response = sent.answer(200, SSE)
                response.end()
                self.assertEqual(client.body()[-5:], b"0\r\n\r\n")
                said = None if goes_on or begun else b"close"
                self.assertEqual(client.header(b"Connection"), said, (framing, begun))
                self.assertEqual(client.transport.disconnecting, said is not None)
                if begun and not goes_on:
                    client.send(over[:-1])
                    self.assertFalse(client.transport.disconnecting)
                    client.send(b"x")
                    self.assertTrue(client.transport.disconnecting)
                elif goes_on:
                    client.send(over[: 1000 - len(b"fffff\r\none")])
                    client.request(b"GET /mcp")
                    self.assertIn(b"HTTP/1.1 401 ", client.received)

    def test_the_rest_of_a_body_of_a_stream_that_ends_here(self) -> None:
        """It is the same where it is the proxy that ends the answer."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Transfer-Encoding: chunked", body=b"fffff\r\none")
        sent.take_body(self.sink)
        sent.answer(200, SSE)
        (exchange,) = self.scene.proxy._under_way
        exchange.end()
        sent.body.stopProducing()
        client.send(b"x" * (MAX_DRAINED + 1))
        self.assertTrue(client.transport.disconnecting)

    def test_a_client_that_leaves_in_mid_upload(self) -> None:
        """The upstream's connection is dropped: half a body must not look like a whole one."""
        client, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 6", body=b"one")
        sent.take_body(self.sink)
        client.leave()
        self.assertTrue(sent.cancelled or (sent.uploaded is not None and sent.body.failure is not None))
        self.assertEqual(len(self.scene.done), 1)

    def test_limits(self) -> None:
        """A body over ``server.maxBodyBytes`` is 413 JSON, whether it says so or not."""
        self.scene = Scene(configuration(server={"max_body_bytes": 10}))
        client = self.scene.client()
        client.request(b"POST /mcp", bearer(), b"Content-Length: 11", b"Expect: 100-continue")
        self.assertEqual((client.head()[0], self.scene.agent.sent), (413, []))
        self.assertEqual(json.loads(client.body())["error"], "request_too_large")

        client, sent = self.scene.relayed(
            b"POST /mcp", b"Transfer-Encoding: chunked", body=b"8\r\nxxxxxxxx\r\n"
        )
        sent.take_body(self.sink)
        client.send(b"8\r\nxxxxxxxx\r\n")
        self.assertEqual(client.head()[0], 413)
        self.assertEqual(self.sink.received, b"x" * 8)

    def test_at_the_limit(self) -> None:
        """The limit itself is allowed."""
        self.scene = Scene(configuration(server={"max_body_bytes": 10}))
        _, sent = self.scene.relayed(b"POST /mcp", b"Content-Length: 10", body=b"x" * 10)
        sent.take_body(self.sink)
        self.assertEqual(self.sink.received, b"x" * 10)


class Draining(SynchronousTestCase):
    """Event streams when the process stops."""

    def setUp(self) -> None:
        self.scene = Scene()

    def test_a_quiet_listening_stream_ends_cleanly(self) -> None:
        """Its client sees a whole answer, connects again, and the upstream is let go."""
        client, sent = self.scene.relayed()
        response = sent.answer(200, SSE)
        response.send(EVENT)
        self.scene.proxy.streams.end_idle()
        self.assertFalse(response.aborted)
        self.scene.clock.advance(1.0)
        self.scene.proxy.streams.end_idle()
        self.assertTrue(response.aborted)
        self.assertEqual(client.body(), chunked(EVENT) + b"0\r\n\r\n")
        self.assertFalse(client.aborted)
        response.send(EVENT)
        response.end(UpstreamGone("aborted"))
        self.assertEqual(len(self.scene.done), 1)

    def test_an_answer_under_way_is_not_ended(self) -> None:
        """A stream that answers a POST, and an answer that is no stream, run on."""
        for line, pairs in ((b"POST /mcp", SSE), (b"GET /mcp", [])):
            client, sent = self.scene.relayed(line)
            response = sent.answer(200, pairs)
            self.scene.clock.advance(60)
            self.scene.proxy.streams.end_idle()
            self.assertFalse(response.aborted)
            response.end()
            self.assertEqual(client.body(), b"0\r\n\r\n")

    def test_streams_that_are_over_are_forgotten(self) -> None:
        """A stream that has ended by itself is not ended again."""
        _, sent = self.scene.relayed()
        sent.answer(200, SSE).end()
        client, sent = self.scene.relayed()
        sent.answer(200, SSE)
        client.leave()
        self.scene.clock.advance(60)
        self.scene.proxy.streams.end_idle()
        self.assertEqual(self.scene.proxy._under_way, set())
