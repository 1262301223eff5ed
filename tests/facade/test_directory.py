"""Clients that did not register here: by their metadata document, or by the operator's hand."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError
from mcp_oauth2_proxy.cimd.library import RETRY
from mcp_oauth2_proxy.cimd.pinned import PINNED
from mcp_oauth2_proxy.config.model import Cimd, Registration, Secret, StaticClient
from mcp_oauth2_proxy.facade.assertions import ASSERTION_TYPE
from mcp_oauth2_proxy.facade.documents import read_document
from tests.facade.world import BASE, CALLBACK, START, VERIFIER, Browser, Registered, Response, World
from tests.support.keys import make_token, rsa_key

URL = "https://app.example/oauth/client.json"
JWKS = "https://app.example/oauth/jwks.json"
APP = Registered(URL, None, CALLBACK)


class Documents(SynchronousTestCase):
    """What a document must say."""

    def client(self, **members: Any) -> Any:
        return read_document(URL, {"client_id": URL, "redirect_uris": [CALLBACK], **members})

    def refused(self, **members: Any) -> str:
        return str(self.assertRaises(ValueError, self.client, **members))

    def test_the_least(self) -> None:
        """Its own URL and one redirect URI; a client that says no more is a public one."""
        client = self.client()
        self.assertEqual((client.client_id, client.redirect_uris), (URL, (CALLBACK,)))
        self.assertTrue(client.is_public)
        self.assertEqual(client.publisher, "app.example")
        self.assertEqual(client.grants, ("authorization_code", "refresh_token"))

    def test_methods(self) -> None:
        """``none`` and ``private_key_jwt``, one or both; without keys to be found only ``none`` is left."""
        both = {"token_endpoint_auth_methods_supported": ["none", "private_key_jwt", "client_secret_basic"]}
        signing = {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": JWKS}
        for members, public, signs in (
            ({"token_endpoint_auth_method": "none"}, True, False),
            (signing, False, True),
            ({**signing, **both}, True, True),
            ({**both}, True, False),
            ({**both, "token_endpoint_auth_method": "private_key_jwt"}, True, False),
        ):
            client = self.client(**members)
            self.assertEqual((client.is_public, client.signs), (public, signs), members)

    def test_refused(self) -> None:
        """What breaks a rule, with a word about it."""
        for members, said in (
            ({"client_id": URL + "/"}, "not its own URL"),
            ({"client_id": None}, "not its own URL"),
            ({"client_secret": "x"}, "would be public"),
            ({"client_secret_expires_at": 0}, "would be public"),
            ({"redirect_uris": []}, "no redirect URI that is allowed"),
            ({"redirect_uris": ["javascript:alert(1)", "http://h/"]}, "no redirect URI that is allowed"),
            ({"redirect_uris": "https://h/"}, "must be a list"),
            ({"grant_types": ["client_credentials"]}, "must contain authorization_code"),
            (
                {"token_endpoint_auth_method": "client_secret_basic"},
                "offers neither none nor private_key_jwt",
            ),
            ({"token_endpoint_auth_method": "private_key_jwt"}, "offers neither"),
            (
                {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}, "jwks_uri": JWKS},
                "offers neither",
            ),
            ({"client_name": 7}, "client_name must be a string"),
        ):
            self.assertIn(said, self.refused(**members), members)

    def test_bad_redirect_uris_among_good_ones(self) -> None:
        """One that the rules forbid is never led to; the others stand."""
        client = self.client(redirect_uris=["javascript:alert(1)", CALLBACK, "https://h/#f"])
        self.assertEqual(client.redirect_uris, (CALLBACK,))

    def test_the_built_in_copies(self) -> None:
        """Each is a document that the rules accept."""
        self.assertGreater(len(PINNED), 5)
        for url, document in PINNED.items():
            client = read_document(url, document)
            self.assertEqual(len(client.redirect_uris), len(document["redirect_uris"]), url)
            self.assertTrue(client.is_public, url)


class ByDocument(SynchronousTestCase):
    """The flow of a client whose ``client_id`` is a URL."""

    def setUp(self) -> None:
        self.world = World()

    def refused_page(self, status: int = 400, client: Registered = APP, **changes: str) -> Response:
        answer = Browser(self.world).get(self.world.authorize_url(client, **changes))
        self.assertEqual(answer.code, status, answer.text)
        self.assertFalse(answer.headers.hasHeader("Location"))
        return answer

    def test_advertised(self) -> None:
        """Clients choose it where both members are there."""
        document = self.world.request("GET", "/.well-known/oauth-authorization-server").json
        self.assertIs(document["client_id_metadata_document_supported"], True)
        self.assertIn("none", document["token_endpoint_auth_methods_supported"])
        self.assertIn("private_key_jwt", document["token_endpoint_auth_methods_supported"])
        self.assertIn("RS256", document["token_endpoint_auth_signing_alg_values_supported"])
        self.assertNotIn("HS256", document["token_endpoint_auth_signing_alg_values_supported"])

    def test_the_whole_flow(self) -> None:
        """No registration: consent names the publisher, and the tokens come; one fetch serves it all."""
        self.world.documents.publish(URL, client_name="Example App")
        browser = Browser(self.world)
        page = browser.get(self.world.authorize_url(APP))
        self.assertIn("Example App", page.text)
        self.assertIn("app.example", page.text)
        code = self.world.code_for(APP, browser)
        tokens = self.world.redeem(APP, code).json
        self.assertIn("access_token", tokens)
        self.assertEqual(self.world.refresh(APP, tokens["refresh_token"]).code, 200)
        self.assertEqual(self.world.documents.asked, [URL])

    def test_loopback_ports(self) -> None:
        """A published loopback URI stands for every port, as a registered one does."""
        self.world.documents.publish(URL, redirect_uris=["http://127.0.0.1/callback"])
        client = Registered(URL, None, "http://localhost:59656/callback")
        code = self.world.code_for(client)
        self.assertEqual(self.world.redeem(client, code).code, 200)

    def test_another_redirect_uri(self) -> None:
        """What the document does not list is never led to."""
        self.world.documents.publish(URL)
        self.refused_page(redirect_uri="https://evil.example/cb")

    def test_no_document(self) -> None:
        """No document, a bad one or a forbidden URL: a page, which tells nothing about the network."""
        self.world.documents.answers[URL] = FetchError("app.example resolves to 10.0.0.7")
        self.assertNotIn("10.0.0.7", self.refused_page(503).text)
        self.world.clock.advance(RETRY)
        self.world.documents.publish(URL, client_id="https://evil.example/")
        self.assertIn("client_document_refused", self.refused_page().text)
        self.world.clock.advance(RETRY)
        del self.world.documents.answers[URL]
        self.refused_page()
        asked = len(self.world.documents.asked)
        for url in ("https://127.0.0.1/c", "https://app.example:8443/c", "https://app.example"):
            self.refused_page(client=Registered(url, None, CALLBACK))
        self.assertEqual(len(self.world.documents.asked), asked, "these are not even asked for")

    def test_at_the_token_endpoint(self) -> None:
        """A document that is gone is an unknown client; one that cannot be fetched is a matter of time."""
        form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": URL}
        answer = self.world.request("POST", "/oauth/token", form=form)
        self.assertEqual((answer.code, answer.json["error"]), (401, "invalid_client"))
        self.world.clock.advance(RETRY)
        self.world.documents.answers[URL] = FetchError("status 500")
        answer = self.world.request("POST", "/oauth/token", form=form)
        self.assertEqual((answer.code, answer.json["error"]), (503, "temporarily_unavailable"))
        self.assertTrue(answer.headers.hasHeader("Retry-After"))

    def test_pinned_copies(self) -> None:
        """A bot check in front of a well-known client's document costs nobody the login."""
        url = "https://claude.ai/oauth/mcp-oauth-client-metadata"
        self.world.documents.answers[url] = FetchError("status 403")
        client = Registered(url, None, "https://claude.ai/api/mcp/auth_callback")
        self.assertEqual(self.world.redeem(client, self.world.code_for(client)).code, 200)

    def test_policy(self) -> None:
        """Off means off, and only the hosts that the operator names; a built-in copy is no way round."""
        url = "https://claude.ai/oauth/mcp-oauth-client-metadata"
        for cimd in (Cimd(enabled=False), Cimd(allowed_hosts=("app.example",))):
            self.world = World(changes={"cimd": cimd})
            self.world.documents.answers[url] = FetchError("status 403")
            self.refused_page(client=Registered(url, None, "https://claude.ai/api/mcp/auth_callback"))
            self.assertEqual(self.world.documents.asked, [])
        document = World(changes={"cimd": Cimd(enabled=False)}).request(
            "GET", "/.well-known/oauth-authorization-server"
        )
        self.assertIs(document.json["client_id_metadata_document_supported"], False)
        self.assertNotIn("private_key_jwt", document.json["token_endpoint_auth_methods_supported"])

    def test_denied_places(self) -> None:
        """The operator's lists hold for documents too."""
        self.world = World(changes={"allowed_redirects": ("loopback",)})
        self.world.documents.publish(URL)
        self.assertIn("redirect_uri_denied", self.refused_page().text)


