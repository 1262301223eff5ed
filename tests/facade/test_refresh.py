"""Refreshing in memory: one Keycloak call for one token, whatever clients do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.refresh import CLAIM_TTL, GRACE
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable
from tests.facade.world import BASE, Response, World


class Refreshing(SynchronousTestCase):
    """One client with one refresh token, on a realm that ends the session at a second use."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()
        answer = self.world.redeem(self.client, self.world.code_for(self.client)).json
        self.token: str = answer["refresh_token"]

    def start(self, world: World | None = None, token: str | None = None) -> list[Any]:
        """Start a refresh; the list gets its answer."""
        world = world or self.world
        answers: list[Any] = []
        form = world.refresh_form(self.client, token or self.token)
        world.start("POST", "/oauth/token", form=form).addBoth(answers.append)
        world.settle()
        return answers

    def assert_refused(self, response: Response, code: int, error: str) -> None:
        self.assertEqual((response.code, response.json["error"]), (code, error))
        self.assertEqual(response.header("Cache-Control"), "no-store")

    def test_a_chain_of_refreshes(self) -> None:
        """Each answer has a new access token and the next refresh token."""
        seen = set()
        for _ in range(3):
            answer = self.world.refresh(self.client, self.token).json
            self.assertEqual((answer["token_type"], answer["expires_in"]), ("Bearer", 300))
            seen.add(answer["access_token"])
            self.token = answer["refresh_token"]
        self.assertEqual(len(seen), 3)

    def test_ten_at_once_are_one_call(self) -> None:
        """All ten get the same, usable answer, from one call to Keycloak."""
        self.world.realm.held = Deferred()
        attempts = [self.start() for _ in range(10)]
        self.assertEqual(attempts, [[]] * 10)
        self.world.realm.held.callback(None)
        self.world.settle()
        self.world.realm.held = None
        bodies = {answers[0].body for answers in attempts}
        self.assertEqual((len(bodies), len(self.world.realm.refreshes)), (1, 1))
        self.assertEqual(self.world.refresh(self.client, attempts[0][0].json["refresh_token"]).code, 200)

    def test_a_retry_gets_the_same_answer_for_thirty_seconds(self) -> None:
        """Who lost the answer asks again and gets it; later the token is used up."""
        first = self.world.refresh(self.client, self.token).json
        self.world.clock.advance(GRACE - 1)
        retry = self.world.refresh(self.client, self.token).json
        self.assertEqual(retry.pop("expires_in"), first.pop("expires_in") - int(GRACE - 1))
        self.assertEqual(retry, first)
        self.world.clock.advance(2)
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 1)
        self.assertEqual(self.world.refresh(self.client, first["refresh_token"]).code, 200)

    def test_a_caller_that_leaves_does_not_stop_the_call(self) -> None:
        """The connection dies while Keycloak works; the retry gets the answer of that very call."""
        self.world.realm.held = Deferred()
        form = self.world.refresh_form(self.client, self.token)
        gone = self.world.start("POST", "/oauth/token", form=form)
        gone.addErrback(lambda _: None)
        gone.cancel()
        self.world.settle()
        self.world.realm.held.callback(None)
        self.world.realm.held = None
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_two_processes_share_one_call(self) -> None:
        """A replica that sees another's claim waits for its answer."""
        other = World(clock=self.world.clock, realm=self.world.realm, shared_store=self.world.store)
        self.world.realm.held = Deferred()
        first, second = self.start(), self.start(other)
        self.world.clock.advance(0.2)
        other.settle()
        self.assertEqual((first, second), ([], []))
        self.world.realm.held.callback(None)
        self.world.settle()
        self.world.clock.advance(0.2)
        other.settle()
        self.assertEqual(first[0].json["refresh_token"], second[0].json["refresh_token"])
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_a_claim_that_never_ends_is_a_503(self) -> None:
        """A replica that died in the middle holds the token for a minute, then it is free again."""
        other = World(clock=self.world.clock, realm=self.world.realm, shared_store=self.world.store)
        self.world.realm.held = Deferred()
        self.start()
        waiting = self.start(other)
        for _ in range(130):
            self.world.clock.advance(0.1)
            other.settle()
        self.assert_refused(waiting[0], 503, "temporarily_unavailable")
        self.world.realm.held = None
        self.world.clock.advance(CLAIM_TTL)
        self.assertEqual(other.refresh(self.client, self.token).code, 200)

    def test_other_clients_cannot_use_it(self) -> None:
        """It is invalid_grant for them, and still good for its owner."""
        self.assert_refused(self.world.refresh(self.world.register(), self.token), 400, "invalid_grant")
        self.assertEqual(self.world.realm.refreshes, [])
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)

    def test_what_is_no_refresh_token(self) -> None:
        """Keycloak's own, a changed one, a client_id: invalid_grant, without asking Keycloak."""
        for token in ("kc-refresh-1", self.token[:-1], self.token + "=", self.client.client_id, "x"):
            self.assert_refused(self.world.refresh(self.client, token), 400, "invalid_grant")
        self.assertEqual(self.world.realm.refreshes, [])

    def test_keycloak_is_down(self) -> None:
        """503 temporarily_unavailable, never invalid_grant; afterwards the same token works."""
        self.world.realm.failure = KeycloakUnavailable("timeout")
        response = self.world.refresh(self.client, self.token)
        self.assert_refused(response, 503, "temporarily_unavailable")
        self.assertEqual(response.header("Retry-After"), "5")
        self.world.realm.failure = None
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)

    def test_the_session_has_ended(self) -> None:
        """Keycloak's invalid_grant is the client's; every other refusal is the operator's and a 503."""
        self.world.realm.failure = KeycloakRefused("unauthorized_client", "misconfigured")
        self.assert_refused(self.world.refresh(self.client, self.token), 503, "temporarily_unavailable")
        self.world.realm.failure = KeycloakRefused("invalid_grant", "Session not active")
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")

    def test_the_old_token_stays_when_none_comes(self) -> None:
        """A realm that returns no refresh token leaves the old one in force."""
        self.world.realm.rotates = False
        self.world.realm.returns_refresh_token = False
        for _ in range(2):
            self.token = self.world.refresh(self.client, self.token).json["refresh_token"]
        self.assertEqual(len(set(self.world.realm.refreshes)), 1)
        self.assertEqual(len(self.world.realm.refreshes), 2)

    def test_the_store_is_down(self) -> None:
        """Without a store no second use could be noticed: 503, and the token stays good."""
        self.world.store.down = True
        self.assert_refused(self.world.refresh(self.client, self.token), 503, "temporarily_unavailable")
        self.assertEqual(self.world.realm.refreshes, [])
        self.world.store.down = False
        self.assertEqual(self.world.refresh(self.client, self.token).code, 200)

    def test_the_store_dies_in_the_middle(self) -> None:
        """Keycloak has answered and the old token is spent: the client gets the new one all the same."""
        self.world.realm.held = Deferred()
        answers = self.start()
        self.world.store.down = True
        self.world.realm.held.callback(None)
        self.world.settle()
        self.assertEqual(answers[0].code, 200)

    def test_resource_and_scope(self) -> None:
        """Clients repeat resource and scope when they refresh; a foreign resource is invalid_target."""
        foreign = self.world.refresh(self.client, self.token, resource="https://evil.example")
        self.assert_refused(foreign, 400, "invalid_target")
        fine = self.world.refresh(self.client, self.token, resource=f"{BASE}/", scope="openid")
        self.assertEqual(fine.code, 200)
