"""The authorization-code flow in memory: discovery, registration, consent, login, code, tokens."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, quote_plus, urlsplit

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.config.model import Consent
from mcp_oauth2_proxy.facade.grants import challenge_of
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakRefused, KeycloakUnavailable
from mcp_oauth2_proxy.stores.interfaces import IStore
from tests.facade.world import BASE, CALLBACK, ISSUER, VERIFIER, Browser, Registered, Response, World


class StandIns(SynchronousTestCase):
    """The test's own realm and store keep the interfaces that the real ones keep."""

    def test_interfaces(self) -> None:
        """Nothing is tested against a shape that does not exist."""
        world = World()
        verifyObject(IRealm, world.realm)
        verifyObject(IStore, world.store)


class Discovery(SynchronousTestCase):
    """What a client reads before anything else."""

    def setUp(self) -> None:
        self.world = World()

    def test_every_variant_is_a_document_or_a_json_404(self) -> None:
        """Whichever well-known URL a client tries, it reads JSON, and never a 401 or a 5xx."""
        for path, code in (
            ("oauth-protected-resource", 200),
            ("oauth-protected-resource/", 200),
            ("oauth-protected-resource/mcp", 200),
            ("oauth-protected-resource/a/b?x=1", 200),
            ("oauth-authorization-server", 200),
            ("openid-configuration", 200),
            ("oauth-authorization-server/mcp", 200),
            ("openid-configuration/mcp", 200),
            ("something-else", 404),
            ("", 404),
        ):
            response = self.world.request("GET", f"/.well-known/{path}")
            self.assertEqual(response.code, code, path)
            self.assertEqual(response.header("Content-Type"), "application/json", path)
            self.assertIsInstance(response.json, dict)

    def test_the_chain(self) -> None:
        """Resource, its authorization server, and that server's endpoints lead to one another."""
        resource = self.world.request("GET", "/.well-known/oauth-protected-resource/mcp").json
        self.assertEqual(resource["resource"], f"{BASE}/mcp")
        self.assertEqual(resource["authorization_servers"], [BASE])
        server = self.world.request("GET", "/.well-known/oauth-authorization-server").json
        self.assertEqual(server["issuer"], BASE)

    def test_issuer_with_a_path(self) -> None:
        """A base URL with a path has its documents at the suffix, and at the root behind an ingress."""
        world = World(changes={"base_url": f"{BASE}/p"})
        for path in ("oauth-authorization-server/p", "oauth-authorization-server"):
            document = world.request("GET", f"/.well-known/{path}").json
            self.assertEqual(document["issuer"], f"{BASE}/p")
        document = world.request("GET", "/.well-known/oauth-protected-resource/p/mcp").json
        self.assertEqual(document["resource"], f"{BASE}/p/mcp")

    def test_head_and_other_methods(self) -> None:
        """HEAD has the same head and no body; other methods hear which are allowed."""
        head = self.world.request("HEAD", "/.well-known/oauth-protected-resource")
        self.assertEqual((head.code, head.body), (200, b""))
        self.assertTrue(int(head.header("Content-Length")) > 0)
        post = self.world.request("POST", "/.well-known/oauth-protected-resource", body=b"")
        self.assertEqual((post.code, post.header("Allow")), (405, "GET, HEAD"))
        get = self.world.request("GET", "/oauth/token")
        self.assertEqual((get.code, get.header("Allow")), (405, "POST"))
        self.assertEqual(get.json["error"], "invalid_request")

    def test_unknown_oauth_urls(self) -> None:
        """What lies beside or below an endpoint is a JSON 404."""
        for path in ("/oauth", "/oauth/", "/oauth/nothing", "/oauth/token/more", "/oauth/token/"):
            self.assertEqual(self.world.request("GET", path).json["error"], "not_found", path)


