"""Points about logins: in memory with a realm that can misbehave, else at the started proxy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable
from tests.clients_real.scene import ClientCase
from tests.e2e.application import CALLBACK as APPLICATION_CALLBACK
from tests.e2e.application import document
from tests.facade.world import BASE, ISSUER, Browser, Response, World
from tests.interop.scene import SocketCase
from tests.keycloak_contract.harness import Pkce
from tests.service.scene import Scene
from tests.support.keycloak import CREDENTIALS as C
from tests.support.program import free_port


class Login(SynchronousTestCase):
    """One client and one person."""

    def setUp(self) -> None:
        self.world = World()
        self.browser = Browser(self.world)
        self.client = self.world.register()

    def asked(self, **changes: str) -> dict[str, str]:
        """Allow the client and return what Keycloak is asked."""
        page = self.browser.get(self.world.authorize_url(self.client, **changes))
        # Who has allowed the client before is not asked again.
        self.leaving = self.browser.decide(page) if "decision" in page.text else page
        return dict(parse_qsl(urlsplit(self.leaving.location).query))

    def back(self, **changes: str) -> Response:
        """Come back from Keycloak with an answer."""
        return self.browser.get(self.world.realm.answer_to(self.leaving.location, **changes))

    def test_keycloak_14_own_pkce_and_nonce(self) -> None:
        """Towards Keycloak the proxy has a challenge and a nonce of its own, and the nonce is checked."""
        asked = self.asked()
        self.assertEqual((asked["code_challenge_method"], len(asked["code_challenge"])), ("S256", 43))
        sent = dict(parse_qsl(urlsplit(self.world.authorize_url(self.client)).query))
        self.assertNotEqual(asked["code_challenge"], sent["code_challenge"])
        self.assertGreater(len(asked["nonce"]), 40)
        self.world.realm.wrong_nonce = True
        self.assertEqual(self.back().answer["error"], "server_error")

    def test_keycloak_15_state(self) -> None:
        """Once, in time, and in the browser that has the cookie from after consent."""
        self.asked()
        url = self.world.realm.answer_to(self.leaving.location)
        self.assertEqual(Browser(self.world).get(url).code, 400)
        self.assertIn("code", self.browser.get(url).answer)
        self.assertEqual(self.browser.get(url).code, 400)
        self.asked()
        self.world.clock.advance(601)
        self.assertEqual(self.back().code, 400)

    def test_keycloak_16_callback_issuer(self) -> None:
        """Another issuer's answer is not exchanged."""
        self.asked()
        self.assertEqual(self.back(iss="https://evil.example/realms/x").code, 400)
        self.assertEqual(self.world.realm.exchanges, 0)

    def test_keycloak_17_consent(self) -> None:
        """Keycloak is reached through the consent page of this very browser, which cannot be framed."""
        page = self.browser.get(self.world.authorize_url(self.client))
        self.assertEqual(page.code, 200)
        self.assertIn(
            "frame-ancestors 'none'", (page.headers.getRawHeaders("Content-Security-Policy") or [""])[0]
        )
        self.assertEqual(Browser(self.world).decide(page).code, 400)
        self.assertEqual(self.browser.decide(page).code, 200)

    def test_keycloak_18_20_errors_and_iss(self) -> None:
        """Keycloak's refusal reaches the client with ``error``, ``state`` and ``iss``; so does success."""
        for changes, error in (
            ({"error": "access_denied"}, "access_denied"),
            ({"error": "login_required"}, None),
        ):
            self.asked()
            answer = self.back(**changes).answer
            self.assertEqual(answer["error"], error or changes["error"])
            self.assertEqual((answer["state"], answer["iss"]), ("the-client-state", BASE))
        self.asked()
        self.assertEqual(self.back().answer["iss"], BASE)

    def test_keycloak_19_an_expired_page(self) -> None:
        """It starts again once, and not in a circle."""
        self.asked()
        expired = {"error": "temporarily_unavailable", "error_description": "authentication_expired"}
        again = self.back(**expired)
        self.assertTrue(again.location.startswith(f"{ISSUER}/auth?"))
        self.leaving = again
        self.assertEqual(self.back(**expired).answer["error"], "temporarily_unavailable")

    def test_keycloak_21_scopes(self) -> None:
        """Blanks, empty and unknown names never reach Keycloak."""
        for scope, expected in (
            ("  openid   mcp:read ", "openid mcp:read"),
            ("unknown mcp:read", "openid mcp:read"),
            ("", "openid"),
        ):
            self.assertEqual(self.asked(scope=scope)["scope"], expected)
            self.browser = Browser(self.world)

    def test_keycloak_22_resource(self) -> None:
        """Judged here; passed on only where the configuration says so."""
        page = self.browser.get(self.world.authorize_url(self.client, resource="https://other.example/"))
        self.assertIn("resource_foreign", page.text)
        self.assertNotIn("resource", self.asked(resource=f"{BASE}/mcp"))
        self.world = World(changes={"forward_resource": True})
        self.browser, self.client = Browser(self.world), self.world.register()
        self.assertEqual(self.asked(resource=f"{BASE}/mcp")["resource"], f"{BASE}/mcp")

    def test_keycloak_23_parameters(self) -> None:
        """Hints pass, everything else stays here."""
        asked = self.asked(
            login_hint="alice",
            kc_idp_hint="corp",
            ui_locales="de",
            kc_action="UPDATE_PASSWORD",
            prompt="none",
        )
        self.assertEqual(
            (asked["login_hint"], asked["kc_idp_hint"], asked["ui_locales"]), ("alice", "corp", "de")
        )
        for name in ("kc_action", "prompt", "request", "request_uri", "acr_values"):
            self.assertNotIn(name, asked)

    def test_keycloak_24_25_26_refresh(self) -> None:
        """Bound to its client; one call for many; errors told apart; the old token kept without a new one."""
        token = self.world.redeem(self.client, self.world.code_for(self.client)).json["refresh_token"]
        stolen = self.world.refresh(self.world.register(), token)
        self.assertEqual((stolen.code, stolen.json["error"]), (400, "invalid_grant"))
        self.world.realm.returns_refresh_token = False
        answers = [self.world.refresh(self.client, token).json for _ in range(10)]
        self.assertEqual(len(self.world.realm.refreshes), 1)
        self.assertEqual(len({answer["access_token"] for answer in answers}), 1)
        kept = answers[0]["refresh_token"]
        for failure, status, error in (
            (KeycloakUnavailable("status 500"), 503, "temporarily_unavailable"),
            (KeycloakRefused("invalid_grant", "Session not active"), 400, "invalid_grant"),
        ):
            self.world.realm.failure = failure
            answer = self.world.refresh(self.client, kept)
            self.assertEqual((answer.code, answer.json["error"]), (status, error))


