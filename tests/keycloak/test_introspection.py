"""Asking Keycloak about tokens: seldom, never too much at once, and never a yes that nobody gave."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from mcp_oauth2_proxy.keycloak.introspection import (
    MAX_CALLS,
    MAX_REMEMBERED,
    MAX_WAITING,
    PAUSE,
    TIMEOUT,
    Introspection,
)
from tests.keycloak.test_realm import RealmCase
from tests.support.keys import ISSUER
from tests.support.realm import CLIENT_SECRET, discovery_document

PATH = "/realms/demo/protocol/openid-connect/token/introspect"
ENDPOINT = f"{ISSUER}/protocol/openid-connect/token/introspect"
REMEMBER = 10.0


class IntrospectionCase(SynchronousTestCase):
    """A Keycloak whose answers the test gives."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[tuple[str, Deferred[bool]]] = []
        self.asking = Introspection(self.ask, clock=self.clock, remember=REMEMBER)

    def ask(self, token: str) -> Deferred[bool]:
        self.calls.append((token, Deferred()))
        return self.calls[-1][1]

    def answer(self, active: bool = True) -> None:
        """Answer the call that was made last."""
        self.calls[-1][1].callback(active)

    def fail(self, error: Exception | None = None) -> None:  # type: ignore[override]
        """Let the call that was made last fail."""
        self.calls[-1][1].errback(error or KeycloakUnavailable("status 503"))

    def unavailable(self, answer: Deferred[bool]) -> str:
        return self.failureResultOf(answer, KeycloakUnavailable).getErrorMessage()


class Remembering(IntrospectionCase):
    """One call in so many seconds."""

    def test_for_a_while(self) -> None:
        """Keycloak's word is taken for as long as the operator says, yes and no alike."""
        for active in (True, False):
            self.calls.clear()
            first = self.asking.is_active(f"token {active}")
            self.answer(active)
            self.assertIs(self.successResultOf(first), active)
            self.clock.advance(REMEMBER - 0.1)
            self.assertIs(self.successResultOf(self.asking.is_active(f"token {active}")), active)
            self.assertEqual(len(self.calls), 1)
            self.clock.advance(0.1)
            self.assertNoResult(self.asking.is_active(f"token {active}"))
            self.assertEqual(len(self.calls), 2)
            self.answer()

    def test_each_token_for_itself(self) -> None:
        """A token is not let in by another's answer."""
        self.asking.is_active("one")
        self.answer()
        self.assertNoResult(self.asking.is_active("two"))
        self.assertEqual([token for token, _ in self.calls], ["one", "two"])

    def test_bounded(self) -> None:
        """However many tokens come, so many answers are remembered, the newest."""
        asking = Introspection(lambda token: Deferred(), clock=self.clock, remember=REMEMBER)
        for number in range(MAX_REMEMBERED + 10):
            asking._keep(number.to_bytes(32, "big"), True)
        self.assertEqual(len(asking), MAX_REMEMBERED)
        self.clock.advance(REMEMBER)
        asking._keep(b"new", True)
        self.assertEqual(len(asking), 1, "what has run out goes with the next that comes")


class Crowds(IntrospectionCase):
    """Many at once."""

    def test_one_token_is_one_call(self) -> None:
        """A client that sends a hundred requests at once costs Keycloak one question."""
        waiting = [self.asking.is_active("token") for _ in range(100)]
        self.assertEqual(len(self.calls), 1)
        self.answer()
        self.assertEqual([self.successResultOf(one) for one in waiting], [True] * 100)

    def test_a_crowd_waits_for_its_turn(self) -> None:
        """Keycloak hears so many questions at a time and no more; the others follow."""
        waiting = [self.asking.is_active(f"token {number}") for number in range(2 * MAX_CALLS)]
        self.assertEqual(len(self.calls), MAX_CALLS)
        for number in range(2 * MAX_CALLS):
            self.calls[number][1].callback(True)
            self.assertIs(self.successResultOf(waiting[number]), True)
        self.assertEqual(len(self.calls), 2 * MAX_CALLS)

    def test_a_crowd_too_large(self) -> None:
        """Who finds too many waiting is told at once to come again; those who wait are not pushed out."""
        waiting = [self.asking.is_active(f"token {number}") for number in range(MAX_CALLS + MAX_WAITING)]
        self.assertIn("wait to be introspected", self.unavailable(self.asking.is_active("one too many")))
        self.answer()
        self.assertIs(self.successResultOf(waiting[MAX_CALLS - 1]), True)

    def test_who_leaves(self) -> None:
        """A client that hangs up takes neither the call nor the others who wait for it along."""
        leaving, staying = self.asking.is_active("token"), self.asking.is_active("token")
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.answer()
        self.assertIs(self.successResultOf(staying), True)