class RegisterEndpoint(SynchronousTestCase):
    """``POST /oauth/register`` over HTTP."""

    def setUp(self) -> None:
        self.world = World()

    def test_created(self) -> None:
        """201, not to be stored."""
        response = self.world.post_json("/oauth/register", {"redirect_uris": [CALLBACK]})
        self.assertEqual(response.code, 201)
        self.assertEqual(response.header("Cache-Control"), "no-store")
        self.assertEqual(response.json["redirect_uris"], [CALLBACK])

    def test_bad_bodies(self) -> None:
        """Malformed, wrongly typed and oversized bodies are answered by JSON errors."""
        for body, content_type, code, error in (
            (b"{", "application/json", 400, "invalid_client_metadata"),
            (b"[]", "application/json", 400, "invalid_client_metadata"),
            (b"\xff", "application/json", 400, "invalid_client_metadata"),
            (b"{}", "application/json", 400, "invalid_redirect_uri"),
            (b"{}", "text/plain", 400, "invalid_client_metadata"),
            (b" " * (1024 * 1024 + 1), "application/json", 413, "invalid_request"),
        ):
            response = self.world.request(
                "POST", "/oauth/register", headers={"Content-Type": content_type}, body=body
            )
            self.assertEqual((response.code, response.json["error"]), (code, error), body[:10])
            self.assertEqual(response.header("Cache-Control"), "no-store")


