"""The relay with ``gate.introspect``: Keycloak has the last word about tokens that are good in all else."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from mcp_oauth2_proxy.keycloak.introspection import MAX_CALLS
from mcp_oauth2_proxy.relay.rechecks import AT_ONCE
from tests.relay.scripted import Scene, ScriptedClient, ScriptedRealm, ScriptedResponse, bearer, configuration
from tests.relay.test_exchange import EVENT, SSE
from tests.support.keys import CLIENT_ID, NOW, access_claims, key_set, make_token, rsa_key

AUDIENCE = [CLIENT_ID, "account"]
REMEMBER = 10.0


class Asking(SynchronousTestCase):
    """A request whose token Keycloak is asked about."""

    def setUp(self) -> None:
        self.scene = Scene(configuration(gate={"introspect": REMEMBER}))
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


class Streams(SynchronousTestCase):
    """An event stream that goes on for longer than Keycloak's word is good for."""

    def setUp(self) -> None:
        self.scene = Scene(configuration(gate={"introspect": REMEMBER}))
        self.realm = self.scene.realm
        self.scene.proxy.streams.start()

    def open(self, serial: int = 0) -> tuple[ScriptedClient, ScriptedResponse]:
        client = self.scene.client()
        client.request(b"GET /mcp", bearer(aud=AUDIENCE, jti=str(serial), exp=NOW + 300))
        self.realm.introspections[-1][1].callback(True)
        response = self.scene.agent.sent[-1].answer(200, SSE)
        response.send(EVENT)
        return client, response

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.scene.clock.advance(1)

    def question(self) -> Deferred[bool]:
        """Let time pass until Keycloak is asked again, and return the question."""
        asked = len(self.realm.introspections)
        for _ in range(3 * int(REMEMBER)):
            if len(self.realm.introspections) > asked:
                break
            self.wait(1)
        self.assertEqual(len(self.realm.introspections), asked + 1)
        return self.realm.introspections[-1][1]

    def test_it_ends_with_its_token(self) -> None:
        """It goes on as long as Keycloak says yes, and ends cleanly when it says no."""
        client, response = self.open()
        self.wait(REMEMBER - 2)
        self.assertEqual(len(self.realm.introspections), 1)
        for _ in range(2):
            self.question().callback(True)
            self.assertFalse(response.aborted)
        self.question().callback(False)
        self.assertTrue(client.received.endswith(b"\r\n0\r\n\r\n"))
        self.assertTrue(response.aborted)
        self.assertEqual(self.scene.done[-1].notes["reason"], "token_inactive")
        self.wait(3 * REMEMBER)
        self.assertEqual(len(self.realm.introspections), 4, "nobody asks about what is over")

    def test_keycloak_is_down(self) -> None:
        """A stream that was let in stays, and is asked about again."""
        _, response = self.open()
        for error in (KeycloakUnavailable("status 503"), ZeroDivisionError()):
            self.question().errback(error)
            self.assertFalse(response.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.question()

    def test_its_token_expires(self) -> None:
        """That is no news from Keycloak: the stream has its grace."""
        _, response = self.open()
        while self.scene.clock.seconds() < NOW + 300 - 2 * REMEMBER:
            self.question().callback(True)
        self.wait(2 * REMEMBER)
        asked = len(self.realm.introspections)
        self.wait(200)
        self.assertEqual(len(self.realm.introspections), asked)
        self.assertFalse(response.aborted)

    def test_many(self) -> None:
        """So many a second and no more are asked about, each in its turn."""
        streams = [self.open(serial) for serial in range(AT_ONCE + 10)]
        self.assertEqual(len(self.realm.introspections), len(streams))
        self.realm.introspections.clear()
        self.wait(REMEMBER)
        self.assertEqual(len(self.realm.introspections), MAX_CALLS, "others wait for their turn")
        for expected in (AT_ONCE, AT_ONCE + 10):
            for _, question in self.realm.introspections:
                if not question.called:
                    question.callback(True)
            self.assertEqual(len(self.realm.introspections), expected)
            self.wait(1)


class NotAsking(SynchronousTestCase):
    """Without the setting."""

    def test_nobody_is_asked(self) -> None:
        """A token is good by its signature, as ever."""
        scene = Scene()
        scene.relayed()
        self.assertEqual(scene.realm.introspections, [])
        self.assertEqual(len(scene.agent.sent), 1)
