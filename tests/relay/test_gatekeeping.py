"""The gate in front of the relay: who gets through, and what everybody else hears."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from tests.relay.scripted import Scene, ScriptedClient, ScriptedRealm, bearer, configuration
from tests.support.keys import CLIENT_ID, NOW, access_claims, key_set, make_token, rsa_key

SUBJECT = access_claims()["sub"]


class Refused(SynchronousTestCase):
    """Requests that the upstream never sees."""

    def setUp(self) -> None:
        self.scene = Scene()

    def refused(self, client: ScriptedClient, status: int, error: str) -> dict[str, str]:
        self.assertEqual(client.head()[0], status)
        self.assertEqual(client.header(b"Content-Type"), b"application/json")
        self.assertEqual(client.header(b"Cache-Control"), b"no-store")
        document: dict[str, str] = json.loads(client.body())
        self.assertEqual(document["error"], error)
        self.assertEqual(document["request_id"], self.scene.done[-1].requestId)
        self.assertEqual(self.scene.agent.sent, [])
        return document

    def test_without_a_token(self) -> None:
        """401 with a challenge that points at the metadata of that very path, and no error."""
        client = self.scene.client()
        client.request(b"GET /mcp")
        self.refused(client, 401, "unauthorized")
        self.assertEqual(
            client.header(b"WWW-Authenticate"),
            b'Bearer resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"',
        )
        self.assertEqual(self.scene.done[-1].notes["reason"], "token_missing")

    def test_with_an_expired_token(self) -> None:
        """401 that says what is wrong with the token, in the header and in the body."""
        client = self.scene.client()
        client.request(b"GET /mcp", bearer(exp=NOW - 3600))
        document = self.refused(client, 401, "invalid_token")
        challenge = client.header(b"WWW-Authenticate") or b""
        self.assertIn(b'error="invalid_token"', challenge)
        self.assertIn(document["error_description"].encode(), challenge)
        self.assertEqual(self.scene.done[-1].notes["reason"], "token_expired")

    def test_without_a_required_scope(self) -> None:
        """403 ``insufficient_scope`` naming the scopes: the client can ask for them."""
        self.scene = Scene(configuration(auth={"required_scopes": ("mcp:write",)}))
        client = self.scene.client()
        client.request(b"GET /mcp", bearer())
        self.refused(client, 403, "insufficient_scope")
        self.assertIn(b'scope="mcp:write"', client.header(b"WWW-Authenticate") or b"")

    def test_head_gets_no_body(self) -> None:
        """A HEAD probe hears the challenge and nothing after the head."""
        client = self.scene.client()
        client.request(b"HEAD /mcp")
        self.assertEqual(client.head()[0], 401)
        self.assertIn(b"resource_metadata", client.header(b"WWW-Authenticate") or b"")
        self.assertEqual(client.body(), b"")

    def test_the_body_is_not_asked_for(self) -> None:
        """An upload that waits for 100 Continue is refused before a byte of it is sent."""
        client = self.scene.client()
        client.request(b"POST /mcp", b"Content-Length: 1000000", b"Expect: 100-continue")
        self.assertNotIn(b"100 Continue", client.received)
        self.refused(client, 401, "unauthorized")

    def test_odd_targets(self) -> None:
        """A path that could climb out of the upstream's own is nobody's resource."""
        for target in (b"/mcp/../admin", b"/%2e%2e/admin"):
            client = self.scene.client()
            client.request(b"GET " + target, bearer())
            self.refused(client, 400, "invalid_request")

    def test_before_the_keys_are_there(self) -> None:
        """503 and when to try again: never a 401 that would throw a good token away."""
        self.scene = Scene(realm=ScriptedRealm())
        client = self.scene.client()
        client.request(b"GET /mcp", bearer())
        self.refused(client, 503, "temporarily_unavailable")
        self.assertEqual(client.header(b"Retry-After"), b"5")
        self.assertIsNone(client.header(b"WWW-Authenticate"))

    def test_no_token_in_the_log(self) -> None:
        """A refused token is told by its reason, not by itself."""
        token = make_token(access_claims(iss="https://other.example"))
        client = self.scene.client()
        client.request(b"GET /mcp", b"Authorization: Bearer " + token.encode())
        self.refused(client, 401, "invalid_token")
        self.assertNotIn(token, repr(self.scene.done[-1].notes))
        self.assertNotIn(token.encode(), client.received)


class UnknownKey(SynchronousTestCase):
    """A token signed by a key that the realm has only just begun to use."""

    def setUp(self) -> None:
        self.scene = Scene(realm=ScriptedRealm(key_set(rsa_key("old"))))
        self.token = b"Authorization: Bearer " + make_token(access_claims(), rsa_key("new")).encode()
        self.client = self.scene.client()
        self.client.request(b"GET /mcp", self.token)

    def fetch(self) -> Deferred[KeySet]:
        return self.scene.realm.fetches[-1]

    def test_it_waits_for_one_fetch(self) -> None:
        """The request is relayed once the key has come."""
        self.assertEqual(self.scene.realm.asked, ["new"])
        self.assertEqual((self.client.received, self.scene.agent.sent), (b"", []))
        self.fetch().callback(key_set(rsa_key("new")))
        self.assertEqual(len(self.scene.agent.sent), 1)

    def test_others_do_not_wait(self) -> None:
        """A request whose key is known passes in the meantime."""
        other = self.scene.client()
        known = make_token(access_claims(), rsa_key("old")).encode()
        other.request(b"GET /mcp", b"Authorization: Bearer " + known)
        self.assertEqual(len(self.scene.agent.sent), 1)

    def test_the_key_stays_unknown(self) -> None:
        """After one fetch the answer is 401, and there is no second one."""
        self.fetch().callback(key_set(rsa_key("old")))
        self.assertEqual(self.client.head()[0], 401)
        self.assertEqual(len(self.scene.realm.fetches), 1)
        self.assertEqual(self.scene.done[-1].notes["reason"], "token_unknown_key")

    def test_keycloak_is_down(self) -> None:
        """503 where the fetch brought nothing at all."""
        self.fetch().errback(KeycloakUnavailable("no answer"))
        self.assertEqual(self.client.head()[0], 503)

    def test_the_client_leaves_meanwhile(self) -> None:
        """Nobody is relayed for a client that has left, and nothing is left behind."""
        fetch = self.fetch()
        self.client.leave()
        self.assertTrue(fetch.called)
        self.assertEqual(self.scene.agent.sent, [])
        self.assertEqual(len(self.scene.done), 1)


class Admitted(SynchronousTestCase):
    """What the upstream is sent."""

    def test_target_and_headers(self) -> None:
        """The raw target below the upstream's path, the upstream's Host, the client's own headers."""
        _, sent = Scene().relayed(
            b"GET /mcp/a%2Fb?x=1&y=%20", b"Mcp-Session-Id: 7", b"X-Forwarded-For: 1.1.1.1"
        )
        self.assertEqual((sent.method, sent.uri), (b"GET", b"http://upstream:3000/base/mcp/a%2Fb?x=1&y=%20"))
        self.assertEqual([name for name, _ in sent.pairs], [b"Host", b"Authorization", b"Mcp-Session-Id"])
        self.assertEqual(sent.value(b"Host"), b"upstream:3000")
        self.assertIsNone(sent.body)

    def test_the_absolute_form_goes_to_the_upstream(self) -> None:
        """A client cannot choose another upstream by naming it."""
        client = (scene := Scene()).client()
        client.request(b"GET http://mcp.example/mcp?x", bearer())
        self.assertEqual(scene.agent.sent[0].uri, b"http://upstream:3000/base/mcp?x")

    def test_mutations_see_identity_and_request(self) -> None:
        """Claims, the query and the client's address reach the upstream as configured."""
        mutations = (
            Mutation(Action.SET_X_FORWARDED),
            Mutation(Action.ADD, "X-User", value_from=ValueFrom(claim="sub")),
            Mutation(Action.ADD, "X-Query", value_from=ValueFrom(query_parameter="q")),
            Mutation(Action.REMOVE, "Authorization"),
        )
        _, sent = Scene(configuration(mutations=mutations)).relayed(b"GET /mcp?q=v", b"X-User: admin")
        self.assertEqual(
            sent.pairs[1:],
            [
                (b"X-Forwarded-For", b"203.0.113.7"),
                (b"X-Forwarded-Host", b"mcp.example"),
                (b"X-Forwarded-Proto", b"http"),
                (b"X-User", SUBJECT.encode()),
                (b"X-Query", b"v"),
            ],
        )

    def test_trusted_proxies(self) -> None:
        """Behind an ingress that the operator trusts, its chain goes on."""
        scene = Scene(
            configuration(
                server={"trusted_proxies": ("10.0.0.0/8",)}, mutations=(Mutation(Action.SET_X_FORWARDED),)
            )
        )
        scene.client("10.0.0.1").request(b"GET /mcp", bearer(), b"X-Forwarded-For: 198.51.100.1")
        self.assertEqual(scene.agent.sent[0].value(b"X-Forwarded-For"), b"198.51.100.1, 10.0.0.1")

    def test_notes_for_the_access_log(self) -> None:
        """The log learns who it was, through which client, and how long the upstream took."""
        scene = Scene()
        client, sent = scene.relayed()
        scene.clock.advance(0.25)
        sent.answer(204).end()
        self.assertEqual(client.head()[0], 204)
        notes = scene.done[-1].notes
        self.assertEqual((notes["subject"], notes["client"]), (SUBJECT, CLIENT_ID))
        self.assertAlmostEqual(notes["upstream_time"], 0.25)