class Authorize(SynchronousTestCase):
    """``GET /oauth/authorize``: the question, or a refusal at the right place."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register(client_name="Test Client")
        self.browser = Browser(self.world)

    def test_a_person_is_asked(self) -> None:
        """The consent page names the client and the host; cookies are this host's own."""
        page = self.browser.get(self.world.authorize_url(self.client))
        self.assertEqual(page.code, 200)
        for expected in ("Test Client", "client.example", "mcp:read", "auth.example.com"):
            self.assertIn(expected, page.text)
        cookie = page.header("Set-Cookie")
        self.assertTrue(cookie.startswith("__Host-"))
        # Nothing of a login before consent: no state in the store, no cookie beside the browser's own.
        self.assertEqual(page.headers.getRawHeaders("Set-Cookie"), [cookie])
        self.assertEqual((self.world.store.keys, len(self.browser.cookies)), ([], 1))
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            self.assertIn(attribute, cookie)
        self.assertIn("frame-ancestors 'none'", page.header("Content-Security-Policy"))
        self.assertEqual(page.header("Cache-Control"), "no-store")

    def test_looking_burns_nothing(self) -> None:
        """A program's pre-flight, a HEAD and two GETs of one URL: both pages still work."""
        url = self.world.authorize_url(self.client)
        self.assertEqual(self.world.request("GET", url).code, 200)
        head = self.browser.request("HEAD", url)
        self.assertEqual((head.code, head.body), (200, b""))
        pages = [self.browser.get(url), self.browser.get(url)]
        self.assertEqual(self.world.store.keys, [])
        for page in pages:
            leaving = self.browser.decide(page)
            back = self.browser.get(self.world.realm.answer_to(leaving.location))
            self.assertEqual(self.world.redeem(self.client, back.answer["code"]).code, 200)

    def test_unknown_and_expired_clients_get_a_page(self) -> None:
        """A person is told to add the server again, a program reads JSON; nobody is redirected."""
        stranger = Registered("gAAAAnot-ours", None, CALLBACK)
        response = self.browser.get(self.world.authorize_url(stranger))
        self.assertEqual(response.code, 400)
        self.assertIn("Remove the server in your app and add it again", response.text)
        self.world.clock.advance(86401)
        url = self.world.authorize_url(self.client)
        self.assertIn("has expired", self.browser.get(url).text)
        program = self.world.request("GET", url, headers={"Accept": "application/json"})
        self.assertEqual((program.code, program.json["error"]), (400, "invalid_client"))
        self.assertEqual(program.header("Location"), "")

    def test_foreign_redirect_uris_are_never_followed(self) -> None:
        """Lookalikes of a registered loopback URI end here."""
        client = self.world.register("http://127.0.0.1/cb")
        for uri in (
            "http://localhost.evil.com/cb",
            "http://127.0.0.1@evil.com/cb",
            "http://127.0.0.1/wrong",
            "https://evil.example/cb",
        ):
            response = self.browser.get(self.world.authorize_url(client, redirect_uri=uri))
            self.assertEqual((response.code, response.location), (400, ""), uri)

    def test_loopback_port_and_host_may_differ(self) -> None:
        """The client comes with another port and another loopback name, and gets its code just there."""
        client = self.world.register("http://127.0.0.1/")
        for uri in ("http://127.0.0.1:59656/", "http://localhost:4/"):
            page = self.browser.get(self.world.authorize_url(client, redirect_uri=uri))
            leaving = self.browser.decide(page) if "decision" in page.text else page
            back = self.browser.get(self.world.realm.answer_to(leaving.location))
            self.assertTrue(back.location.startswith(f"{uri}?code="))
            answer = self.world.redeem(client, back.answer["code"], redirect_uri=uri)
            self.assertEqual(answer.code, 200)

    def test_errors_travel_by_redirect_once_the_uri_is_proven(self) -> None:
        """With error, description, state and one iss that is the metadata's issuer."""
        for changes, error in (
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge": None}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"resource": "https://evil.example/mcp"}, "invalid_target"),
        ):
            response = self.world.request("GET", self.world.authorize_url(self.client, **changes))
            self.assertEqual(response.code, 302)
            self.assertTrue(response.location.startswith(CALLBACK))
            answer = response.answer
            self.assertEqual(
                (answer["error"], answer["state"], answer["iss"]), (error, "the-client-state", BASE)
            )

    def test_a_broken_request_leads_nobody_to_a_strange_site(self) -> None:
        """Who registers by itself gets no link of ours that leads a browser on (RFC 9700 section 4.11.2)."""
        elsewhere = "https://login.evil.example/phish"
        browser = Browser(self.world)
        for outage in (None, "discovery failed"):
            self.world.realm.why_unready = outage
            broken = {} if outage else {"code_challenge": None}
            page = browser.get(self.world.authorize_url(self.world.register(elsewhere), **broken))
            self.assertEqual(page.code, 503 if outage else 400)
            self.assertIsNone(page.headers.getRawHeaders("Location"))
            self.assertNotIn("http-equiv", page.text)
            self.assertIn("Back to login.evil.example", page.text)
            self.assertIn(f'href="{elsewhere}?error=', page.text)
            self.assertIn("iss=", page.text)
        # The person's own machine, an app of theirs, and a program that asks, are told at once.
        self.world.realm.why_unready = None
        mine = self.world.register("http://127.0.0.1/cb")
        here = browser.get(self.world.authorize_url(mine, code_challenge=None))
        self.assertEqual(here.code, 302)
        app = self.world.register("cursor://anysphere.cursor-mcp/oauth/callback")
        self.assertIn("http-equiv", browser.get(self.world.authorize_url(app, code_challenge=None)).text)
        program = self.world.register(elsewhere)
        url = self.world.authorize_url(program, code_challenge=None)
        self.assertEqual(self.world.request("GET", url).code, 302)

    def test_no_state_no_state(self) -> None:
        """A client without a state gets an answer without one."""
        url = self.world.authorize_url(self.client, state=None, code_challenge=None)
        self.assertNotIn("state", self.world.request("GET", url).answer)

    def test_the_realm_is_not_ready(self) -> None:
        """The client hears that it is temporary, and can try again."""
        self.world.realm.why_unready = "discovery failed"
        answer = self.world.request("GET", self.world.authorize_url(self.client)).answer
        self.assertEqual(answer["error"], "temporarily_unavailable")

    def test_extra_parameters_are_tolerated(self) -> None:
        """``prompt=select_account``, ``offline_access`` and unknown names do not disturb."""
        url = self.world.authorize_url(
            self.client, prompt="select_account", scope=" openid offline_access mcp:read x", vendor="1"
        )
        self.assertEqual(self.browser.get(url).code, 200)

    def test_bad_queries(self) -> None:
        """Whatever stands in the query, the answer is a 400 page."""
        for query in ("", "client_id=%00", "client_id=%ff", "client_id=a&client_id=b", "client_id=%"):
            response = self.browser.get(f"/oauth/authorize?{query}")
            self.assertEqual(response.code, 400, query)
            self.assertIn("<h1>", response.text)


