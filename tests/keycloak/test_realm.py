"""The realm in the background: found, kept fresh, and let go."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.keycloak.discovery import WELL_KNOWN
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakUnavailable
from mcp_oauth2_proxy.keycloak.keyring import MIN_INTERVAL, REFRESH_EVERY
from mcp_oauth2_proxy.keycloak.realm import JITTER, LONGEST_RETRY
from tests.support.keys import ISSUER, NOW, jwks, rsa_key
from tests.support.realm import (
    AUTHORIZE,
    CERTS,
    DISCOVERY,
    REALM_PATH,
    TOKEN,
    Played,
    discovery_document,
    play,
)


class RealmCase(SynchronousTestCase):
    """Plays a realm, collects what is logged, and checks that stopping leaves nothing behind."""

    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def play(self, *, start: bool = True, **options: Any) -> Played:
        played = play(**options)
        if start:
            played.realm.startService()
            self.addCleanup(self.stop, played)
        return played

    def stop(self, played: Played) -> None:
        if played.realm.running:
            self.successResultOf(played.realm.stopService())
        self.assertEqual(played.clock.getDelayedCalls(), [])

    def lines(self, played: Played) -> str:
        return "\n".join(
            str(event.get("log_format")).format(**event) for event in self.logged if event.get("log_format")
        )


class Finding(RealmCase):
    """Discovery, from the first attempt to a ready realm."""

    def test_ready(self) -> None:
        """A realm that answers is ready at once: endpoints and keys are there."""
        played = self.play(start=False)
        self.assertIn("has not finished yet", str(played.realm.unready()))
        self.assertIsNone(played.realm.keys)
        played.realm.startService()
        self.assertIsNone(played.realm.unready())
        metadata = played.realm.metadata
        assert metadata is not None
        self.assertEqual(metadata.issuer, ISSUER)
        self.assertEqual(metadata.token_endpoint, f"{ISSUER}/protocol/openid-connect/token")
        self.assertEqual(metadata.scopes_supported, ("openid", "profile", "mcp:read"))
        assert played.realm.keys is not None
        self.assertEqual(played.realm.keys.key_ids, {"rsa"})
        self.stop(played)

    def test_the_first_look(self) -> None:
        """Who waits for it hears when it is over, whether the realm was found or not."""
        for down in (False, True):
            played = self.play(start=False)
            played.server.down = down
            self.assertNoResult(played.realm.first_look)
            played.realm.startService()
            self.successResultOf(played.realm.first_look)
            self.assertEqual(played.realm.unready() is not None, down)
            self.stop(played)

    def test_the_first_look_at_a_silent_realm(self) -> None:
        """Who no longer wants to wait for it leaves without harm; stopping ends it."""
        for impatient in (False, True):
            played = self.play(start=False)
            played.server.answers[DISCOVERY] = None
            played.realm.startService()
            look = played.realm.first_look
            self.assertNoResult(look)
            if impatient:
                look.cancel()
                self.failureResultOf(look, CancelledError)
            self.stop(played)
            if not impatient:
                self.successResultOf(look)

    def test_provides_the_interface(self) -> None:
        """Facade and relay can be tested with any other provider of the interface."""
        self.assertTrue(verifyObject(IRealm, self.play().realm))

    def test_keycloak_down_at_start_heals_by_itself(self) -> None:
        """A Keycloak that is down leaves the proxy up and unready, and is found as soon as it answers."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        reason = str(played.realm.unready())
        self.assertIn(f"GET {ISSUER}{WELL_KNOWN}", reason)
        self.assertIn("cannot connect", reason)
        played.clock.advance(60)
        played.server.down = False
        played.clock.advance(LONGEST_RETRY)
        self.assertIsNone(played.realm.unready())
        self.assertEqual(played.fatal, [])

    def test_retries_slow_down(self) -> None:
        """Retries double their pause up to 15 s, so that a Keycloak that comes up is not overrun."""
        played = self.play(prepare=lambda server: server.answer(DISCOVERY, {}, 503))
        moments = []
        for _ in range(1000):
            before = played.server.count(DISCOVERY)
            played.clock.advance(0.1)
            if played.server.count(DISCOVERY) > before:
                moments.append(played.clock.seconds() - NOW)
        pauses = [round(later - earlier) for earlier, later in zip([0.0, *moments], moments, strict=False)]
        self.assertEqual(pauses[1:6], [1, 2, 4, 8, 15])
        self.assertEqual(set(pauses[6:]), {15})
        self.assertIn("status 503", str(played.realm.unready()))

    def test_retries_are_spread(self) -> None:
        """Replicas that start together don't ask together: each draws its pauses."""
        pauses = set()
        for seed in range(5):
            played = self.play(
                random=Random(seed), prepare=lambda server: server.answer(DISCOVERY, b"starting", 502)
            )
            (call,) = played.clock.getDelayedCalls()
            pause = call.getTime() - NOW
            self.assertTrue(0.5 * (1 - JITTER) <= pause <= 0.5 * (1 + JITTER))
            pauses.add(pause)
        self.assertEqual(len(pauses), 5)

    def test_silent_keycloak(self) -> None:
        """A Keycloak that takes the connection and says nothing is given up after 10 s and asked again."""
        played = self.play(prepare=lambda server: server.answers.update({DISCOVERY: None}))
        played.clock.advance(9.9)
        self.assertIn("has not finished yet", str(played.realm.unready()))
        played.clock.advance(0.1)
        self.assertIn("no answer within 10 s", str(played.realm.unready()))
        played.server.answer(DISCOVERY, discovery_document())
        played.clock.advance(1)
        self.assertIsNone(played.realm.unready())

    def test_ingress_that_answers_first(self) -> None:
        """An ingress that says "starting" in JSON with status 200 is no other issuer: the proxy waits."""
        played = self.play(prepare=lambda server: server.answer(DISCOVERY, {"status": "starting"}))
        self.assertIn("names no issuer", str(played.realm.unready()))
        self.assertEqual(played.fatal, [])
        played.server.answer(DISCOVERY, discovery_document())
        played.clock.advance(1)
        self.assertIsNone(played.realm.unready())

    def test_redirect_is_not_followed(self) -> None:
        """Discovery that redirects is an error that says so; nothing is fetched from elsewhere."""
        played = self.play(prepare=lambda server: server.answer(DISCOVERY, b"", 302))
        self.assertIn("status 302", str(played.realm.unready()))

    def test_keys_unavailable(self) -> None:
        """A realm without keys is not ready, and is asked until it has them."""
        cases: list[tuple[object, int, str]] = [
            ({"error": "x"}, 500, "status 500"),
            ({}, 200, "list named keys"),
            ({"keys": []}, 200, "no signing key"),
            ({"keys": [rsa_key().jwk(use="enc")]}, 200, "no signing key"),
            (b"<html>", 200, "without a JSON object"),
        ]
        for body, status, expected in cases:
            played = self.play(prepare=lambda server, b=body, s=status: server.answer(CERTS, b, s))
            self.assertIn(expected, str(played.realm.unready()))
            played.publish(rsa_key())
            played.clock.advance(1)
            self.assertIsNone(played.realm.unready())
            self.stop(played)

    def test_issuer_mismatch_is_fatal(self) -> None:
        """A realm that is not the configured one stops the start, with both values in the message."""
        other = "http://keycloak.internal:8080/realms/demo"
        played = self.play(prepare=lambda server: server.answer(DISCOVERY, discovery_document(other)))
        (message,) = played.fatal
        self.assertIn(repr(ISSUER), message)
        self.assertIn(repr(other), message)
        self.assertIn("auth.issuerUrl", message)
        self.assertIn("auth.discoveryUrl", message)
        self.assertEqual(played.realm.unready(), message)
        self.assertIsNone(played.realm.metadata)
        played.clock.advance(3600)
        self.assertEqual(played.server.count(DISCOVERY), 1)

    def test_mismatch_after_an_outage_is_fatal_too(self) -> None:
        """A wrong issuer that only shows once Keycloak is up is as fatal as one at start."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        played.server.down = False
        played.server.answer(DISCOVERY, discovery_document(ISSUER + "/"))
        played.clock.advance(1)
        self.assertEqual(len(played.fatal), 1)

    def test_discovery_url(self) -> None:
        """A realm that is reached by an internal URL keeps its public issuer and uses internal endpoints."""
        internal = "http://keycloak.svc:8080/auth/realms/demo"
        document = discovery_document(token_endpoint=f"{internal}/token", jwks_uri=f"{internal}/certs")

        def prepare(server: Any) -> None:
            del server.answers[DISCOVERY]
            server.answer("/auth/realms/demo" + WELL_KNOWN, document)
            server.answer("/auth/realms/demo/certs", jwks(rsa_key()))

        for url in (internal, internal + "/", internal + WELL_KNOWN):
            played = self.play(prepare=prepare, discovery_url=url)
            self.assertIsNone(played.realm.unready())

    def test_unexpected_failure_is_logged_and_retried(self) -> None:
        """A mistake of ours in discovery is in the log with its traceback, and does not end the search."""
        played = self.play(start=False)
        broken, played.realm._document = played.realm._document, lambda url: 1 / 0  # type: ignore[assignment,method-assign]
        played.realm.startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("failed", str(played.realm.unready()))
        played.realm._document = broken  # type: ignore[method-assign]
        played.clock.advance(1)
        self.assertIsNone(played.realm.unready())
        self.stop(played)


class Stopping(RealmCase):
    """Whenever the service stops, nothing stays on the clock."""

    def test_while_looking(self) -> None:
        """A proxy that is stopped before Keycloak has answered stops at once and asks no more."""
        played = self.play(prepare=lambda server: server.answers.update({DISCOVERY: None}))
        self.stop(played)
        played.agent.flush()
        self.assertEqual(played.server.gone, 1)
        played.clock.advance(3600)
        self.assertEqual(played.server.count(DISCOVERY), 1)

    def test_between_retries(self) -> None:
        """Nor does it ask again when it was waiting for the next try."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        self.stop(played)
        played.server.down = False
        played.clock.advance(3600)
        self.assertEqual(played.server.asked, [])

    def test_while_fetching_keys(self) -> None:
        """The same while the first keys are on their way."""
        played = self.play(prepare=lambda server: server.answers.update({CERTS: None}))
        self.stop(played)

    def test_while_refreshing_keys(self) -> None:
        """Requests that wait for a key go on with the keys there are."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)
        played.server.answers[CERTS] = None
        waiting = played.realm.keysFor("new")
        self.assertNoResult(waiting)
        self.stop(played)
        self.assertEqual(self.successResultOf(waiting).key_ids, {"rsa"})

    def test_while_asking_for_tokens(self) -> None:
        """A token request under way ends with the service."""
        played = self.play(prepare=lambda server: server.answers.update({TOKEN: None}))
        answer = played.realm.refresh("token")
        self.assertNoResult(answer)
        self.stop(played)
        self.failureResultOf(answer)


class Keys(RealmCase):
    """The realm's keys while it runs."""

    def ask(self, played: Played, key_id: str | None) -> Deferred[KeySet]:
        return played.realm.keysFor(key_id)

    def test_rotation(self) -> None:
        """A token by a new key makes one fetch, after which it is known; the passive key stays."""
        played = self.play()
        played.publish(rsa_key("new"), rsa_key())
        played.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.successResultOf(self.ask(played, "new")).key_ids, {"new", "rsa"})
        assert played.realm.keys is not None
        self.assertIn("new", played.realm.keys)
        self.assertEqual(played.server.count(CERTS), 2)

    def test_known_key_fetches_nothing(self) -> None:
        """A request whose key is known never waits for Keycloak."""
        played = self.play()
        played.clock.advance(3 * MIN_INTERVAL)
        self.successResultOf(self.ask(played, "rsa"))
        self.successResultOf(self.ask(played, None))
        self.assertEqual(played.server.count(CERTS), 1)

    def test_flood_of_unknown_keys(self) -> None:
        """A flood of forged key ids costs Keycloak one fetch in 10 s, and the others no waiting."""
        played = self.play()
        for tenth in range(1000):
            self.successResultOf(self.ask(played, f"forged-{tenth}"))
            played.clock.advance(0.1)
        self.assertEqual(played.server.count(CERTS), 1 + 10)

    def test_interval_to_the_second(self) -> None:
        """The limit is 10 s after the last such fetch began, not a moment sooner."""
        played = self.play()
        self.successResultOf(self.ask(played, "new"))
        played.clock.advance(MIN_INTERVAL - 0.01)
        self.successResultOf(self.ask(played, "new"))
        self.assertEqual(played.server.count(CERTS), 2)
        played.clock.advance(0.01)
        self.successResultOf(self.ask(played, "new"))
        self.assertEqual(played.server.count(CERTS), 3)

    def test_rotation_right_after_a_scheduled_fetch(self) -> None:
        """A key that appears just after the start, or just after a scheduled fetch, is not made to wait."""
        played = self.play()
        played.publish(rsa_key("second"))
        self.assertEqual(self.successResultOf(self.ask(played, "second")).key_ids, {"second"})
        played.clock.advance(REFRESH_EVERY)
        played.publish(rsa_key("third"))
        self.assertEqual(self.successResultOf(self.ask(played, "third")).key_ids, {"third"})

    def test_concurrent_misses_share_one_fetch(self) -> None:
        """Fifty requests with the new key wait for one fetch and all get its keys."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)
        played.server.answers[CERTS] = None
        waiting = [self.ask(played, "new") for _ in range(50)]
        for one in waiting:
            self.assertNoResult(one)
        known = self.successResultOf(self.ask(played, "rsa"))
        self.assertEqual(known.key_ids, {"rsa"})
        self.answer_open(played, jwks(rsa_key("new")))
        for one in waiting:
            self.assertEqual(self.successResultOf(one).key_ids, {"new"})
        self.assertEqual(played.server.count(CERTS), 2)

    def answer_open(self, played: Played, document: object) -> None:
        request = played.server.open.pop()
        request.write(json.dumps(document).encode())
        request.finish()
        played.agent.flush()

    def test_waiter_that_leaves(self) -> None:
        """A client that disconnects while it waits takes neither the fetch nor the other waiters along."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)
        played.server.answers[CERTS] = None
        leaving, staying = self.ask(played, "new"), self.ask(played, "new")
        leaving.cancel()
        self.failureResultOf(leaving)
        self.answer_open(played, jwks(rsa_key("new")))
        self.assertEqual(self.successResultOf(staying).key_ids, {"new"})

    def test_outage_keeps_the_last_good_keys(self) -> None:
        """A Keycloak that is down for a day, or answers rubbish, locks nobody out whose key is known."""
        played = self.play()
        for broken in ("down", {"keys": []}, b"<html>", {"keys": "none"}):
            if broken == "down":
                played.server.down = True
            else:
                played.server.down = False
                played.server.answer(CERTS, broken)
            played.clock.advance(MIN_INTERVAL)
            self.assertEqual(self.successResultOf(self.ask(played, "new")).key_ids, {"rsa"})
            self.assertIsNone(played.realm.unready())
        self.assertIn("known ones stay in force", self.lines(played))
        played.publish(rsa_key("new"))
        played.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.successResultOf(self.ask(played, "new")).key_ids, {"new"})

    def test_no_keys_ever(self) -> None:
        """Without any keys nobody can be judged: unavailable, not a bad token."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        self.failureResultOf(self.ask(played, "rsa"), KeycloakUnavailable)
        self.failureResultOf(self.ask(played, None), KeycloakUnavailable)

    def test_schedule(self) -> None:
        """Keys are refreshed every ten minutes without anybody asking, and a withdrawn key goes."""
        played = self.play()
        played.publish(rsa_key("next"))
        played.clock.advance(REFRESH_EVERY - 1)
        self.assertEqual(played.server.count(CERTS), 1)
        played.clock.advance(1)
        assert played.realm.keys is not None
        self.assertEqual(played.realm.keys.key_ids, {"next"})
        for _ in range(10):
            played.clock.advance(REFRESH_EVERY)
        self.assertEqual(played.server.count(CERTS), 12)

    def test_schedule_survives_an_outage(self) -> None:
        """A failed scheduled refresh is repeated at the next turn, and the log says what went wrong."""
        played = self.play()
        played.server.down = True
        played.clock.advance(REFRESH_EVERY)
        played.server.down = False
        played.publish(rsa_key("next"))
        played.clock.advance(REFRESH_EVERY)
        assert played.realm.keys is not None
        self.assertEqual(played.realm.keys.key_ids, {"next"})
        self.assertIn("cannot connect", self.lines(played))

    def test_schedule_is_spread(self) -> None:
        """Replicas don't fetch in step."""
        moments = set()
        for seed in range(5):
            played = self.play(random=Random(seed))
            calls = [call.getTime() - NOW for call in played.clock.getDelayedCalls()]
            self.assertEqual(len(calls), 2, "the keys, and the metadata")
            for after in calls:
                self.assertTrue(REFRESH_EVERY * (1 - JITTER) <= after <= REFRESH_EVERY * (1 + JITTER))
            moments |= set(calls)
        self.assertEqual(len(moments), 10)

    def test_silent_refresh_ends(self) -> None:
        """A fetch that hangs is given up after 10 s; who waited goes on with the keys there are."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)
        played.server.answers[CERTS] = None
        waiting = self.ask(played, "new")
        played.clock.advance(10)
        self.assertEqual(self.successResultOf(waiting).key_ids, {"rsa"})

    def test_slow_body_ends_and_disconnects(self) -> None:
        """A key set that drips is cut after 10 s, and so is its connection."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)
        played.server.answers[CERTS] = None
        waiting = self.ask(played, "new")
        played.server.open[0].write(b'{"keys": [')
        played.agent.flush()
        played.clock.advance(10)
        self.successResultOf(waiting)
        played.agent.flush()
        self.assertEqual(played.server.gone, 1)

    def test_huge_answer(self) -> None:
        """An answer of more than 1 MiB is not read to its end."""
        played = self.play()
        played.server.answer(CERTS, b" " * (2 * 1024 * 1024) + b"{}")
        played.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.successResultOf(self.ask(played, "new")).key_ids, {"rsa"})
        self.assertIn("larger than 1048576 bytes", self.lines(played))

    def test_unexpected_failure_of_a_refresh_is_logged(self) -> None:
        """A mistake of ours while refreshing is in the log, and the waiting requests go on."""
        played = self.play()
        played.clock.advance(MIN_INTERVAL)

        async def broken() -> KeySet:
            raise ZeroDivisionError

        played.realm._keyring._fetch = broken
        self.assertEqual(self.successResultOf(self.ask(played, "new")).key_ids, {"rsa"})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Metadata(RealmCase):
    """What the realm says of itself, while the proxy runs."""

    def publish(self, played: Played, **changes: Any) -> None:
        played.server.answer(DISCOVERY, {**discovery_document(), **changes})

    def test_what_changes_is_learnt(self) -> None:
        """A scope or an endpoint that comes, goes or moves is known in ten minutes, and the log says so."""
        played = self.play()
        moved = f"{ISSUER}/elsewhere/token"
        self.publish(played, scopes_supported=["openid", "mcp:write"], token_endpoint=moved)
        played.clock.advance(REFRESH_EVERY - 1)
        self.assertNotIn("has changed", self.lines(played))
        played.clock.advance(1)
        metadata = played.realm.metadata
        assert metadata is not None
        self.assertEqual(metadata.scopes_supported, ("openid", "mcp:write"))
        self.assertEqual(metadata.token_endpoint, moved)
        self.assertEqual(self.lines(played).count("the realm's metadata has changed"), 1)
        for _ in range(10):
            played.clock.advance(REFRESH_EVERY)
        self.assertEqual(played.server.count(DISCOVERY), 12)
        self.assertEqual(self.lines(played).count("the realm's metadata has changed"), 1)

    def test_keys_that_moved(self) -> None:
        """They are fetched from where they are now, without a pause."""
        played = self.play()
        self.publish(played, jwks_uri=f"{ISSUER}/moved")
        played.server.answer(f"{REALM_PATH}/moved", jwks(rsa_key("moved")))
        played.clock.advance(REFRESH_EVERY)
        played.server.answer(CERTS, {}, 404)
        played.clock.advance(REFRESH_EVERY)
        assert played.realm.keys is not None
        self.assertEqual(played.realm.keys.key_ids, {"moved"})
        self.assertIsNone(played.realm.unready())

    def test_an_outage(self) -> None:
        """What is known stays in use, the realm counts as ready, and the next turn finds what is new."""
        played = self.play()
        before = played.realm.metadata
        for status, body in ((503, {}), (200, {"issuer": ISSUER}), (200, {"status": "starting"})):
            played.server.answer(DISCOVERY, body, status)
            played.clock.advance(REFRESH_EVERY)
            self.assertIs(played.realm.metadata, before)
            self.assertIsNone(played.realm.unready())
        self.assertIn("the realm's metadata stays as it was", self.lines(played))
        self.publish(played, scopes_supported=["openid"])
        played.clock.advance(REFRESH_EVERY)
        assert played.realm.metadata is not None
        self.assertEqual(played.realm.metadata.scopes_supported, ("openid",))

    def test_another_issuer(self) -> None:
        """A Keycloak that is set up anew does not end proxies that run; both values are in the log."""
        played = self.play()
        played.server.answer(DISCOVERY, discovery_document("http://elsewhere/realms/demo"))
        played.clock.advance(REFRESH_EVERY)
        self.assertEqual(played.fatal, [])
        self.assertIsNone(played.realm.unready())
        assert played.realm.metadata is not None
        self.assertEqual(played.realm.metadata.issuer, ISSUER)
        self.assertIn("http://elsewhere/realms/demo", self.lines(played))

    def test_a_mistake_of_ours(self) -> None:
        """Is in the log, and the next turn comes."""
        played = self.play()
        self.patch(played.realm, "_document", lambda url: 1 / 0)
        played.clock.advance(REFRESH_EVERY)
        # The keys are fetched by the same method.
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        del played.realm._document
        self.publish(played, scopes_supported=["openid"])
        played.clock.advance(REFRESH_EVERY)
        assert played.realm.metadata is not None
        self.assertEqual(played.realm.metadata.scopes_supported, ("openid",))

    def test_stopped_while_it_looks(self) -> None:
        """Nothing stays on the clock, nor a connection."""
        played = self.play()
        played.server.answers[DISCOVERY] = None
        played.clock.advance(REFRESH_EVERY)
        self.stop(played)
        played.agent.flush()
        self.assertEqual(played.server.gone, 1)
        self.assertNotIn("stays as it was", self.lines(played))


