"""Giving tokens back (RFC 7009)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.grants import RefreshGrant
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from tests.facade.world import BASE, START, Registered, Response, World


class Revocation(SynchronousTestCase):
    """One client that has logged in."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()
        answer = self.world.redeem(self.client, self.world.code_for(self.client)).json
        self.token, self.access_token = answer["refresh_token"], answer["access_token"]

    def revoke(self, token: str | None, client: Registered | None = None, **more: str) -> Response:
        form = {"client_id": (client or self.client).client_id, **more}
        if token is not None:
            form["token"] = token
        return self.world.request("POST", "/oauth/revoke", form=form)

    def assert_error(self, answer: Response, status: int, error: str) -> None:
        self.assertEqual((answer.code, answer.json["error"]), (status, error), answer.text)

    def test_advertised(self) -> None:
        """With the methods of the token endpoint."""
        document = self.world.request("GET", "/.well-known/oauth-authorization-server").json
        self.assertEqual(document["revocation_endpoint"], f"{BASE}/oauth/revoke")
        for kind in ("auth_methods", "auth_signing_alg_values"):
            self.assertEqual(
                document[f"revocation_endpoint_{kind}_supported"],
                document[f"token_endpoint_{kind}_supported"],
            )

    def test_revoked(self) -> None:
        """The token is dead here and at Keycloak; doing it twice is fine, and costs nothing more."""
        remembered: set[int] = set()
        for hint in ({}, {"token_type_hint": "access_token"}, {"token_type_hint": "nonsense"}):
            answer = self.revoke(self.token, **hint)
            self.assertEqual((answer.code, answer.body), (200, b""))
            self.assertEqual(answer.headers.getRawHeaders("Cache-Control"), ["no-store"])
            self.assertEqual(self.world.realm.revoked, ["kc-refresh-2"])
            remembered.add(len(self.world.store.inner))
        self.assertEqual(len(remembered), 1, "who repeats it does not fill the store")
        self.assert_error(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(self.world.realm.refreshes, [])

    def test_the_session_ends_here(self) -> None:
        """As at Keycloak: the session's access tokens end, and the refresh tokens of other clients."""
        session = RefreshGrant.open(self.token, self.world.facade.sealer).session
        assert session is not None
        other = self.world.register("https://other.example/cb")
        self.world.realm.single_sign_on = int(session.partition("-")[2])
        theirs = self.world.redeem(other, self.world.code_for(other)).json["refresh_token"]
        self.assertEqual(self.revoke(self.token).code, 200)
        known = self.world.facade.endings.known
        self.assertTrue(known.ended(session, "anna", START))
        self.assertFalse(known.ended("another", "anna", START))
        self.assert_error(self.world.refresh(other, theirs), 400, "invalid_grant")
        self.assertEqual(self.world.realm.refreshes, [], "Keycloak need not be asked")
        self.world.clock.advance(1)
        again = self.world.redeem(other, self.world.code_for(other)).json["refresh_token"]
        self.assertEqual(self.world.refresh(other, again).code, 200)

    def test_keycloaks_clock_is_ahead(self) -> None:
        """What it has issued in our future ends too."""
        self.world.realm.now = lambda: START + 8
        token = self.world.redeem(self.client, self.world.code_for(self.client)).json["refresh_token"]
        self.assertEqual(self.revoke(token).code, 200)
        session = RefreshGrant.open(token, self.world.facade.sealer).session
        self.assertTrue(self.world.facade.endings.known.ended(session, None, START + 8))

    def test_a_realm_that_names_no_session(self) -> None:
        """The tokens of this client's login end, which is all that can be known."""
        self.world.realm.names_sessions = False
        token = self.world.redeem(self.client, self.world.code_for(self.client)).json["refresh_token"]
        self.assertEqual(self.revoke(token).code, 200)
        self.assert_error(self.world.refresh(self.client, token), 400, "invalid_grant")

    def test_the_answer_that_waits_for_a_retry(self) -> None:
        """A refresh's answer is kept for retries; after a revocation nobody gets it."""
        successor = self.world.refresh(self.client, self.token).json["refresh_token"]
        self.assertEqual(self.revoke(self.token).code, 200)
        self.assert_error(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assert_error(self.world.refresh(self.client, successor), 400, "invalid_grant")

    def test_another_clients_token(self) -> None:
        """Refused, and nothing happens to it (section 2.1)."""
        self.assert_error(self.revoke(self.token, self.world.register()), 400, "invalid_grant")
        self.assertEqual(self.world.realm.revoked, [])
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)

    def test_clients_that_are_not_proven(self) -> None:
        """401, and the token lives."""
        owner = self.world.register(token_endpoint_auth_method="client_secret_post")
        token = self.world.redeem(owner, self.world.code_for(owner)).json["refresh_token"]
        for more in ({}, {"client_secret": "wrong"}):
            self.assert_error(self.revoke(token, owner, **more), 401, "invalid_client")
        self.assert_error(self.revoke(token, Registered("nobody", None, "")), 401, "invalid_client")
        self.assertEqual(self.world.realm.revoked, [])
        assert owner.secret is not None
        self.assertEqual(self.revoke(token, owner, client_secret=owner.secret).code, 200)

    def test_other_tokens(self) -> None:
        """What is no token is as good as revoked; an access token cannot be taken back, and that is said."""
        self.assertEqual(self.revoke("noise").code, 200)
        self.assert_error(self.revoke("eyJ0.eyJ0.c2ln"), 400, "unsupported_token_type")
        self.assert_error(self.revoke(None), 400, "invalid_request")
        self.assertEqual(self.world.realm.revoked, [])

    def test_keycloak_down(self) -> None:
        """503: nothing is forgotten, and the client may try again."""
        self.world.realm.failure = KeycloakUnavailable("POST: status 500")
        answer = self.revoke(self.token)
        self.assert_error(answer, 503, "temporarily_unavailable")
        self.assertTrue(answer.headers.hasHeader("Retry-After"))
        self.world.realm.failure = None
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)

    def test_the_store_down(self) -> None:
        """503 as well: a revocation that is not remembered has not happened."""
        self.world.store.down = True
        self.assert_error(self.revoke(self.token), 503, "temporarily_unavailable")
