"""What the log says of relayed requests, and what it never does."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from mcp_oauth2_proxy.ops.logs import log_observer
from mcp_oauth2_proxy.wire.errors import UpstreamGone
from tests.relay.scripted import Scene, Sink, bearer, configuration
from tests.support.keys import CLIENT_ID, NOW, access_claims, make_token, rsa_key

PLANTED = ("pl4nted-query", "pl4nted-header", "pl4nted-body", "pl4nted-answer", "pl4nted-cookie")


class Logs(SynchronousTestCase):
    """Everything that is written while requests pass, at the most talkative level."""

    def setUp(self) -> None:
        self.stream = StringIO()
        observer = log_observer("DEBUG", "json", self.stream)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self, message: str) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [record for record in records if record["message"] == message]

    def test_one_line_a_request(self) -> None:
        """Method, path without query, status, bytes, times, address, subject, client and request id."""
        scene = Scene()
        _, sent = scene.relayed(b"GET /mcp?code=1")
        scene.clock.advance(0.5)
        response = sent.answer(200, [(b"Content-Length", b"4")])
        response.send(b"body")
        scene.clock.advance(0.25)
        response.end()
        (record,) = self.lines("request")
        record.pop("ts")
        self.assertEqual(
            record,
            {
                "level": "INFO",
                "message": "request",
                "method": "GET",
                "path": "/mcp",
                "status": 200,
                "bytes": 4,
                "duration_ms": 750.0,
                "upstream_ms": 500.0,
                "address": "203.0.113.7",
                "subject": access_claims()["sub"],
                "client": CLIENT_ID,
                "request_id": scene.done[0].requestId,
            },
        )

    def test_a_refusal_says_why(self) -> None:
        """The access line has the reason code, a line of its own what was expected and what came."""
        scene = Scene()
        scene.client().request(b"GET /mcp", bearer(iss="https://other.example"))
        (record,) = self.lines("request")
        self.assertEqual((record["status"], record["reason"]), (401, "token_issuer"))
        (record,) = self.lines("refused a token")
        self.assertEqual(record["reason"], "token_issuer")
        self.assertIn("https://other.example", record["detail"])
        self.assertEqual(record["request_id"], scene.done[0].requestId)

    def test_a_cut_answer_is_marked(self) -> None:
        """Truncated answers and clients that left do not read like whole exchanges."""
        scene = Scene()
        _, sent = scene.relayed()
        sent.answer(200).end(UpstreamGone("reset"))
        client, _ = scene.relayed()
        client.leave()
        truncated, left = self.lines("request")
        self.assertEqual((truncated["aborted"], truncated["reason"]), (True, "upstream_truncated"))
        self.assertIs(left["aborted"], True)

    def test_no_secret_in_any_line(self) -> None:
        """Tokens, queries, headers, cookies and bodies stay out of every line, whatever goes wrong."""
        mutations = (Mutation(Action.ADD, "X-Token", value_from=ValueFrom(authorization_header=True)),)
        scene = Scene(configuration(mutations=mutations))
        target = f"/mcp?token={PLANTED[0]}&code={PLANTED[0]}&state={PLANTED[0]}".encode()
        headers = [b"X-Secret: " + PLANTED[1].encode(), b"Cookie: session=" + PLANTED[4].encode()]
        tokens = [
            make_token(access_claims()),
            make_token(access_claims(exp=NOW - 999)),
            make_token(access_claims(), rsa_key("unknown")),
            make_token(access_claims()) + "x",
            "pl4nted-opaque",
        ]
        for token in tokens:
            for problem in (None, ConnectionRefusedError(), UpstreamGone("x")):
                client = scene.client()
                authorization = b"Authorization: Bearer " + token.encode()
                before = len(scene.agent.sent)
                body = PLANTED[2].encode()
                client.request(
                    b"POST " + target, authorization, *headers, b"Content-Length: %d" % len(body), body=body
                )
                for fetch in scene.realm.fetches:
                    if not fetch.called:
                        fetch.errback(RuntimeError(f"Bearer {token}"))
                if len(scene.agent.sent) == before:
                    continue
                sent = scene.agent.sent[-1]
                sent.take_body(Sink())
                if problem is not None:
                    sent.fail(problem)
                    continue
                response = sent.answer(200, [(b"Set-Cookie", b"a=" + PLANTED[4].encode())])
                response.send(PLANTED[3].encode())
                response.end()
        output = self.stream.getvalue()
        self.assertEqual(len(self.lines("request")), 15)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)
        for secret in (*PLANTED, *tokens, *(token.rpartition(".")[2] for token in tokens[:4])):
            self.assertNotIn(secret, output)
