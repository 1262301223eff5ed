"""The relay with ``gate.introspect``: Keycloak has the last word about tokens that are good in all else."""

from __future__ import annotations

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from tests.relay.scripted import Scene, ScriptedClient, ScriptedRealm, bearer, configuration
from tests.support.keys import CLIENT_ID, NOW, access_claims, key_set, make_token, rsa_key

AUDIENCE = [CLIENT_ID, "account"]


class Asking(SynchronousTestCase):
    """A request whose token Keycloak is asked about."""

    def setUp(self) -> None:
        self.scene = Scene(configuration(gate={"introspect": 10.0}))
        self.realm = self.scene.realm
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def request(self, authorization: bytes | None = None) -> ScriptedClient:
        client = self.scene.client()
        client.request(b"GET /mcp", authorization or bearer(aud=AUDIENCE))
        return client

    def refused(self, client: ScriptedClient, status: int, reason: str) -> None:
        self.assertEqual(client.head()[0], status)
        self.assertEqual(self.scene.done[-1].notes["reason"], reason)
        self.assertEqual(self.scene.agent.sent, [])

    def test_active(self) -> None:
        """The upstream sees nothing before Keycloak has said yes, and the token is asked about once."""
        self.request()
        self.assertEqual(self.scene.agent.sent, [])
        self.assertEqual(len(self.realm.introspections), 1)
        self.realm.introspections[0][1].callback(True)
        self.assertEqual(len(self.scene.agent.sent), 1)
        self.request()
        self.assertEqual((len(self.scene.agent.sent), len(self.realm.introspections)), (2, 1))

    def test_inactive(self) -> None:
        """401 ``invalid_token`` with the challenge: the client refreshes, or logs in again."""
        client = self.request()
        self.realm.introspections[0][1].callback(False)
        self.refused(client, 401, "token_inactive")
        challenge = client.header(b"WWW-Authenticate") or b""
        self.assertIn(b'error="invalid_token"', challenge)
        self.assertIn(b'error_description="the token is no longer active"', challenge)
        self.refused(self.request(), 401, "token_inactive")
        self.assertEqual(len(self.realm.introspections), 1)
        self.assertNotIn("Audience", str(self.logged))

    def test_keycloak_is_down(self) -> None:
        """503 and when to try again: never a 401 that would throw a good token away, and never a pass."""
        client = self.request()
        self.realm.introspections[0][1].errback(KeycloakUnavailable("status 503"))
        self.refused(client, 503, "introspection_unavailable")
        self.assertEqual(client.header(b"Retry-After"), b"5")
        self.assertIsNone(client.header(b"WWW-Authenticate"))

    def test_a_mistake_of_ours(self) -> None:
        """It is a 503 too, and in the log with its traceback."""
        client = self.request()
        self.realm.introspections[0][1].errback(ZeroDivisionError())
        self.refused(client, 503, "introspection_unavailable")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_garbage_is_not_forwarded(self) -> None:
        """What the gate refuses by itself Keycloak never hears of."""
        foreign = make_token(access_claims(aud=AUDIENCE), rsa_key("stranger"))
        for authorization in (
            bearer(aud=AUDIENCE, exp=NOW - 1),
            bearer(aud=AUDIENCE, typ="ID"),
            bearer(aud=["other"], azp="other"),
            bearer(aud=AUDIENCE, iss="https://other.example"),
            b"Authorization: Bearer noise",
            b"Authorization: Basic eDp5",
            b"Authorization: Bearer " + foreign.encode() + b"x",
        ):
            self.assertNotEqual(self.request(authorization).received[:12], b"HTTP/1.1 200")
        self.assertEqual(self.realm.introspections, [])
        self.assertEqual(self.scene.agent.sent, [])

    def test_after_a_refetch_of_the_keys(self) -> None:
        """A token by a new key passes the same question, once the key is known."""
        self.scene = Scene(
            configuration(gate={"introspect": 10.0}), realm=ScriptedRealm(key_set(rsa_key("old")))
        )
        self.realm = self.scene.realm
        token = make_token(access_claims(aud=AUDIENCE), rsa_key("new"))
        client = self.request(b"Authorization: Bearer " + token.encode())
        self.realm.keys = key_set(rsa_key("new"))
        self.realm.fetches[0].callback(self.realm.keys)
        self.assertEqual(self.scene.agent.sent, [])
        self.realm.introspections[0][1].callback(False)
        self.refused(client, 401, "token_inactive")

    def test_a_token_that_expires_meanwhile(self) -> None:
        """Its time is looked at again when the answer has come."""
        client = self.request(bearer(aud=AUDIENCE, exp=NOW + 1))
        self.scene.clock.advance(2)
        self.realm.introspections[0][1].callback(True)
        self.refused(client, 401, "token_expired")

    def test_the_client_leaves_meanwhile(self) -> None:
        """Nobody is relayed for a client that has left."""
        client = self.request()
        client.leave()
        self.realm.introspections[0][1].callback(True)
        self.assertEqual(self.scene.agent.sent, [])
        self.assertEqual(len(self.scene.done), 1)

    def test_the_mapper_is_missing(self) -> None:
        """The operator reads once what to add to the realm, and in each line why the token is refused."""
        for serial in range(2):
            client = self.request(bearer(aud="account", jti=str(serial)))
            self.realm.introspections[-1][1].callback(False)
            self.refused(client, 401, "token_inactive")
        lines = [str(event["log_format"]).format(**event) for event in self.logged if event.get("log_format")]
        advice = [line for line in lines if "mapper of type Audience" in line]
        self.assertEqual(len(advice), 1)
        self.assertIn(f"Included Client Audience {CLIENT_ID}", advice[0])
        details = [event["detail"] for event in self.logged if event["log_format"] == "refused a token"]
        self.assertEqual(len(details), 2)
        self.assertIn(f"aud does not name who asks, {CLIENT_ID}", details[0])


class NotAsking(SynchronousTestCase):
    """Without the setting."""

    def test_nobody_is_asked(self) -> None:
        """A token is good by its signature, as ever."""
        scene = Scene()
        scene.relayed()
        self.assertEqual(scene.realm.introspections, [])
        self.assertEqual(len(scene.agent.sent), 1)
