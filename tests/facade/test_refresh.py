"""Refreshing in memory: one Keycloak call for one token, whatever clients do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.grants import RefreshGrant
from mcp_oauth2_proxy.facade.lease import LEASE
from mcp_oauth2_proxy.facade.refresh import PATIENCE, POLL, REMEMBER_AGAIN
from mcp_oauth2_proxy.facade.spent import GRACE
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable
from tests.facade.world import BASE, START, FragileStore, Response, World


class RefreshCase(SynchronousTestCase):
    """One client with one refresh token, on a realm that ends the session at a second use."""

    def setUp(self, **changes: Any) -> None:
        self.world = World(changes=changes)
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


class Refreshing(RefreshCase):
    """One process."""

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

    def test_resource_and_scope(self) -> None:
        """Clients repeat resource and scope when they refresh; a foreign resource is invalid_target."""
        foreign = self.world.refresh(self.client, self.token, resource="https://evil.example")
        self.assert_refused(foreign, 400, "invalid_target")
        fine = self.world.refresh(self.client, self.token, resource=f"{BASE}/", scope="openid")
        self.assertEqual(fine.code, 200)


class Replicas(RefreshCase):
    """Several processes with one store; each has its own way to it, which can be cut."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.replica()

    def replica(self, clock: Clock | None = None) -> World:
        """Return one more replica, by its own ``clock``."""
        clock = clock or self.world.clock
        store = FragileStore(clock, self.world.store.inner)
        return World(clock=clock, realm=self.world.realm, shared_store=store)

    def hold(self) -> Deferred[None]:
        """Keep Keycloak from answering until the returned Deferred is fired."""
        self.world.realm.held = Deferred()
        return self.world.realm.held

    def let_go(self, held: Deferred[None]) -> None:
        """Let Keycloak answer, this time and from now on."""
        self.world.realm.held = None
        held.callback(None)
        self.world.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass for everybody."""
        for _ in range(round(seconds / POLL)):
            self.world.clock.advance(POLL)
            self.world.settle()
            self.other.settle()

    def die(self) -> None:
        """The first replica is gone: nobody hears of it any more."""
        self.world.store.down = True

    def test_they_share_one_call(self) -> None:
        """Ten callers at each of two replicas hear one answer, from one call to Keycloak."""
        held = self.hold()
        attempts = [self.start(world) for world in (self.world, self.other) for _ in range(10)]
        self.wait(0.2)
        self.assertEqual(attempts, [[]] * 20)
        self.let_go(held)
        self.wait(0.2)
        self.assertEqual(len({answers[0].json["refresh_token"] for answers in attempts}), 1)
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_a_slow_call_stays_one_call(self) -> None:
        """Keycloak takes longer than a lease lasts: the holder lives, so nobody else calls."""
        held = self.hold()
        first, second = self.start(), self.start(self.other)
        self.wait(2 * LEASE)
        self.assertEqual((first, second), ([], []))
        self.let_go(held)
        self.wait(0.2)
        self.assertEqual(first[0].json["refresh_token"], second[0].json["refresh_token"])
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_a_keycloak_that_stands_still(self) -> None:
        """Everybody is told to come again before clients give up, and nobody calls a second time.

        When Keycloak answers in the end, the retries hear it, at either replica.
        """
        held = self.hold()
        for _ in range(2):
            waiting = [self.start(), self.start(self.other)]
            self.wait(PATIENCE + 0.2)
            for (answer,) in waiting:
                self.assert_refused(answer, 503, "temporarily_unavailable")
                self.assertEqual(answer.header("Retry-After"), "5")
        self.let_go(held)
        answers = [world.refresh(self.client, self.token) for world in (self.world, self.other)]
        self.assertEqual(len({answer.json["refresh_token"] for answer in answers}), 1)
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_a_failed_call_leaves_the_token_to_others(self) -> None:
        """Keycloak is away for one replica: the next attempt, wherever, is not made to wait."""
        self.world.realm.failure = KeycloakUnavailable("timeout")
        self.assert_refused(self.world.refresh(self.client, self.token), 503, "temporarily_unavailable")
        self.world.realm.failure = None
        self.assertEqual(self.other.refresh(self.client, self.token).code, 200)

    def test_death_before_keycloak_did_anything(self) -> None:
        """The retry at another replica succeeds as soon as the dead one's lease has run out."""
        self.hold()
        self.start()
        self.die()
        retry = self.start(self.other)
        self.wait(LEASE / 2)
        self.assertEqual(retry, [])
        self.world.realm.held = None
        self.wait(LEASE / 2 + 0.2)
        self.assertEqual(retry[0].code, 200)

    def test_death_after_keycloak_answered(self) -> None:
        """Without rotation the old token still works; with it the session is over, as the client hears."""
        for rotates, expected in ((False, 200), (True, 400)):
            self.setUp()
            self.world.realm.rotates = rotates
            held = self.hold()
            self.start()
            self.die()
            self.let_go(held)
            self.assertEqual(len(self.world.realm.refreshes), 1)
            retry = self.start(self.other)
            self.wait(LEASE + 0.2)
            self.assertEqual(retry[0].code, expected)
            self.assertEqual(len(self.world.realm.refreshes), 2)
            self.assertEqual(retry[0].json.get("error"), "invalid_grant" if rotates else None)

    def test_the_store_dies_in_the_middle(self) -> None:
        """Keycloak has answered and the old token is spent: the client gets the new one all the same.

        So does its retry at this process, though the store is still down; and when it is back every
        replica knows the answer, and after the grace that the token is used.
        """
        held = self.hold()
        answers = self.start()
        self.world.store.down = True
        self.let_go(held)
        self.assertEqual(answers[0].code, 200)
        self.assertEqual(self.world.refresh(self.client, self.token).body, answers[0].body)
        self.wait(2 * REMEMBER_AGAIN)
        self.world.store.down = False
        self.wait(REMEMBER_AGAIN + 0.2)
        retry = self.other.refresh(self.client, self.token)
        self.assertEqual(retry.json["refresh_token"], answers[0].json["refresh_token"])
        self.wait(GRACE)
        for world in (self.world, self.other):
            self.assert_refused(world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_the_store_comes_back_after_the_grace(self) -> None:
        """The answer is nobody's any more, and the token is known as used."""
        held = self.hold()
        self.start()
        self.world.store.down = True
        self.let_go(held)
        self.wait(GRACE + 1)
        self.world.store.down = False
        self.wait(REMEMBER_AGAIN + 0.2)
        for world in (self.other, self.world):
            self.assert_refused(world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_an_answer_that_is_written_late(self) -> None:
        """By then its token's successor is used already, and stays so."""
        held = self.hold()
        answers = self.start()
        self.world.store.down = True
        self.let_go(held)
        successor = answers[0].json["refresh_token"]
        self.assertEqual(self.other.refresh(self.client, successor).code, 200)
        self.world.store.down = False
        self.wait(REMEMBER_AGAIN + GRACE + 1)
        self.assert_refused(self.other.refresh(self.client, successor), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 2)

    def test_the_answer_is_kept_and_the_number_is_not(self) -> None:
        """The store fails between the two: retries hear the answer, and the number follows."""
        self.world.store.refuses = "family:"
        first = self.world.refresh(self.client, self.token)
        self.assertEqual(first.code, 200)
        self.wait(LEASE + 1)
        retry = self.other.refresh(self.client, self.token)
        self.assertEqual(retry.json["refresh_token"], first.json["refresh_token"])
        self.world.store.refuses = None
        self.wait(GRACE)
        self.assert_refused(self.other.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 1)

    def test_clocks_that_differ(self) -> None:
        """A replica whose clock is off by 50 s hands out the same answer, and never a longer life."""
        first = self.world.refresh(self.client, self.token).json
        for ahead, expected in ((50, 250), (-50, 300)):
            clock = Clock()
            clock.advance(START + ahead)
            retry = self.replica(clock).refresh(self.client, self.token).json
            self.assertEqual(retry.pop("expires_in"), expected)
            self.assertEqual(retry, {name: first[name] for name in retry})
        self.assertEqual(len(self.world.realm.refreshes), 1)


class Reuse(RefreshCase):
    """A refresh token that comes again after the grace (RFC 9700 section 4.14.2)."""

    def setUp(self, **changes: Any) -> None:
        super().setUp(**changes)
        # Such a realm would not notice by itself.
        self.world.realm.rotates = False
        self.successor = self.world.refresh(self.client, self.token).json["refresh_token"]
        self.world.clock.advance(GRACE + 1)

    def test_it_ends_the_family(self) -> None:
        """Whoever has the successor, owner or thief, loses it; and Keycloak's session ends."""
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(self.world.realm.revoked, self.world.realm.refreshes)
        self.assertEqual(len(self.world.realm.refreshes), 1)
        for token in (self.successor, self.token):
            self.assert_refused(self.world.refresh(self.client, token), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.refreshes), 1, "Keycloak was not asked for more")

    def test_the_log_tells_whose_it_was(self) -> None:
        """Client, subject and session, for whoever has to ask that person; and no token."""
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        self.world.refresh(self.client, self.token)
        (told,) = [event for event in logged if "came again too late" in str(event.get("log_format"))]
        grant = RefreshGrant.open(self.token, self.world.facade.sealer)
        self.assertEqual(
            (told["client"], told["subject"], told["session"]), (grant.client, grant.subject, grant.session)
        )
        self.assertIsNotNone(grant.session)
        self.assertNotIn(grant.refresh_token, str(told))

    def test_the_successors_of_successors_too(self) -> None:
        """However many refreshes ago the token was used."""
        for _ in range(3):
            self.successor = self.world.refresh(self.client, self.successor).json["refresh_token"]
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assert_refused(self.world.refresh(self.client, self.successor), 400, "invalid_grant")

    def test_access_tokens_end_too(self) -> None:
        """Those of the session, whoever has them; even where the store cannot spread that at the moment."""
        for refused in (None, "ending:"):
            self.setUp()
            session = RefreshGrant.open(self.token, self.world.facade.sealer).session
            self.world.store.refuses = refused
            self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
            self.assertTrue(self.world.facade.endings.known.ended(session, None, self.world.clock.seconds()))
            self.assertEqual(len(self.world.realm.revoked), 1)

    def test_a_refresh_that_was_under_way(self) -> None:
        """Its answer comes when the family has ended, though not yet at Keycloak: nobody gets it."""
        other = World(clock=self.world.clock, realm=self.world.realm, shared_store=self.world.store)
        self.world.realm.held = held = Deferred()
        under_way = self.start(token=self.successor)
        self.world.realm.failure = KeycloakUnavailable("timeout")
        self.assert_refused(other.refresh(self.client, self.token), 400, "invalid_grant")
        self.world.realm.failure = None
        held.callback(None)
        self.world.settle()
        self.assert_refused(under_way[0], 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.revoked), 1)

    def test_long_afterwards(self) -> None:
        """As long as the session lives: an offline one for weeks, with a refresh a day."""
        self.setUp(client_ttl=0.0)
        self.world.realm.refresh_expires_in = 0
        for _ in range(20):
            self.successor = self.world.refresh(self.client, self.successor).json["refresh_token"]
            self.world.clock.advance(80_000)
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assert_refused(self.world.refresh(self.client, self.successor), 400, "invalid_grant")

    def test_other_logins_live_on(self) -> None:
        """The same client's other login is another family."""
        another = self.world.redeem(self.client, self.world.code_for(self.client)).json["refresh_token"]
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assertEqual(self.world.refresh(self.client, another).code, 200)

    def test_another_client_ends_nothing(self) -> None:
        """A stranger who found the token is refused, and the owner's session does not suffer."""
        self.assert_refused(self.world.refresh(self.world.register(), self.token), 400, "invalid_grant")
        self.assertEqual(self.world.refresh(self.client, self.successor).code, 200)

    def test_keycloak_is_down(self) -> None:
        """The family ends here at once; Keycloak is told when one of its tokens comes again."""
        self.world.realm.failure = KeycloakUnavailable("timeout")
        for token in (self.token, self.successor):
            self.assert_refused(self.world.refresh(self.client, token), 400, "invalid_grant")
        self.assertEqual(self.world.realm.revoked, [])
        self.world.realm.failure = None
        for _ in range(2):
            self.assert_refused(self.world.refresh(self.client, self.successor), 400, "invalid_grant")
        self.assertEqual(len(self.world.realm.revoked), 1, "once is enough")

    def test_the_store_is_down(self) -> None:
        """What cannot be written down has not happened: 503, and the next attempt ends the family."""
        self.world.store.refuses = "revoked:"
        self.assert_refused(self.world.refresh(self.client, self.token), 503, "temporarily_unavailable")
        self.world.store.refuses = None
        self.assert_refused(self.world.refresh(self.client, self.token), 400, "invalid_grant")
        self.assert_refused(self.world.refresh(self.client, self.successor), 400, "invalid_grant")