class Signed(SynchronousTestCase):
    """``private_key_jwt`` at the token endpoint."""

    def setUp(self) -> None:
        self.world = World()
        self.world.documents.publish(URL, token_endpoint_auth_method="private_key_jwt", jwks_uri=JWKS)
        self.publish_keys("one")
        self._serial = 0

    def publish_keys(self, *names: str) -> None:
        self.world.documents.answers[JWKS] = Fetched({"keys": [rsa_key(name).jwk() for name in names]}, 3600)

    def assertion(self, key: str = "one", **changes: Any) -> str:
        self._serial += 1
        now = int(self.world.clock.seconds())
        claims = {
            **{"iss": URL, "sub": URL, "aud": f"{BASE}/oauth/token"},
            **{"exp": now + 60, "iat": now, "jti": str(self._serial)},
            **changes,
        }
        return make_token(claims, rsa_key(key))

    def redeem(self, code: str, assertion: str | None, **more: str) -> Response:
        signed = (
            {}
            if assertion is None
            else {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        )
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, **signed, **more}
        return self.world.request("POST", "/oauth/token", form=form)

    def test_proven(self) -> None:
        """An assertion redeems the code, with or without ``client_id`` beside it."""
        for more in ({}, {"client_id": URL}):
            answer = self.redeem(self.world.code_for(APP), self.assertion(), **more)
            self.assertEqual(answer.code, 200, answer.text)

    def test_not_proven(self) -> None:
        """Nothing, a stranger's signature, another method or two at once redeem nothing, and burn nothing."""
        code = self.world.code_for(APP)
        basic = {"Authorization": "Basic " + "aHR0cHM6Ly94Og=="}
        stranger = self.assertion("stranger")
        for answer, error in (
            (self.redeem(code, None, client_id=URL), "invalid_client"),
            (self.redeem(code, None, client_id=URL, client_secret="x"), "invalid_client"),
            (self.redeem(code, stranger, client_id=URL), "invalid_client"),
            (self.redeem(code, self.assertion(iss="https://evil.example/c")), "invalid_client"),
            (self.redeem(code, self.assertion(), client_secret="x"), "invalid_request"),
            (self.redeem(code, "nonsense"), "invalid_client"),
            (self.redeem(code, self.assertion(), client_assertion_type="x"), "invalid_client"),
            (
                self.world.request(
                    "POST",
                    "/oauth/token",
                    headers=basic,
                    form={"client_assertion": self.assertion(), "client_assertion_type": ASSERTION_TYPE},
                ),
                "invalid_request",
            ),
        ):
            self.assertEqual(answer.json["error"], error, answer.text)
        self.assertEqual(self.redeem(code, self.assertion()).code, 200)

    def test_once(self) -> None:
        """An assertion that was overheard is worth nothing, on any replica that shares the store."""
        assertion = self.assertion()
        self.assertEqual(self.redeem(self.world.code_for(APP), assertion).code, 200)
        again = self.redeem(self.world.code_for(APP), assertion)
        self.assertEqual((again.code, again.json["error"]), (401, "invalid_client"))
        self.assertIn("used before", again.json["error_description"])

    def test_rotated_keys(self) -> None:
        """A new key is fetched when it is met, and at most once a minute."""
        self.assertEqual(self.redeem(self.world.code_for(APP), self.assertion()).code, 200)
        self.publish_keys("two")
        self.world.clock.advance(61)
        self.assertEqual(self.redeem(self.world.code_for(APP), self.assertion("two")).code, 200)
        asked = self.world.documents.asked.count(JWKS)
        for _ in range(3):
            self.assertEqual(self.redeem("x", self.assertion("three")).json["error"], "invalid_client")
        self.assertEqual(self.world.documents.asked.count(JWKS), asked)

    def test_keys_that_cannot_be_fetched(self) -> None:
        """The client is not to blame: 503."""
        self.world.documents.answers[JWKS] = FetchError("status 500")
        answer = self.redeem("x", self.assertion())
        self.assertEqual((answer.code, answer.json["error"]), (503, "temporarily_unavailable"))

    def test_keys_in_the_document(self) -> None:
        """``jwks`` in place of ``jwks_uri``."""
        self.world.documents.publish(
            URL,
            token_endpoint_auth_method="private_key_jwt",
            jwks={"keys": [rsa_key("inline").jwk()]},
        )
        self.assertEqual(self.redeem(self.world.code_for(APP), self.assertion("inline")).code, 200)

    def test_both_methods(self) -> None:
        """A client that offers ``none`` too may come without an assertion; a bad one is still refused."""
        self.world.documents.publish(
            URL,
            token_endpoint_auth_method="private_key_jwt",
            token_endpoint_auth_methods_supported=["none", "private_key_jwt"],
            jwks_uri=JWKS,
        )
        code = self.world.code_for(APP)
        self.assertEqual(self.redeem(code, self.assertion("stranger")).code, 401)
        self.assertEqual(self.redeem(code, None, client_id=URL).code, 200)

    def test_clients_without_keys(self) -> None:
        """A registered client cannot prove itself by an assertion."""
        client = self.world.register()
        answer = self.redeem("x", self.assertion(iss=client.client_id), client_id=client.client_id)
        self.assertEqual((answer.code, answer.json["error"]), (401, "invalid_client"))