class Authorization(RealmCase):
    """Where the browser is sent."""

    def test_url(self) -> None:
        """The client id and every parameter are in the query, encoded."""
        url = self.play().realm.authorizationUrl({"state": "a&b=c", "scope": "openid mcp:read"})
        self.assertTrue(url.startswith(f"https://id.example{AUTHORIZE}?"))
        self.assertEqual(
            parse_qs(urlsplit(url).query),
            {"client_id": ["mcp-proxy"], "state": ["a&b=c"], "scope": ["openid mcp:read"]},
        )

    def test_endpoint_with_a_query(self) -> None:
        """An endpoint that has a query already keeps it."""
        document = discovery_document(authorization_endpoint="https://id.example/a?tenant=1")
        played = self.play(prepare=lambda server: server.answer(DISCOVERY, document))
        self.assertEqual(
            played.realm.authorizationUrl({"x": "y"}), "https://id.example/a?tenant=1&client_id=mcp-proxy&x=y"
        )

    def test_before_discovery(self) -> None:
        """Before the realm is found there is nowhere to send anybody."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        with self.assertRaises(KeycloakUnavailable) as caught:
            played.realm.authorizationUrl({})
        self.assertIn("cannot connect", str(caught.exception))
        self.assertIsInstance(self.failureResultOf(played.realm.refresh("x"), KeycloakUnavailable), Failure)
