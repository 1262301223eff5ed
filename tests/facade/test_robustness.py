"""What attackers and accidents do to the facade: no secret in a log, no 5xx on input, no broken answer."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, TokenResponse
from tests.facade.world import BASE, VERIFIER, Browser, World

ENDPOINTS = ("register", "authorize", "consent", "callback", "token")
FORM = "application/x-www-form-urlencoded"
NAMES = (
    "client_id",
    "client_secret",
    "redirect_uri",
    "response_type",
    "grant_type",
    "code",
    "code_verifier",
    "code_challenge",
    "code_challenge_method",
    "refresh_token",
    "scope",
    "state",
    "resource",
    "iss",
    "error",
    "request",
    "decision",
)


class Logs(SynchronousTestCase):
    """Everything that is logged during a whole session, refusals included."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.see)
        self.addCleanup(globalLogPublisher.removeObserver, self.see)

    def see(self, event: LogEvent) -> None:
        """Keep the line and every field of it."""
        self.lines.append(eventAsText(event, includeTimestamp=False) + repr(event))

    def test_no_secret_is_logged(self) -> None:
        """Codes, states, tokens, secrets, client_ids and cookies are in no line, whatever happens."""
        world = World()
        client = world.register(token_endpoint_auth_method="client_secret_post")
        browser = Browser(world)
        page = browser.get(world.authorize_url(client))
        leaving = browser.decide(page)
        url = world.realm.answer_to(leaving.location)
        Browser(world).get(url)
        back = browser.get(url)
        code = back.answer["code"]
        world.redeem(client, code, client_secret="geheimes-passwort")
        world.redeem(client, code, code_verifier="w" * 43)
        tokens = world.redeem(client, code).json
        world.redeem(client, code)
        form = {**world.refresh_form(client, tokens["refresh_token"]), "client_secret": client.secret or ""}
        world.request("POST", "/oauth/token", form=form)
        world.realm.failure = KeycloakRefused("invalid_grant", "Session not active")
        world.request("POST", "/oauth/token", form={**form, "refresh_token": tokens["refresh_token"][:-2]})
        world.clock.advance(40)
        world.request("POST", "/oauth/token", form=form)
        log = "\n".join(self.lines)
        self.assertIn("client_secret_wrong", log)
        self.assertIn("code_reused", log)
        self.assertIn("state_other_browser", log)
        secrets = [
            client.client_id,
            client.secret or "",
            code,
            tokens["access_token"],
            tokens["refresh_token"],
            "the-client-state",
            "geheimes-passwort",
            VERIFIER,
            "kc-code-1",
            "kc-refresh",
            "kc-secret",
            page.sealed_request,
            url.partition("state=")[2].partition("&")[0],
            *browser.cookies.values(),
        ]
        for secret in secrets:
            self.assertNotIn(secret, log)

    def test_person_and_log_share_a_reference(self) -> None:
        """The reference on the page leads to the log line that says why."""
        world = World()
        page = Browser(world).get("/oauth/authorize?client_id=unknown")
        reference = (
            page.text.partition("<dt>Reference</dt>")[2].partition("<code>")[2].partition("</code>")[0]
        )
        self.assertRegex(reference, r"\A[0-9a-f]{16}\Z")
        line = next(line for line in self.lines if reference in line)
        self.assertIn("client_unknown", line)
        program = world.request("POST", "/oauth/token", form={"client_id": "unknown", "grant_type": "x"})
        self.assertIn("(reference ", program.json["error_description"])