class ByTheOperator(SynchronousTestCase):
    """``auth.clients`` and ``auth.registration``."""

    def world(self, **changes: Any) -> World:
        return World(changes=changes)

    def test_static_clients(self) -> None:
        """A public and a confidential one; the lists for others do not hold for them."""
        secret = "a secret of some length"
        world = self.world(
            clients=(
                StaticClient("inspector", ("http://localhost:6274/oauth/callback",), name="MCP Inspector"),
                StaticClient("portal", (CALLBACK,), Secret(secret)),
            ),
            registration=Registration.OFF,
            denied_redirects=("*.example", "client.example"),
        )
        inspector = Registered("inspector", None, "http://127.0.0.1:7000/oauth/callback")
        page = Browser(world).get(world.authorize_url(inspector))
        self.assertIn("MCP Inspector", page.text)
        self.assertEqual(world.redeem(inspector, world.code_for(inspector)).code, 200)
        portal = Registered("portal", secret, CALLBACK)
        code = world.code_for(portal)
        for wrong in ("wrong", ""):
            answer = world.redeem(portal, code, client_secret=wrong)
            self.assertEqual((answer.code, answer.json["error"]), (401, "invalid_client"))
        self.assertEqual(world.redeem(portal, code).code, 200)
        public = world.redeem(inspector, world.code_for(inspector), client_secret="anything")
        self.assertEqual(public.json["error"], "invalid_client")
        self.assertEqual(world.redeem(Registered("nobody", None, CALLBACK), "x").code, 401)

    def test_registration_off(self) -> None:
        """Not advertised, and refused in words."""
        world = self.world(registration=Registration.OFF)
        document = world.request("GET", "/.well-known/oauth-authorization-server").json
        self.assertNotIn("registration_endpoint", document)
        answer = world.post_json("/oauth/register", {"redirect_uris": [CALLBACK]})
        self.assertEqual((answer.code, answer.json["error"]), (403, "access_denied"))

    def test_registration_by_token(self) -> None:
        """The initial access token, exactly (RFC 7591 section 3)."""
        token = "an initial access token"
        world = self.world(registration=Registration.TOKEN, registration_token=Secret(token))
        body = json.dumps({"redirect_uris": [CALLBACK]}).encode()

        def register(*authorization: str) -> Response:
            headers = {"Content-Type": "application/json"}
            if authorization:
                headers["Authorization"] = authorization[0]
            return world.request("POST", "/oauth/register", headers=headers, body=body)

        self.assertEqual(register(f"Bearer {token}").code, 201)
        for given in ([], ["Bearer "], ["Bearer wrong"], [token], [f"Basic {token}"], [f"Bearer {token}x"]):
            answer = register(*given)
            self.assertEqual((answer.code, answer.json["error"]), (401, "invalid_token"), given)
            self.assertIn("Bearer", (answer.headers.getRawHeaders("WWW-Authenticate") or [""])[0])
            self.assertNotIn(token, answer.text)

    def test_lists(self) -> None:
        """Places that the operator does not want are left out of a registration, and refused when alone."""
        world = self.world(allowed_redirects=("loopback", "client.example"), denied_redirects=("cursor://",))
        uris = ["cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost:8787/callback", CALLBACK]
        answer = world.post_json("/oauth/register", {"redirect_uris": uris})
        self.assertEqual(answer.json["redirect_uris"], uris[1:])
        answer = world.post_json("/oauth/register", {"redirect_uris": uris[:1]})
        self.assertEqual((answer.code, answer.json["error"]), (400, "invalid_redirect_uri"))

    def test_lists_that_came_later(self) -> None:
        """A registration from before the list was made leads nowhere any more."""
        client = self.world().register()
        later = self.world(denied_redirects=("client.example",))
        later.clock.advance(10)
        self.assertEqual(START + 10, later.clock.seconds())
        answer = Browser(later).get(later.authorize_url(client))
        self.assertEqual(answer.code, 400)
        self.assertIn("redirect_uri_denied", answer.text)