class ConsentAnswer(SynchronousTestCase):
    """``POST /oauth/consent``."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()
        self.browser = Browser(self.world)
        self.page = self.browser.get(self.world.authorize_url(self.client))

    def test_allow_leads_to_keycloak_by_a_page(self) -> None:
        """The way on has our own state, nonce and PKCE, and only what the client may pass on."""
        response = self.browser.decide(self.page)
        self.assertEqual((response.code, response.header("Location")), (200, ""))
        split = urlsplit(response.location)
        self.assertEqual(f"https://{split.netloc}{split.path}", f"{ISSUER}/auth")
        asked = dict(parse_qsl(split.query))
        self.assertEqual(asked["redirect_uri"], f"{BASE}/oauth/callback")
        self.assertEqual(asked["scope"], "openid mcp:read")
        self.assertEqual(asked["code_challenge_method"], "S256")
        self.assertNotEqual(asked["code_challenge"], challenge_of(VERIFIER))
        self.assertNotEqual(asked["state"], "the-client-state")
        self.assertTrue(len(asked["nonce"]) >= 43)
        self.assertNotIn("resource", asked)

    def test_cancel_leads_back(self) -> None:
        """The client hears access_denied with its state and our iss; Keycloak is not asked."""
        response = self.browser.decide(self.page, "deny")
        self.assertEqual(response.code, 200)
        self.assertTrue(response.location.startswith(CALLBACK))
        answer = response.answer
        self.assertEqual(
            (answer["error"], answer["state"], answer["iss"]), ("access_denied", "the-client-state", BASE)
        )
        self.assertEqual(self.world.store.keys, [])

    def test_another_browser_cannot_answer(self) -> None:
        """A page that somebody else was shown does not work here, with or without cookies of one's own."""
        stranger = Browser(self.world)
        self.assertEqual(stranger.decide(self.page).code, 400)
        stranger.get(self.world.authorize_url(self.client))
        response = stranger.decide(self.page)
        self.assertEqual(response.code, 400)
        self.assertIn("consent_other_browser", response.text)

    def test_forged_old_and_broken_forms(self) -> None:
        """Anything but a fresh page of ours is refused with a page."""
        good = {"request": self.page.sealed_request, "decision": "allow"}
        for form in (
            {"decision": "allow"},
            {"request": good["request"]},
            {**good, "decision": "maybe"},
            {**good, "request": good["request"][:-3]},
            {**good, "request": self.client.client_id},
        ):
            self.assertEqual(self.browser.request("POST", "/oauth/consent", form=form).code, 400)
        other_site = self.browser.request(
            "POST", "/oauth/consent", form=good, headers={"Sec-Fetch-Site": "cross-site"}
        )
        self.assertEqual(other_site.code, 400)
        self.world.clock.advance(601)
        self.assertIn("open for too long", self.browser.decide(self.page).text)

    def test_remembered_once_allowed(self) -> None:
        """The same client, place and scopes go straight on; more scopes or another browser are asked."""
        self.browser.decide(self.page)
        again = self.browser.get(self.world.authorize_url(self.client))
        self.assertEqual(again.code, 302)
        self.assertTrue(again.location.startswith(ISSUER))
        more = self.browser.get(self.world.authorize_url(self.client, scope="openid mcp:read email"))
        self.assertEqual(more.code, 200)
        self.assertEqual(Browser(self.world).get(self.world.authorize_url(self.client)).code, 200)
        self.assertEqual(self.browser.get(self.world.authorize_url(self.world.register())).code, 200)

    def test_cancelling_is_not_remembered_as_consent(self) -> None:
        """Who cancelled is asked again."""
        self.browser.decide(self.page, "deny")
        self.assertEqual(self.browser.get(self.world.authorize_url(self.client)).code, 200)

    def test_always_and_never(self) -> None:
        """``auth.consent`` decides: always asks every time, never goes straight on."""
        always = World(changes={"consent": Consent.ALWAYS})
        client, browser = always.register(), Browser(always)
        browser.decide(browser.get(always.authorize_url(client)))
        self.assertEqual(browser.get(always.authorize_url(client)).code, 200)
        never = World(changes={"consent": Consent.NEVER})
        self.assertEqual(Browser(never).get(never.authorize_url(never.register())).code, 302)

    def test_the_store_or_realm_is_down(self) -> None:
        """A person reads a 503 page and can press the button again."""
        self.world.store.down = True
        response = self.browser.decide(self.page)
        self.assertEqual(response.code, 503)
        self.assertEqual(response.header("Retry-After"), "5")
        self.assertIn("Not available right now", response.text)
        self.world.store.down = False
        self.world.realm.why_unready = "no keys"
        self.assertEqual(self.browser.decide(self.page).code, 503)
        self.world.realm.why_unready = None
        self.assertTrue(self.browser.decide(self.page).location.startswith(ISSUER))

    def test_on_plain_http(self) -> None:
        """A proxy on http://localhost, as in a trial, works with cookies that http allows."""
        world = World(changes={"base_url": "http://localhost:8080"})
        client, browser = world.register(), Browser(world)
        page = browser.get(world.authorize_url(client))
        self.assertNotIn("Secure", page.header("Set-Cookie"))
        self.assertNotIn("__Host-", page.header("Set-Cookie"))
        self.assertTrue(browser.decide(page).location.startswith(ISSUER))

    def test_forward_resource(self) -> None:
        """Only where the operator says so Keycloak hears the resource."""
        world = World(changes={"forward_resource": True})
        client, browser = world.register(), Browser(world)
        page = browser.get(world.authorize_url(client, resource=f"{BASE}/mcp"))
        asked = dict(parse_qsl(urlsplit(browser.decide(page).location).query))
        self.assertEqual(asked["resource"], f"{BASE}/mcp")