class Registration(SocketCase):
    """What the facade offers."""

    def test_keycloak_29_registrations(self) -> None:
        """Every method, loopback with any port, Cursor's scheme."""
        for method in ("none", "client_secret_basic", "client_secret_post"):
            found = self.register(
                token_endpoint_auth_method=method,
                redirect_uris=["http://127.0.0.1:5/cb", "cursor://anysphere.cursor-mcp/oauth/callback"],
            )
            self.assertEqual(found["token_endpoint_auth_method"], method)
            self.assertEqual(self.authorize(found, "http://localhost:6/cb").status, 200)

    def test_keycloak_30_metadata(self) -> None:
        """At the root and under the path; ``offline_access`` is no scope of the resource."""
        scene = Scene()
        self.addCleanup(scene.stop)
        proxy = scene.start(auth={"scopesSupported": ["mcp:read", "offline_access"]})
        self.addCleanup(proxy.stop)
        for suffix in ("", "/mcp"):
            found = self.ask("GET", f"/.well-known/oauth-protected-resource{suffix}", proxy=proxy).json
            self.assertEqual(
                (found["resource"], found["scopes_supported"]), (proxy.base_url + suffix, ["mcp:read"])
            )
            found = self.ask("GET", f"/.well-known/oauth-authorization-server{suffix}", proxy=proxy).json
            self.assertIn("offline_access", found["scopes_supported"])
        self.assertNotIn("offline_access", self.ask("GET", "/mcp", proxy=proxy).header("www-authenticate"))


class Deployment(ClientCase):
    """Where Keycloak is, and what its secret is."""

    async def test_keycloak_27_discovery_elsewhere(self) -> None:
        """Reached by another URL than the issuer; a document that names another issuer stops the start."""
        reached = f"{self.issuer}/.well-known/openid-configuration"
        application = self.application(await self.proxy(discoveryUrl=reached, issuerUrl=self.issuer))
        self.assert_initialized(await application.call((await application.log_in())["access_token"]))
        proxy = await self.proxy(
            wait=False, discoveryUrl=reached, issuerUrl="https://id.example/auth/realms/mcp"
        )
        self.assertEqual(await deferToThread(proxy.wait, 30), 2)
        self.assertIn("https://id.example/auth/realms/mcp", proxy.output)
        self.assertIn(self.issuer, proxy.output)

    async def test_keycloak_28_a_secret_in_a_file(self) -> None:
        """Read again when it is used: a rotation at Keycloak needs no restart."""
        path = Path(tempfile.mkdtemp()) / "secret"
        path.write_text("yesterday's secret\n", encoding="utf-8")
        port = free_port()
        proxy = await self.proxy(
            port=port, clientSecret=None, clientSecretFile=str(path), sealingKeys=["k" * 40]
        )
        application = self.application(proxy)
        await application.discover()
        await application.register()
        url = application.authorize_url(Pkce.make(), "the-state")
        refused = await application.browser.log_in(
            url, until=APPLICATION_CALLBACK, username=C.username, password=C.password
        )
        self.assertEqual(refused.parameters["error"], "temporarily_unavailable")
        path.write_text(C.client_secret + "\n", encoding="utf-8")
        arrival, pkce = await application.authorize()
        document(await application.redeem(arrival.parameters["code"], pkce))