class Accidents(SynchronousTestCase):
    """What should never happen, and what happens then."""

    def test_a_mistake_of_ours_is_a_quiet_500(self) -> None:
        """The answer names the reference and nothing of the inside; the log has the traceback."""
        world = World()
        client = world.register()
        code = world.code_for(client)
        token = world.redeem(client, code).json["refresh_token"]
        world.realm.failure = ZeroDivisionError("inside knowledge")
        response = world.refresh(client, token)
        self.assertEqual((response.code, response.json["error"]), (500, "server_error"))
        self.assertNotIn("inside knowledge", response.text)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        world.realm.failure = None
        self.assertEqual(world.refresh(client, token).code, 200)

    def test_who_leaves_is_not_waited_for(self) -> None:
        """A browser that goes away while Keycloak is asked cancels the question, and no error is logged."""
        world = World()
        client, browser = world.register(), Browser(world)
        leaving = browser.decide(browser.get(world.authorize_url(client)))
        cancelled: list[bool] = []
        pending: Deferred[TokenResponse] = Deferred(lambda _: cancelled.append(True))
        self.patch(world.realm, "exchangeCode", lambda *_, **__: pending)
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        asked = world.start("GET", world.realm.answer_to(leaving.location), headers={"Cookie": cookie})
        asked.addErrback(lambda _: None)
        self.assertEqual(cancelled, [])
        asked.cancel()
        world.settle()
        self.assertEqual(cancelled, [True])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_id_token(self) -> None:
        """A realm that returns no ID token proves nothing: no code."""
        world = World()
        client, browser = world.register(), Browser(world)
        leaving = browser.decide(browser.get(world.authorize_url(client)))
        self.patch(world.realm, "exchangeCode", lambda *_, **__: succeed(TokenResponse("kc-access")))
        answer = browser.get(world.realm.answer_to(leaving.location)).answer
        self.assertEqual(answer["error"], "server_error")


class AnyInput(SynchronousTestCase):
    """Whatever arrives, the answer is below 500 and well formed."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()

    def check(self, method: str, url: str, **options: Any) -> None:
        response = self.world.request(method, url, **options)
        self.assertTrue(200 <= response.code < 500, (method, url, response.code))
        if response.header("Content-Type") == "application/json" and response.body:
            self.assertIsInstance(json.loads(response.body), dict)
        if response.code >= 400:
            self.assertEqual(response.header("Cache-Control"), "no-store")
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.sampled_from(ENDPOINTS), st.binary(max_size=120), st.sampled_from([FORM, "application/json", "x"])
    )
    def test_any_body(self, endpoint: str, body: bytes, content_type: str) -> None:
        """Any bytes under any content type at any endpoint."""
        headers = {"Content-Type": content_type}
        self.check("POST", f"/oauth/{endpoint}", headers=headers, body=body)

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.sampled_from(ENDPOINTS),
        st.dictionaries(
            st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), max_size=30), max_size=8
        ),
        st.sampled_from(["application/json", "text/html"]),
    )
    def test_any_parameters(self, endpoint: str, values: dict[str, str], accept: str) -> None:
        """Known names with any values, in the query and in a form, with a real client."""
        if "client_id" in values:
            values["client_id"] = self.client.client_id
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
        headers = {"Accept": accept}
        self.check("GET", f"/oauth/{endpoint}?{query}", headers=headers)
        self.check("POST", f"/oauth/{endpoint}", headers=headers, form=values)

    @settings(deadline=None, max_examples=100)
    @given(
        st.dictionaries(
            st.sampled_from(["Cookie", "Authorization", "Accept"]),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
        )
    )
    def test_any_headers(self, headers: dict[str, str]) -> None:
        """Strange cookies, credentials and preferences."""
        self.check("GET", self.world.authorize_url(self.client), headers=headers)
        self.check("GET", "/oauth/callback?state=x&code=y", headers=headers)
        form = {"grant_type": "refresh_token", "refresh_token": "x"}
        self.check("POST", "/oauth/token", headers=headers, form=form)

    def test_a_large_registration_goes_all_the_way(self) -> None:
        """The largest client_id that is issued fits every URL, cookie and page of the flow."""
        uris = [f"https://client.example/{number}/".ljust(380, "a") for number in range(20)]
        client = self.world.register(uris[0], redirect_uris=uris, client_name="n" * 200)
        state = "s" * 4000
        page = Browser(self.world).get(self.world.authorize_url(client, state=state))
        self.assertEqual(page.code, 200)
        code = self.world.code_for(client, state=state, resource=f"{BASE}/mcp")
        answer = self.world.redeem(client, code)
        self.assertEqual(answer.code, 200)
        self.assertEqual(self.world.refresh(client, answer.json["refresh_token"]).code, 200)