class Callback(SynchronousTestCase):
    """``GET /oauth/callback``: back from Keycloak."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()
        self.browser = Browser(self.world)
        self.way = self.depart(self.client)

    def depart(self, client: Registered) -> str:
        """Consent; return the way to Keycloak."""
        page = self.browser.get(self.world.authorize_url(client))
        return self.browser.decide(page).location

    def back(self, **changes: str) -> Response:
        return self.browser.get(self.world.realm.answer_to(self.way, **changes))

    def test_success(self) -> None:
        """The client gets a code of ours, its state and one iss; the login cookie is gone."""
        cookies = set(self.browser.cookies)
        response = self.back()
        self.assertEqual(response.code, 302)
        self.assertTrue(response.location.startswith(CALLBACK))
        self.assertEqual(set(response.answer), {"code", "state", "iss"})
        self.assertEqual((response.answer["state"], response.answer["iss"]), ("the-client-state", BASE))
        self.assertNotIn("kc-code", response.location)
        self.assertEqual(response.header("Cache-Control"), "no-store")
        self.assertEqual(response.header("Referrer-Policy"), "no-referrer")
        self.assertEqual(len(cookies - set(self.browser.cookies)), 1)

    def test_a_foreign_browser_burns_nothing(self) -> None:
        """Who was lured to the callback gets a page; the right browser still arrives."""
        url = self.world.realm.answer_to(self.way)
        stranger = Browser(self.world).get(url)
        self.assertEqual((stranger.code, stranger.location), (400, ""))
        self.assertIn("state_other_browser", stranger.text)
        self.assertEqual(self.world.realm.exchanges, 0)
        self.assertEqual(self.browser.get(url).code, 302)

    def test_once(self) -> None:
        """A reload of the callback does not ask Keycloak again."""
        url = self.world.realm.answer_to(self.way)
        cookies = dict(self.browser.cookies)
        self.browser.get(url)
        self.browser.cookies = cookies
        response = self.browser.get(url)
        self.assertEqual(response.code, 400)
        self.assertIn("state_unknown", response.text)
        self.assertEqual(self.world.realm.exchanges, 1)

    def test_too_late(self) -> None:
        """After sessionTtl the login must be started again."""
        self.world.clock.advance(601)
        self.assertEqual(self.back().code, 400)

    def test_wrong_issuer(self) -> None:
        """An answer of another identity provider is not exchanged, and burns nothing."""
        url = self.world.realm.answer_to(self.way, iss="https://evil.example")
        response = self.browser.get(url)
        self.assertEqual((response.code, self.world.realm.exchanges), (400, 0))
        self.assertNotIn("evil.example", response.text)
        self.assertEqual(self.back().code, 302)

    def test_without_an_issuer(self) -> None:
        """A Keycloak that sends no iss works."""
        self.assertIn("code", self.back(iss="").answer)

    def test_keycloaks_errors_reach_the_client(self) -> None:
        """Cancelling is access_denied; what only the operator can mend is server_error."""
        for error, expected in (
            ("access_denied", "access_denied"),
            ("login_required", "login_required"),
            ("interaction_required", "interaction_required"),
            ("temporarily_unavailable", "temporarily_unavailable"),
            ("invalid_scope", "invalid_scope"),
            ("unauthorized_client", "server_error"),
            ("<b>", "server_error"),
        ):
            self.way = self.browser.get(self.world.authorize_url(self.client)).location
            answer = self.back(error=error).answer
            self.assertEqual(
                (answer["error"], answer["state"], answer["iss"]), (expected, "the-client-state", BASE)
            )

    def test_an_expired_login_page_starts_again_once(self) -> None:
        """Single sign-on usually succeeds then; a second time the client hears it, without a loop."""
        expired = {"error": "temporarily_unavailable", "error_description": "authentication_expired"}
        again = self.back(**expired)
        self.assertTrue(again.location.startswith(f"{ISSUER}/auth"))
        first, self.way = self.way, again.location
        self.assertNotEqual(first, self.way)
        self.assertIn("code", self.back().answer)
        self.way = self.browser.get(self.world.authorize_url(self.client)).location
        self.way = self.back(**expired).location
        self.assertEqual(self.back(**expired).answer["error"], "temporarily_unavailable")

    def test_failed_exchanges(self) -> None:
        """Keycloak down, Keycloak refusing, or a wrong ID token: an error to the client, never a code."""
        for failure, wrong_nonce, error in (
            (KeycloakUnavailable("timeout"), False, "temporarily_unavailable"),
            (KeycloakRefused("invalid_client", "bad secret"), False, "server_error"),
            (None, True, "server_error"),
        ):
            self.world.realm.failure, self.world.realm.wrong_nonce = failure, wrong_nonce
            self.way = self.browser.get(self.world.authorize_url(self.client)).location
            answer = self.back().answer
            self.assertEqual(answer["error"], error)
            self.assertNotIn("code", answer)
            self.assertNotIn("bad secret", json.dumps(answer))

    def test_bad_queries(self) -> None:
        """No state, two states, no code: a page or an error to the client, never a 5xx page."""
        self.assertEqual(self.browser.get("/oauth/callback").code, 400)
        self.assertEqual(self.browser.get("/oauth/callback?state=%ff").code, 400)
        self.assertEqual(self.browser.get("/oauth/callback?state=a&state=b&code=c").code, 400)
        url = self.world.realm.answer_to(self.way, code="")
        self.assertEqual(self.browser.get(url).answer["error"], "server_error")

    def test_the_store_is_down(self) -> None:
        """A 503 page; when it is back, the same answer of Keycloak still works."""
        url = self.world.realm.answer_to(self.way)
        self.world.store.down = True
        self.assertEqual(self.browser.get(url).code, 503)
        self.world.store.down = False
        self.assertIn("code", self.browser.get(url).answer)

    def test_an_apps_scheme_is_reached_by_a_page(self) -> None:
        """``cursor://`` is opened by a page with a link, since browsers do not redirect there from a form."""
        client = self.world.register("cursor://anysphere.cursor-mcp/oauth/callback")
        self.way = self.depart(client)
        response = self.back()
        self.assertEqual((response.code, response.header("Location")), (200, ""))
        self.assertTrue(response.location.startswith("cursor://anysphere.cursor-mcp/oauth/callback?code="))
        self.assertEqual(self.world.redeem(client, response.answer["code"]).code, 200)

    def test_two_tabs(self) -> None:
        """Two logins of one browser at once both finish."""
        other = self.browser.get(self.world.authorize_url(self.client)).location
        self.assertIn("code", self.back().answer)
        self.way = other
        self.assertIn("code", self.back().answer)


