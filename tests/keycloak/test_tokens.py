"""The token endpoint: what is sent, and what each answer means to the user."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mcp_oauth2_proxy.keycloak.http import Answer
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable, TokenResponse
from mcp_oauth2_proxy.keycloak.tokens import MAX_TOKEN, parse_token_response
from tests.keycloak.test_realm import RealmCase
from tests.support.keys import ISSUER, NOW, access_claims, make_token
from tests.support.realm import CLIENT_SECRET, TOKEN, Played

URL = f"{ISSUER}/protocol/openid-connect/token"
GOOD = {
    "access_token": "at.at.at",
    "expires_in": 300,
    "refresh_expires_in": 1800,
    "refresh_token": "rt",
    "token_type": "Bearer",
    "id_token": "id.id.id",
    "not-before-policy": 0,
    "session_state": "s",
    "scope": "openid profile",
}


class Sent(RealmCase):
    """What Keycloak receives."""

    def asked(self, played: Played, answer: Deferred[TokenResponse]) -> dict[str, str]:
        self.successResultOf(answer)
        (request,) = [asked for asked in played.server.asked if asked.path == TOKEN]
        self.assertEqual(request.method, "POST")
        self.assertNotIn("authorization", request.headers)
        self.assertEqual(request.headers["content-type"], ["application/x-www-form-urlencoded"])
        return request.form

    def test_code(self) -> None:
        """The code goes with PKCE verifier, redirect URI and the client's secret, odd characters and all."""
        played = self.play(prepare=lambda server: server.answer(TOKEN, GOOD))
        form = self.asked(
            played,
            played.realm.exchangeCode(
                "c+/=", code_verifier="v", redirect_uri="https://mcp.example/oauth/callback"
            ),
        )
        self.assertEqual(
            form,
            {
                "grant_type": "authorization_code",
                "code": "c+/=",
                "code_verifier": "v",
                "redirect_uri": "https://mcp.example/oauth/callback",
                "client_id": "mcp-proxy",
                "client_secret": CLIENT_SECRET,
            },
        )

    def test_refresh(self) -> None:
        """A refresh sends the token, and a scope only where one is asked for."""
        for scope in (None, "openid"):
            played = self.play(prepare=lambda server: server.answer(TOKEN, GOOD))
            form = self.asked(played, played.realm.refresh("rt", scope=scope))
            expected = {
                "grant_type": "refresh_token",
                "refresh_token": "rt",
                "client_id": "mcp-proxy",
                "client_secret": CLIENT_SECRET,
            }
            self.assertEqual(form, expected if scope is None else {**expected, "scope": scope})


