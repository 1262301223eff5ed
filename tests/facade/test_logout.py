"""Keycloak says who is out (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.grants import RefreshGrant
from mcp_oauth2_proxy.facade.logout import MAX_BODY
from mcp_oauth2_proxy.gate.endings import Ending
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from tests.facade.world import START, Registered, Response, World

URL = "/oauth/backchannel-logout"


class Logout(SynchronousTestCase):
    """A client with a session, on one of two replicas."""

    def setUp(self) -> None:
        self.world = World()
        self.other = World(clock=self.world.clock, realm=self.world.realm, shared_store=self.world.store)
        for world in (self.world, self.other):
            world.facade.endings.start()
            self.addCleanup(world.facade.endings.stop)
        self.client = self.world.register()
        self.refresh_token = self.log_in(self.client)
        session = RefreshGrant.open(self.refresh_token, self.world.facade.sealer).session
        assert session is not None
        self.session = session
        self.token = self.world.realm.logout_token("jti-1", Ending(session=session, subject="anna", at=START))

    def log_in(self, client: Registered) -> str:
        token: str = self.world.redeem(client, self.world.code_for(client)).json["refresh_token"]
        return token

    def send(self, token: str | None = None, world: World | None = None, **form: str) -> Response:
        """Send a logout request as Keycloak does."""
        return (world or self.other).request("POST", URL, form={"logout_token": token or self.token, **form})

    def is_out(self, session: str, world: World | None = None) -> bool:
        return (world or self.world).facade.endings.known.ended(session, "anna", START)

    def assert_refused(self, answer: Response, status: int = 400, error: str = "invalid_request") -> None:
        self.assertEqual((answer.code, answer.json["error"]), (status, error), answer.text)
        self.assertEqual(answer.header("Cache-Control"), "no-store")
        self.assertFalse(self.is_out(self.session))

    def test_logged_out(self) -> None:
        """200, not to be stored; the session is over on both replicas, and refreshing is invalid_grant."""
        answer = self.send()
        self.assertEqual((answer.code, answer.body, answer.header("Cache-Control")), (200, b"", "no-store"))
        self.assertTrue(self.is_out(self.session, self.world) and self.is_out(self.session, self.other))
        for world in (self.world, self.other):
            refused = world.refresh(self.client, self.refresh_token)
            self.assertEqual((refused.code, refused.json["error"]), (400, "invalid_grant"))
        self.assertEqual(self.world.realm.refreshes, [])

    def test_an_answer_kept_for_retries(self) -> None:
        """Not even a retry within the grace gets tokens after a logout."""
        self.assertEqual(self.world.refresh(self.client, self.refresh_token).code, 200)
        self.send()
        self.assertEqual(self.world.refresh(self.client, self.refresh_token).code, 400)

    def test_parameters_that_nobody_knows(self) -> None:
        """They are ignored (section 2.5)."""
        self.assertEqual(self.send(state="x", more="y").code, 200)

    def test_a_code_that_waits(self) -> None:
        """A login whose session ends before the client has redeemed the code brings no tokens."""
        self.world.realm.single_sign_on = 77
        code = self.world.code_for(self.client)
        self.send(self.world.realm.logout_token("jti-2", Ending(session="session-77", at=START)))
        answer = self.world.redeem(self.client, code)
        self.assertEqual((answer.code, answer.json["error"]), (400, "invalid_grant"))

    def test_a_whole_person(self) -> None:
        """A token with a subject alone ends all sessions of today, and none of tomorrow."""
        another = self.log_in(self.client)
        token = self.world.realm.logout_token("jti-2", Ending(subject="anna", at=START))
        self.assertEqual(self.send(token).code, 200)
        for mine in (self.refresh_token, another):
            self.assertEqual(self.world.refresh(self.client, mine).code, 400)
        self.world.clock.advance(1)
        self.assertEqual(self.world.refresh(self.client, self.log_in(self.client)).code, 200)

    def test_offline_access(self) -> None:
        """It survives a logout, as at Keycloak, until Keycloak says that it ends too (section 2.7)."""
        self.world.realm.single_sign_on = 77
        code = self.world.code_for(self.client, scope="openid offline_access")
        token = self.world.redeem(self.client, code).json["refresh_token"]
        ending = Ending(session="session-77", at=START)
        self.send(self.world.realm.logout_token("jti-2", ending))
        self.assertTrue(self.is_out("session-77"), "access tokens end")
        self.assertEqual(self.world.refresh(self.client, token).code, 200)
        self.world.clock.advance(60)
        ending = Ending(session="session-77", at=START, offline=True)
        self.send(self.world.realm.logout_token("jti-3", ending))
        self.assertEqual(self.world.refresh(self.client, token).code, 400)

    def test_forged(self) -> None:
        """400 with the rule that was broken, and nobody is out; the store is not touched."""
        asked = len(self.world.store.keys)
        answer = self.send("forged.logout.token")
        self.assert_refused(answer)
        self.assertIn("iss is not the realm", answer.json["error_description"])
        self.assertEqual(len(self.world.store.keys), asked)

    def test_what_is_no_logout_request(self) -> None:
        """No token, two of them, another content type, too long a body, GET."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        twice = f"logout_token={self.token}&logout_token={self.token}".encode()
        long = f"logout_token={self.token}&x={'x' * MAX_BODY}".encode()
        for headers, body, status in (
            (form, b"", 400),
            (form, b"logout_token=", 400),
            (form, twice, 400),
            (form, long, 413),
            ({"Content-Type": "application/json"}, b"{}", 400),
        ):
            self.assert_refused(self.world.request("POST", URL, headers=headers, body=body), status)
        answer = self.world.request("GET", URL)
        self.assertEqual((answer.code, answer.header("Allow")), (405, "POST"))

    def test_replayed(self) -> None:
        """A token works once, whichever replica gets it, until it has expired."""
        self.assertEqual(self.send().code, 200)
        self.world.clock.advance(100)
        for world in (self.world, self.other):
            answer = self.send(world=world)
            self.assertEqual((answer.code, answer.json["error"]), (400, "invalid_request"))

    def test_two_at_once(self) -> None:
        """Of two deliveries of one token at the same moment one is answered 200, and the session is over."""
        answers: list[Any] = []
        held: Deferred[None] = Deferred()
        claims = self.world.store.inner.add

        def slow(key: str, value: bytes, ttl: float) -> Deferred[bool]:
            if not key.startswith("logout:"):
                return claims(key, value, ttl)
            waiting: Deferred[bool] = Deferred()
            held.addCallback(lambda _: claims(key, value, ttl).chainDeferred(waiting))
            return waiting

        self.patch(self.world.store.inner, "add", slow)
        for world in (self.world, self.other):
            world.start("POST", URL, form={"logout_token": self.token}).addBoth(answers.append)
        held.callback(None)
        for world in (self.world, self.other):
            world.settle()
        self.assertEqual(sorted(answer.code for answer in answers), [200, 400])
        self.assertTrue(self.is_out(self.session))

    def test_the_store_is_down(self) -> None:
        """503 with Retry-After, and nothing is marked: the same token works when it comes again."""
        self.world.store.down = True
        answer = self.send()
        self.assert_refused(answer, 503, "temporarily_unavailable")
        self.assertTrue(answer.headers.hasHeader("Retry-After"))
        self.world.store.down = False
        self.assertEqual(self.send().code, 200)
        self.assertTrue(self.is_out(self.session))

    def test_the_store_dies_in_the_middle(self) -> None:
        """Whichever step fails: 503, and the same token works afterwards."""
        for step in ("ending:", "logout:"):
            token = self.world.realm.logout_token(step, Ending(session=step, at=START))
            self.world.store.refuses = step
            self.assertEqual(self.send(token).code, 503)
            self.world.store.refuses = None
            self.assertEqual(self.send(token).code, 200)
            self.assertTrue(self.is_out(step))

    def test_no_keys(self) -> None:
        """503 before the realm's keys are there, and the same token works afterwards."""
        self.world.realm.failure = KeycloakUnavailable("no keys")
        self.assert_refused(self.send(), 503, "temporarily_unavailable")
        self.world.realm.failure = None
        self.assertEqual(self.send().code, 200)
