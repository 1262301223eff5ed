"""What the log says of a refusal: what was expected and what came, once, under the person's reference."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.fetch import FetchError
from mcp_oauth2_proxy.config.model import GateSettings
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from mcp_oauth2_proxy.ops.logs import log_observer
from tests.facade.world import BASE, CALLBACK, Browser, Registered, Response, World

URL = "https://app.example/c.json"


class LogLines(SynchronousTestCase):
    """Each trouble that people report most."""

    def setUp(self) -> None:
        self.stream = StringIO()
        observer = log_observer("INFO", "json", self.stream)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.world = World()
        self.browser = Browser(self.world)
        self.client = self.world.register()

    def refusal(self, act: Callable[[], Response]) -> str:
        """Return the one line that ``act`` makes the log say, which has the answer's reference."""
        before = len(self.stream.getvalue())
        answer = act()
        self.assertGreaterEqual(answer.code, 400 if not answer.headers.hasHeader("Location") else 300)
        lines = [json.loads(line) for line in self.stream.getvalue()[before:].splitlines()]
        refusals = [line["message"] for line in lines if " refused: " in line["message"]]
        self.assertEqual(len(refusals), 1, lines)
        reference = re.search(r"ref=(\w+)", refusals[0])
        assert reference is not None
        shown = answer.text + "".join(answer.headers.getRawHeaders("Location") or [])
        self.assertIn(reference[1], shown)
        return refusals[0]

    def assert_says(self, line: str, *parts: str) -> None:
        for part in parts:
            self.assertIn(part, line)

    def authorize(self, client: Registered | None = None, **changes: str) -> Callable[[], Response]:
        return lambda: self.browser.get(self.world.authorize_url(client or self.client, **changes))

    def test_another_redirect_uri(self) -> None:
        """Both places, without what may be a secret in the query."""
        line = self.refusal(self.authorize(redirect_uri="https://evil.example/cb?session=s3cret"))
        self.assert_says(
            line, "redirect_uri_mismatch", "asked for evil.example", "registered for client.example"
        )
        self.assertNotIn("s3cret", line)

    def test_another_resource(self) -> None:
        """Where tokens are for, and what was asked for."""
        line = self.refusal(self.authorize(resource="https://other.example/mcp"))
        self.assert_says(line, "resource_foreign", f"expected {BASE}", "got https://other.example/mcp")

    def test_an_expired_client(self) -> None:
        """Its age, and how long it was good for."""
        self.world.clock.advance(86401)
        line = self.refusal(self.authorize())
        self.assert_says(line, "client_expired", "86401 s old", "good for 86400 s")

    def test_a_document(self) -> None:
        """Why it could not be had: for the log alone."""
        self.world.documents.answers[URL] = FetchError("app.example resolves to 10.0.0.7, where ...")
        line = self.refusal(self.authorize(Registered(URL, None, CALLBACK)))
        self.assert_says(line, "client_document_unavailable", URL, "resolves to 10.0.0.7")

    def test_lost_cookies(self) -> None:
        """Which cookie it was that did not come."""
        page = self.authorize()()
        line = self.refusal(lambda: Browser(self.world).decide(page))
        self.assert_says(line, "consent_other_browser", "__Host-", "is missing")
        leaving = self.browser.decide(page)
        back = self.world.realm.answer_to(leaving.location)
        line = self.refusal(lambda: Browser(self.world).get(back))
        self.assert_says(line, "state_other_browser", "its cookie is missing")

    def test_another_issuer(self) -> None:
        """Both issuers."""
        leaving = self.browser.decide(self.authorize()())
        back = self.world.realm.answer_to(leaving.location, iss="https://evil.example/realms/x")
        line = self.refusal(lambda: self.browser.get(back))
        self.assert_says(
            line, "callback_issuer", "expected https://auth.example.com", "got https://evil.example"
        )

    def test_keycloaks_own_words(self) -> None:
        """The error that Keycloak answered with."""
        leaving = self.browser.decide(self.authorize()())
        back = self.world.realm.answer_to(
            leaving.location, error="invalid_scope", error_description="Invalid scopes: nonsense"
        )
        line = self.refusal(lambda: self.browser.get(back))
        self.assert_says(line, "login_refused", "invalid_scope: Invalid scopes: nonsense")

    def test_keycloak_down(self) -> None:
        """What was asked and what came."""
        code = self.world.code_for(self.client)
        token = self.world.redeem(self.client, code).json["refresh_token"]
        self.world.realm.failure = KeycloakUnavailable("POST https://auth.example.com/token: status 502")
        line = self.refusal(lambda: self.world.refresh(self.client, token))
        self.assert_says(line, "keycloak_unavailable", "POST https://auth.example.com/token: status 502")
        self.assertNotIn(token[:20], self.stream.getvalue())

    def test_a_logout_token(self) -> None:
        """Which rule it broke, and nothing of the token."""
        form = {"logout_token": "forged.secret.token"}
        line = self.refusal(lambda: self.world.request("POST", "/oauth/backchannel-logout", form=form))
        self.assert_says(line, "logout_token_refused", "iss is not the realm")
        self.assertNotIn("secret", self.stream.getvalue())

    def test_tokens_that_outlive_logouts(self) -> None:
        """The operator is told, once, which two settings do not fit together."""
        world = World(gate=GateSettings(remember_logouts=200.0))
        client = world.register()
        for _ in range(2):
            self.assertEqual(world.redeem(client, world.code_for(client)).code, 200)
        said = [line for line in self.stream.getvalue().splitlines() if "gate.rememberLogouts" in line]
        self.assertEqual(len(said), 1)
        self.assert_says(said[0], "300 s", "200 s")