class Failing(IntrospectionCase):
    """A Keycloak that does not say."""

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def lines(self) -> list[str]:
        return [str(event["log_format"]).format(**event) for event in self.logged if event.get("log_format")]

    def test_nobody_is_let_in(self) -> None:
        """An answer that has run out is worth nothing, however good the token looks."""
        self.asking.is_active("token")
        self.answer()
        self.clock.advance(REMEMBER)
        again = self.asking.is_active("token")
        self.fail()
        self.assertEqual(self.unavailable(again), "status 503")

    def test_it_is_left_alone_for_a_moment(self) -> None:
        """While it is down nobody waits for it, and it hears one round of questions a second."""
        answers = [self.asking.is_active(f"token {number}") for number in range(2 * MAX_CALLS)]
        self.calls[0][1].errback(KeycloakUnavailable("status 503"))
        self.unavailable(answers[0])
        self.unavailable(answers[MAX_CALLS])  # its turn came
        self.unavailable(self.asking.is_active("another"))
        self.assertEqual(len(self.calls), MAX_CALLS)
        for _, call in self.calls[1:]:
            call.errback(KeycloakUnavailable("status 503"))
        for answer in answers[1:MAX_CALLS] + answers[MAX_CALLS + 1 :]:
            self.unavailable(answer)
        self.assertEqual(len(self.calls), MAX_CALLS)
        self.clock.advance(PAUSE)
        later = self.asking.is_active("another")
        self.answer()
        self.assertIs(self.successResultOf(later), True)
        self.assertEqual(
            self.lines(),
            ["introspection fails, requests are answered 503: status 503", "introspection works again"],
        )

    def test_silence(self) -> None:
        """One that takes too long is given up, and its connection too."""
        waiting = self.asking.is_active("token")
        self.clock.advance(TIMEOUT - 0.1)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertIn("no answer within", self.unavailable(waiting))
        self.assertTrue(self.calls[0][1].called)

    def test_a_mistake_of_ours(self) -> None:
        """It fails that question, and the next is asked."""
        first = self.asking.is_active("token")
        self.fail(ZeroDivisionError())
        self.failureResultOf(first, ZeroDivisionError)
        second = self.asking.is_active("token")
        self.answer()
        self.assertIs(self.successResultOf(second), True)


class AtTheRealm(RealmCase):
    """What Keycloak receives, and what its answers mean."""

    def realm(self, prepare: Callable[[object], object] = lambda server: None, **changes: object) -> None:
        document = discovery_document(**{"introspection_endpoint": ENDPOINT, **changes})
        self.played = self.play(
            prepare=lambda server: (
                server.answer("/realms/demo/.well-known/openid-configuration", document),
                prepare(server),
            )
        )

    def test_sent(self) -> None:
        """The token goes in the body, with the proxy's own credentials."""
        self.realm(lambda server: server.answer(PATH, {"active": True}))  # type: ignore[attr-defined]
        self.assertIs(self.successResultOf(self.played.realm.introspect("a.b.c")), True)
        (asked,) = [one for one in self.played.server.asked if one.path == PATH]
        self.assertEqual(asked.method, "POST")
        self.assertEqual(
            asked.form,
            {
                "token": "a.b.c",
                "token_type_hint": "access_token",
                "client_id": "mcp-proxy",
                "client_secret": CLIENT_SECRET,
            },
        )

    def test_only_a_plain_yes_is_one(self) -> None:
        """Whatever is not true or false is no answer at all."""
        self.realm()
        for body, status, expected in (
            ({"active": True, "sub": "x"}, 200, True),
            ({"active": False}, 200, False),
            ({"active": "true"}, 200, None),
            ({"active": 1}, 200, None),
            ({}, 200, None),
            ({"active": True}, 201, None),
            ({"active": True}, 500, None),
            ({"error": "invalid_client"}, 401, None),
            (b"<html>", 200, None),
        ):
            self.played.server.answer(PATH, body, status)
            asked = self.played.realm.introspect("a.b.c")
            if expected is None:
                self.failureResultOf(asked, KeycloakUnavailable)
            else:
                self.assertIs(self.successResultOf(asked), expected)

    def test_a_wrong_secret(self) -> None:
        """The operator reads which settings to look at."""
        error = {"error": "invalid_client", "error_description": "Client authentication failed."}
        self.realm(lambda server: server.answer(PATH, error, 401))  # type: ignore[attr-defined]
        failure = self.failureResultOf(self.played.realm.introspect("a.b.c"), KeycloakUnavailable)
        self.assertIn("check auth.clientId and auth.clientSecret", failure.getErrorMessage())

    def test_a_realm_without_it(self) -> None:
        """A realm that publishes no endpoint can tell nothing."""
        self.realm(introspection_endpoint=None)
        failure = self.failureResultOf(self.played.realm.introspect("a.b.c"), KeycloakUnavailable)
        self.assertIn("no introspection_endpoint", failure.getErrorMessage())