class Answered(RealmCase):
    """What each answer becomes, and what the log says."""

    SECRETS = (CLIENT_SECRET, "at.at.at", "id.id.id", "refresh-me")

    def refresh(self, body: object, status: int = 200) -> Deferred[TokenResponse]:
        self.played = self.play(prepare=lambda server: server.answer(TOKEN, body, status))
        return self.played.realm.refresh("refresh-me")

    def unavailable(self, body: object, status: int) -> str:
        failure = self.failureResultOf(self.refresh(body, status), KeycloakUnavailable)
        for secret in self.SECRETS:
            self.assertNotIn(secret, failure.getErrorMessage() + self.lines(self.played))
        return failure.getErrorMessage()

    def test_tokens(self) -> None:
        """A good answer is taken over; none of it shows in a repr."""
        response = self.successResultOf(self.refresh(GOOD))
        self.assertEqual(response, TokenResponse("at.at.at", 300, "rt", 1800, "id.id.id", "openid profile"))
        self.assertNotIn("at.at", repr(response))
        self.assertNotIn("id.id", repr(response))

    def test_no_new_refresh_token(self) -> None:
        """An answer without a refresh token says so, so that the old one is kept."""
        body = {name: GOOD[name] for name in ("access_token", "token_type")}
        response = self.successResultOf(self.refresh(body))
        self.assertEqual(response, TokenResponse("at.at.at"))

    def test_token_type_in_any_case(self) -> None:
        """RFC 6749 section 5.1: the token type's case does not matter; another type is not usable."""
        self.successResultOf(self.refresh({**GOOD, "token_type": "bearer"}))
        self.assertIn("without a Bearer", self.unavailable({**GOOD, "token_type": "DPoP"}, 200))
        self.assertIn("without a Bearer", self.unavailable({**GOOD, "token_type": None}, 200))

    def test_ended_session(self) -> None:
        """Keycloak's invalid_grant is the user's session having ended, passed on as such."""
        body = {"error": "invalid_grant", "error_description": "Session not active"}
        failure = self.failureResultOf(self.refresh(body, 400), KeycloakRefused)
        self.assertEqual(failure.value.error, "invalid_grant")
        self.assertEqual(str(failure.value), "invalid_grant: Session not active")

    def test_wrong_client_secret(self) -> None:
        """A wrong secret is the operator's trouble: a plain error in the log, "try again" for the user."""
        for error in ("invalid_client", "unauthorized_client"):
            message = self.unavailable({"error": error, "error_description": "Invalid client"}, 401)
            self.assertIn("check auth.clientId and auth.clientSecret", message)
            self.assertIn(
                f"no tokens from Keycloak: POST {URL}: status 401, '{error}'", self.lines(self.played)
            )

    def test_trouble_at_keycloak(self) -> None:
        """5xx, 429, HTML, redirects and broken JSON are Keycloak being unavailable, never a refusal."""
        cases: list[tuple[object, int]] = [
            ({"error": "invalid_grant"}, 500),
            ({"error": "invalid_grant"}, 503),
            ({"error": "invalid_grant"}, 429),
            ({"error": "invalid_grant"}, 302),
            ({"error": "invalid_grant"}, 200),
            ({"error": 5}, 400),
            ({}, 400),
            ({}, 200),
            ([], 400),
            (b"", 400),
            (b"<html>Bad gateway</html>", 502),
            (b"\xff\xfe", 200),
            (b"[" * 100_000, 200),
        ]
        for body, status in cases:
            self.assertIn(f"status {status}", self.unavailable(body, status))

    def test_down(self) -> None:
        """A Keycloak that went away after the start is unavailable."""
        played = self.play()
        played.server.down = True
        failure = self.failureResultOf(played.realm.refresh("refresh-me"), KeycloakUnavailable)
        self.assertIn("cannot connect", failure.getErrorMessage())

    def test_silent(self) -> None:
        """One that says nothing is given up after 10 s, and after 30 where a token may be spent already."""
        self.played = self.play(prepare=lambda server: server.answers.update({TOKEN: None}))
        realm = self.played.realm
        asked = (
            (10, realm.exchangeCode("c", code_verifier="v", redirect_uri="https://mcp.example/cb")),
            (30, realm.refresh("refresh-me")),
        )
        passed = 0.0
        for seconds, answer in asked:
            self.played.clock.advance(seconds - 0.1 - passed)
            self.assertNoResult(answer)
            self.played.clock.advance(0.1)
            passed = seconds
            self.assertIn(
                f"POST {URL}: no answer within {seconds} s",
                self.failureResultOf(answer, KeycloakUnavailable).getErrorMessage(),
            )

    def test_connection_that_breaks(self) -> None:
        """A connection that breaks in mid-answer is unavailable, and no half token is used."""
        self.played = self.play(prepare=lambda server: server.answers.update({TOKEN: None}))
        answer = self.played.realm.refresh("refresh-me")
        (request,) = self.played.server.open
        request.setHeader(b"Content-Length", b"1000")
        request.write(b'{"access_token": "at.at.at", "token_type": "Bearer"}')
        request.transport.abortConnection()
        self.played.agent.flush()
        failure = self.failureResultOf(answer, KeycloakUnavailable)
        self.assertNotIn("at.at.at", failure.getErrorMessage())

    def test_caller_that_leaves(self) -> None:
        """A browser that goes away ends the exchange; nothing stays on the clock."""
        self.played = self.play(prepare=lambda server: server.answers.update({TOKEN: None}))
        timers = len(self.played.clock.getDelayedCalls())
        answer = self.played.realm.refresh("refresh-me")
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(len(self.played.clock.getDelayedCalls()), timers)
        self.played.agent.flush()
        self.assertEqual(self.played.server.gone, 1)


class Parsing(RealmCase):
    """The pure part."""

    def test_whose_session_it_is(self) -> None:
        """The access token says it; one that says nothing, or nothing usable, is handed on all the same."""
        token = make_token(access_claims())
        response = parse_token_response(Answer(200, {**GOOD, "access_token": token}), url=URL)
        self.assertEqual((response.session, response.issued_at), ("f2a7", NOW))
        self.assertEqual(response.subject, access_claims()["sub"])
        for odd in (None, 5, [], "", "x" * 257):
            token = make_token(access_claims(sid=odd, sub=odd, iat="today"))
            response = parse_token_response(Answer(200, {**GOOD, "access_token": token}), url=URL)
            self.assertEqual((response.session, response.subject, response.issued_at), (None, None, None))

    def test_odd_members(self) -> None:
        """Members of the wrong type, and oversized ones, are as good as absent."""
        for changes in (
            {
                "expires_in": "300",
                "refresh_expires_in": -1,
                "scope": ["a"],
                "id_token": 5,
                "refresh_token": "",
            },
            {"expires_in": True, "refresh_expires_in": 1.5, "scope": "", "id_token": "x" * (MAX_TOKEN + 1)},
        ):
            body = {**GOOD, "refresh_token": None, **changes}
            self.assertEqual(
                parse_token_response(Answer(200, body), url=URL), TokenResponse("at.at.at"), changes
            )
        for token in (None, "", 5, "x" * (MAX_TOKEN + 1)):
            answer = Answer(200, {**GOOD, "access_token": token})
            self.assertRaises(KeycloakUnavailable, parse_token_response, answer, url=URL)

    def test_repr_of_an_answer(self) -> None:
        """An answer in a traceback shows its status alone."""
        self.assertEqual(repr(Answer(200, GOOD)), "Answer(status=200)")

    @given(
        st.integers(100, 599),
        st.dictionaries(
            st.sampled_from([*GOOD, "error", "error_description"]),
            st.none() | st.integers() | st.text() | st.lists(st.text()) | st.just("Bearer"),
        ),
    )
    def test_arbitrary_answers(self, status: int, changes: dict[str, Any]) -> None:
        """Whatever comes back is tokens, Keycloak's refusal or unavailability, with a bounded message."""
        try:
            found = parse_token_response(Answer(status, {**GOOD, **changes}), url=URL)
        except (KeycloakRefused, KeycloakUnavailable) as error:
            self.assertLess(len(str(error)), 2000)
        else:
            self.assertEqual(status, 200)
            self.assertTrue(found.access_token)