class CodeGrantOverHttp(SynchronousTestCase):
    """``POST /oauth/token`` with ``grant_type=authorization_code``."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.register()

    def test_tokens(self) -> None:
        """Keycloak's access token, a sealed refresh token, and headers that forbid storing."""
        response = self.world.redeem(self.client, self.world.code_for(self.client))
        self.assertEqual(response.code, 200)
        self.assertEqual(response.header("Cache-Control"), "no-store")
        self.assertEqual(response.header("Pragma"), "no-cache")
        answer = response.json
        self.assertTrue(answer["access_token"].startswith("kc-access"))
        self.assertEqual((answer["token_type"], answer["expires_in"]), ("Bearer", 300))
        self.assertEqual(answer["scope"], "openid mcp:read")
        self.assertNotIn("kc-refresh", answer["refresh_token"])
        self.assertNotIn("id_token", answer)

    def test_a_code_works_once(self) -> None:
        """The second use is invalid_grant."""
        code = self.world.code_for(self.client)
        self.assertEqual(self.world.redeem(self.client, code).code, 200)
        second = self.world.redeem(self.client, code)
        self.assertEqual((second.code, second.json["error"]), (400, "invalid_grant"))
        self.assertIn("used before", second.json["error_description"])

    def test_attempts_that_fail_burn_nothing(self) -> None:
        """Another client, a wrong verifier or a wrong redirect_uri cannot spoil the code for its owner."""
        code = self.world.code_for(self.client)
        other = self.world.register()
        for response in (
            self.world.redeem(other, code),
            self.world.redeem(self.client, code, code_verifier="w" * 43),
            self.world.redeem(self.client, code, redirect_uri="https://client.example/other"),
        ):
            self.assertEqual((response.code, response.json["error"]), (400, "invalid_grant"))
        self.assertEqual(self.world.redeem(self.client, code).code, 200)

    def test_a_failed_authentication_burns_nothing(self) -> None:
        """Basic with an empty secret is a 401 with a challenge; the body's secret then gets the tokens."""
        client = self.world.register(token_endpoint_auth_method="client_secret_post")
        code = self.world.code_for(client)
        public = Registered(client.client_id, None, client.redirect_uri)
        empty = Registered(client.client_id, "", client.redirect_uri).basic()
        refused = self.world.redeem(public, code, headers=empty)
        self.assertEqual((refused.code, refused.json["error"]), (401, "invalid_client"))
        self.assertTrue(refused.header("WWW-Authenticate").startswith("Basic "))
        self.assertEqual(self.world.redeem(public, code).header("WWW-Authenticate"), "")
        self.assertEqual(self.world.redeem(client, code).code, 200)

    def test_basic(self) -> None:
        """The header alone proves the client, raw or URL-encoded."""
        client = self.world.register(token_endpoint_auth_method="client_secret_basic")
        assert client.secret is not None
        encoded = Registered(quote_plus(client.client_id), quote_plus(client.secret), client.redirect_uri)
        public = Registered(client.client_id, None, client.redirect_uri)
        for header in (client.basic(), encoded.basic()):
            code = self.world.code_for(client)
            self.assertEqual(self.world.redeem(public, code, headers=header).code, 200)

    def test_unknown_and_expired_clients(self) -> None:
        """401 invalid_client, which makes clients register anew; doing so works at once."""
        code = self.world.code_for(self.client)
        self.world.clock.advance(86401)
        for client in (self.client, Registered("unknown", None, CALLBACK)):
            response = self.world.redeem(client, code)
            self.assertEqual((response.code, response.json["error"]), (401, "invalid_client"))
        again = self.world.register()
        self.assertEqual(self.world.redeem(again, self.world.code_for(again)).code, 200)

    def test_too_late(self) -> None:
        """After codeTtl the code is unknown."""
        code = self.world.code_for(self.client)
        self.world.clock.advance(301)
        self.assertEqual(self.world.redeem(self.client, code).json["error"], "invalid_grant")

    def test_expires_in_counts_from_the_answer(self) -> None:
        """A token that waited two minutes is announced with three of its five."""
        code = self.world.code_for(self.client)
        self.world.clock.advance(120)
        self.assertEqual(self.world.redeem(self.client, code).json["expires_in"], 180)

    def test_resource_spellings(self) -> None:
        """The slash may differ between the legs; another resource may not."""
        code = self.world.code_for(self.client, resource=f"{BASE}/mcp")
        wrong = self.world.redeem(self.client, code, resource=f"{BASE}/other")
        self.assertEqual(wrong.json["error"], "invalid_target")
        self.assertEqual(self.world.redeem(self.client, code, resource=f"{BASE}/mcp/").code, 200)

    def test_no_refresh_token_for_who_did_not_register_it(self) -> None:
        """A client with the code grant alone gets no refresh token and cannot refresh."""
        client = self.world.register(grant_types=["authorization_code"])
        answer = self.world.redeem(client, self.world.code_for(client)).json
        self.assertNotIn("refresh_token", answer)
        response = self.world.refresh(client, "x")
        self.assertEqual((response.code, response.json["error"]), (400, "unauthorized_client"))

    def test_a_restart_forgets_no_client(self) -> None:
        """A new process with the same configuration knows the client and its secret."""
        client = self.world.register(token_endpoint_auth_method="client_secret_post")
        restarted = World(clock=self.world.clock)
        self.assertEqual(restarted.redeem(client, restarted.code_for(client)).code, 200)

    def test_bad_requests(self) -> None:
        """Missing, unknown, repeated and malformed things are 4xx JSON by their own code."""
        client_id = self.client.client_id
        form = "application/x-www-form-urlencoded"
        for body, content_type, code, error in (
            (b"", form, 401, "invalid_client"),
            (f"client_id={client_id}".encode(), form, 400, "invalid_request"),
            (f"client_id={client_id}&grant_type=password".encode(), form, 400, "unsupported_grant_type"),
            (f"client_id={client_id}&grant_type=authorization_code".encode(), form, 400, "invalid_request"),
            (f"client_id={client_id}&grant_type=refresh_token".encode(), form, 400, "invalid_request"),
            (b"grant_type=a&grant_type=b", form, 400, "invalid_request"),
            (b"client_id=%00", form, 400, "invalid_request"),
            (b"client_id=\xff", form, 400, "invalid_request"),
            (b"{}", "application/json", 400, "invalid_request"),
            (b"a" * (1024 * 1024 + 1), form, 413, "invalid_request"),
        ):
            response = self.world.request(
                "POST", "/oauth/token", headers={"Content-Type": content_type}, body=body
            )
            self.assertEqual((response.code, response.json["error"]), (code, error), body[-40:])

    def test_the_store_is_down(self) -> None:
        """503, and the code is still good when the store is back."""
        code = self.world.code_for(self.client)
        self.world.store.down = True
        response = self.world.redeem(self.client, code)
        self.assertEqual((response.code, response.json["error"]), (503, "temporarily_unavailable"))
        self.world.store.down = False
        self.assertEqual(self.world.redeem(self.client, code).code, 200)
