"""The contract, in three parts: what the realm publishes, how a person logs in, what tokens do.

Every test here runs on the embedded identity provider and on a real Keycloak, so that neither the provider's
author nor a new Keycloak can move away unseen.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from twisted.internet.defer import DeferredQueue
from twisted.web.resource import Resource
from twisted.web.server import Request

from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.keycloak.interfaces import LogoutToken
from mcp_oauth2_proxy.keycloak.logouttoken import validate_logout_token
from tests.keycloak_contract.harness import CALLBACK, ContractCase, Pkce, unverified
from tests.support.browser import Answer
from tests.support.keycloak import CREDENTIALS as C
from tests.support.reactor import global_reactor
from tests.support.site import ClosingSite


def scopes(text: str) -> set[str]:
    """Return the scopes of a ``scope`` value: Keycloak gives them in another order at each start.

    Their order has no meaning (RFC 6749 section 3.3).
    """
    listed = text.split(" ")
    if len(set(listed)) != len(listed):
        raise AssertionError(f"a scope is there twice: {text!r}")
    return set(listed)


class Hearing(Resource):
    """Takes logout requests."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: DeferredQueue[tuple[str | None, dict[str, str]]] = DeferredQueue()

    def render_POST(self, request: Request) -> bytes:
        """Note a request, and be content."""
        assert request.content is not None
        form = dict(parse_qsl(request.content.read().decode()))
        self.requests.put((request.getHeader("content-type"), form))
        return b""


#: A program's request: Keycloak shows browsers a page where it tells programs in JSON.
_PROGRAM = {"Accept": "application/json"}


class Published(ContractCase):
    """Discovery and keys."""

    async def test_discovery_names_the_endpoints(self) -> None:
        """The discovery document's issuer is the realm's URL and every endpoint lies under it."""
        found = await self.document(f"{self.issuer}/.well-known/openid-configuration")
        self.assertEqual(found["issuer"], self.issuer)
        for name, path in {
            "authorization_endpoint": "auth",
            "token_endpoint": "token",
            "introspection_endpoint": "token/introspect",
            "jwks_uri": "certs",
            "revocation_endpoint": "revoke",
            "end_session_endpoint": "logout",
        }.items():
            self.assertEqual(found[name], f"{self.endpoints}/{path}")

    async def test_discovery_names_what_is_supported(self) -> None:
        """A client reads there that S256, codes, refresh tokens, secrets and ``iss`` are supported."""
        found = await self.document(f"{self.issuer}/.well-known/openid-configuration")
        self.assertIn("S256", found["code_challenge_methods_supported"])
        self.assertIn("code", found["response_types_supported"])
        self.assertIn("RS256", found["id_token_signing_alg_values_supported"])
        self.assertLessEqual({"authorization_code", "refresh_token"}, set(found["grant_types_supported"]))
        self.assertLessEqual({"openid", "profile", "email", "offline_access"}, set(found["scopes_supported"]))
        self.assertLessEqual(
            {"client_secret_basic", "client_secret_post"}, set(found["token_endpoint_auth_methods_supported"])
        )
        self.assertIs(found["authorization_response_iss_parameter_supported"], True)

    async def test_the_issuer_follows_the_host(self) -> None:
        """Reached as ``localhost``, the realm calls itself ``localhost``: another issuer."""
        named = self.issuer.replace("127.0.0.1", "localhost")
        found = await self.document(f"{named}/.well-known/openid-configuration")
        self.assertEqual(found["issuer"], named)

    async def test_keys_have_a_use(self) -> None:
        """The key set holds RS256 signing keys and an RSA-OAEP encryption key, public halves only."""
        keys = (await self.document(f"{self.endpoints}/certs"))["keys"]
        self.assertLessEqual(
            {("sig", "RS256"), ("enc", "RSA-OAEP")}, {(key["use"], key["alg"]) for key in keys}
        )
        for key in keys:
            self.assertEqual(key["kty"], "RSA")
            self.assertLessEqual({"kid", "n", "e"}, set(key))
            self.assertFalse({"d", "p", "q"} & set(key))

    async def test_rotation_keeps_the_old_key_published(self) -> None:
        """After a rotation new tokens carry a new key id, and the old key is still in the set."""
        before = unverified((await self.tokens())["access_token"])[0]["kid"]
        self.rotate_keys()
        after = unverified((await self.tokens())["access_token"])[0]["kid"]
        published = {key["kid"] for key in (await self.document(f"{self.endpoints}/certs"))["keys"]}
        self.assertNotEqual(before, after)
        self.assertLessEqual({before, after}, published)

    def rotate_keys(self) -> None:
        """Give the realm a new signing key."""
        raise NotImplementedError

    async def test_unknown_realm(self) -> None:
        """A realm that does not exist is a 404 that says so."""
        url = f"{self.issuer}-not/.well-known/openid-configuration"
        answer = await self.browser().request("GET", url, headers=_PROGRAM)
        self.assertEqual((answer.status, json.loads(answer.body)), (404, {"error": "Realm does not exist"}))

    async def test_unknown_path_and_method(self) -> None:
        """An unknown path is a JSON 404, GET at the token endpoint a JSON 405."""
        missing = await self.browser().request("GET", f"{self.issuer}/nothing-here", headers=_PROGRAM)
        self.assertEqual((missing.status, json.loads(missing.body)), (404, {"error": "HTTP 404 Not Found"}))
        wrong = await self.browser().request("GET", f"{self.endpoints}/token", headers=_PROGRAM)
        self.assertEqual(
            (wrong.status, json.loads(wrong.body)), (405, {"error": "HTTP 405 Method Not Allowed"})
        )


class LoggingIn(ContractCase):
    """The authorization endpoint, the form, and the way back."""

    async def test_the_form(self) -> None:
        """The login page is a form with username, password and credentialId, posting back to the realm."""
        answer = await self.browser().request("GET", self.authorize_url(Pkce.make()))
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("content-type"), "text/html;charset=utf-8")
        form = answer.page.forms[0]
        self.assertTrue(form.action.startswith(f"{self.issuer}/login-actions/authenticate?session_code="))
        self.assertEqual({"username", "password", "credentialId"}, set(form.fields))
        self.assertLessEqual({"execution", "client_id", "tab_id"}, set(parse_qs(urlsplit(form.action).query)))

    async def test_cookies_are_the_realms_own(self) -> None:
        """The form's cookie is HttpOnly, Secure even on http, and bound to the realm's path."""
        answer = await self.browser().request("GET", self.authorize_url(Pkce.make()))
        cookie = next(line for line in answer.headers["set-cookie"] if line.startswith("AUTH_SESSION_ID="))
        flags = {flag.strip() for flag in cookie.split(";")[1:]}
        path = urlsplit(self.issuer).path
        self.assertLessEqual({f"Path={path}/", "HttpOnly", "Secure", "SameSite=None"}, flags)

    async def test_login_leads_back_with_a_code(self) -> None:
        """The right password leads to the client with ``code``, its own ``state``, and ``iss``."""
        arrival = await self.log_in(self.browser(), Pkce.make())
        self.assertEqual(set(arrival.parameters), {"code", "state", "iss", "session_state"})
        self.assertEqual(arrival.parameters["state"], "the-state")
        self.assertEqual(arrival.parameters["iss"], self.issuer)
        self.assertTrue(arrival.url.startswith(f"{CALLBACK}?"))

    async def test_no_state_in_no_state_out(self) -> None:
        """A client that sent no ``state`` gets none."""
        arrival = await self.log_in(self.browser(), Pkce.make(), state=None)
        self.assertNotIn("state", arrival.parameters)

    async def test_a_wrong_password_shows_the_form_again(self) -> None:
        """A typing error shows the form again with a message; the next try succeeds."""
        browser = self.browser()
        first = await browser.request("GET", self.authorize_url(Pkce.make()))
        again = await browser.submit(first.page.forms[0], username=C.username, password="wrong")
        self.assertEqual(again.status, 200)
        self.assertIn("Invalid username or password.", again.text)
        done = await browser.submit(again.page.forms[0], username=C.username, password=C.password)
        self.assertEqual(done.status, 302)
        self.assertIn("code=", done.header("location") or "")

    async def test_the_email_address_works_as_username(self) -> None:
        """A person may type the e-mail address instead."""
        arrival = await self.browser().log_in(
            self.authorize_url(Pkce.make()),
            until=CALLBACK,
            username="alice@example.com",
            password=C.password,
        )
        self.assertIn("code", arrival.parameters)

    async def test_single_sign_on_skips_the_form(self) -> None:
        """A browser that is logged in goes straight through, with a new code of the same session."""
        browser = self.browser()
        first = await self.log_in(browser, Pkce.make())
        second = await self.log_in(browser, Pkce.make())
        self.assertEqual([answer.status for answer in second.trail], [302])
        self.assertNotEqual(first.parameters["code"], second.parameters["code"])
        self.assertEqual(first.parameters["session_state"], second.parameters["session_state"])

    async def test_prompt_login_asks_again(self) -> None:
        """``prompt=login`` shows the form although the browser is logged in."""
        browser = self.browser()
        await self.log_in(browser, Pkce.make())
        answer = await browser.request("GET", self.authorize_url(Pkce.make(), prompt="login"))
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.page.forms)

    async def test_prompt_none_asks_nobody(self) -> None:
        """``prompt=none`` without a session is ``login_required``."""
        answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), prompt="none"))
        self.assert_redirect_error(answer, "login_required", None)

    async def test_a_form_without_its_cookies(self) -> None:
        """Posting the form from another browser is a 400 page."""
        first = await self.browser().request("GET", self.authorize_url(Pkce.make()))
        stolen = await self.browser().submit(first.page.forms[0], username=C.username, password=C.password)
        self.assertEqual(stolen.status, 400)
        self.assertIn("Restart login cookie not found.", stolen.text)

    async def test_a_form_that_was_used(self) -> None:
        """Posting a form again (Back, then Enter) tells the client to start again."""
        browser = self.browser()
        first = await browser.request("GET", self.authorize_url(Pkce.make()))
        form = first.page.forms[0]
        await browser.submit(form, username=C.username, password=C.password)
        answer = await browser.submit(form, username=C.username, password=C.password)
        self.assert_redirect_error(answer, "temporarily_unavailable", "authentication_expired")

    async def test_scopes_it_refuses(self) -> None:
        """An unknown scope, a leading space, a double space and an empty value are ``invalid_scope``."""
        for scope in ("openid nonsense", " openid", "openid  email", ""):
            answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), scope=scope))
            self.assert_redirect_error(answer, "invalid_scope", f"Invalid scopes: {scope}")

    async def test_scopes_it_takes(self) -> None:
        """No scope at all, a trailing space, and the optional ones lead to the form."""
        for scope in (None, "openid ", "openid address phone offline_access"):
            answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), scope=scope))
            self.assertEqual(answer.status, 200, scope)

    async def test_requests_it_refuses_at_the_client(self) -> None:
        """With a proven redirect URI the client hears what was wrong."""
        for changes, error, description in (
            ({"response_type": None}, "invalid_request", "Missing parameter: response_type"),
            ({"response_type": "bogus"}, "unsupported_response_type", None),
            ({"code_challenge": "short"}, "invalid_request", "Invalid parameter: code_challenge"),
            (
                {"code_challenge_method": "S257"},
                "invalid_request",
                "Invalid parameter: code_challenge_method",
            ),
        ):
            answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), **changes))
            self.assert_redirect_error(answer, error, description)

    async def test_a_duplicated_parameter(self) -> None:
        """A parameter that comes twice is ``invalid_request``."""
        url = self.authorize_url(Pkce.make()) + "&nonce=second"
        answer = await self.browser().request("GET", url)
        self.assert_redirect_error(answer, "invalid_request", "duplicated parameter")

    async def test_requests_it_refuses_on_a_page(self) -> None:
        """An unknown client or redirect URI is never redirected: the user sees a 400 page."""
        for changes, message in (
            ({"client_id": "nobody"}, "Client not found."),
            ({"redirect_uri": "https://evil.example/"}, "Invalid parameter: redirect_uri"),
            ({"redirect_uri": None}, "Invalid parameter: redirect_uri"),
            ({"client_id": C.other_client_id}, "Invalid parameter: redirect_uri"),
        ):
            answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), **changes))
            self.assertEqual(answer.status, 400)
            self.assertIn(message, answer.text)
            self.assertIsNone(answer.header("location"))

    async def test_any_loopback_port_is_allowed(self) -> None:
        """``http://127.0.0.1:*`` and ``http://localhost:*`` match every port and path."""
        for uri in ("http://127.0.0.1:54321/cb", "http://localhost:1/"):
            answer = await self.browser().request("GET", self.authorize_url(Pkce.make(), redirect_uri=uri))
            self.assertEqual(answer.status, 200)

    def assert_redirect_error(self, answer: Answer, error: str, description: str | None) -> None:
        """The browser is sent to the client with this error, its state and ``iss``."""
        self.assertEqual(answer.status, 302)
        location = answer.header("location") or ""
        self.assertTrue(location.startswith(f"{CALLBACK}?"), location)
        expected = {"error": error, "state": "the-state", "iss": self.issuer}
        if description is not None:
            expected["error_description"] = description
        self.assertEqual(dict(parse_qsl(urlsplit(location).query)), expected)


class Tokens(ContractCase):
    """The token endpoint."""

    async def test_the_answer(self) -> None:
        """A code gives access, refresh and ID token, with their lifetimes, never to be cached."""
        pkce = Pkce.make()
        arrival = await self.log_in(self.browser(), pkce)
        answer = await self.redeem(arrival.parameters["code"], pkce)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("content-type"), "application/json")
        self.assertEqual(answer.header("cache-control"), "no-store")
        self.assertEqual(answer.header("pragma"), "no-cache")
        tokens = json.loads(answer.body)
        for name in ("access_token", "refresh_token", "id_token"):
            self.assertEqual(tokens.pop(name).count("."), 2)
        # A second may pass between the login and the answer.
        for name, lifetime in (("expires_in", 300), ("refresh_expires_in", 1800)):
            self.assertIn(tokens.pop(name), range(lifetime - 10, lifetime + 1), name)
        self.assertEqual(scopes(tokens.pop("scope")), {"openid", "profile", "email"})
        self.assertEqual(
            tokens,
            {
                "token_type": "Bearer",
                "not-before-policy": 0,
                "session_state": arrival.parameters["session_state"],
            },
        )

    async def test_the_access_token(self) -> None:
        """Its header says JWT and RS256; ``typ`` is Bearer, ``azp`` the client, ``aud`` only ``account``."""
        header, claims = unverified((await self.tokens())["access_token"])
        self.assertEqual((header["alg"], header["typ"], set(header)), ("RS256", "JWT", {"alg", "typ", "kid"}))
        self.assertEqual(claims["iss"], self.issuer)
        self.assertEqual(claims["typ"], "Bearer")
        self.assertEqual(claims["azp"], C.client_id)
        self.assertEqual(claims["aud"], "account")
        self.assertEqual(scopes(claims["scope"]), {"openid", "profile", "email"})
        self.assert_lasts(claims, 300)
        self.assertEqual(claims["acr"], "1")
        self.assertTrue(claims["jti"].startswith("onrtac:"))
        self.assertLessEqual({"sub", "sid", "auth_time", "realm_access", "resource_access"}, set(claims))
        self.assertEqual(
            (claims["preferred_username"], claims["name"], claims["email"], claims["email_verified"]),
            ("alice", "Alice Example", "alice@example.com", True),
        )
        self.assertNotIn("nonce", claims)

    async def test_the_id_token(self) -> None:
        """It is a signed JWT of the same realm: ``typ`` ID, ``aud`` the client, with the client's nonce."""
        tokens = await self.tokens(nonce="my-nonce")
        header, claims = unverified(tokens["id_token"])
        _, access = unverified(tokens["access_token"])
        self.assertEqual((header["alg"], header["typ"]), ("RS256", "JWT"))
        self.assertEqual(
            (claims["iss"], claims["aud"], claims["azp"]), (self.issuer, C.client_id, C.client_id)
        )
        self.assertEqual((claims["typ"], claims["nonce"]), ("ID", "my-nonce"))
        self.assertEqual((claims["sub"], claims["sid"]), (access["sub"], access["sid"]))
        self.assertIn("at_hash", claims)

    async def test_the_refresh_token_is_opaque(self) -> None:
        """It is HS512: nobody but the realm can verify it."""
        header, claims = unverified((await self.tokens())["refresh_token"])
        self.assertEqual(header["alg"], "HS512")
        self.assertEqual((claims["typ"], claims["aud"]), ("Refresh", self.issuer))

    async def test_without_openid_there_is_no_id_token(self) -> None:
        """A request without scope gives the default ones and no ID token."""
        tokens = await self.tokens(scope=None)
        self.assertNotIn("id_token", tokens)
        self.assertEqual(scopes(tokens["scope"]), {"profile", "email"})

    async def test_offline_access(self) -> None:
        """``offline_access`` gives a refresh token of ``typ`` Offline that does not expire."""
        tokens = await self.tokens(scope="openid offline_access")
        _, claims = unverified(tokens["refresh_token"])
        self.assertEqual(claims["typ"], "Offline")
        self.assertEqual(tokens["refresh_expires_in"], 0)
        self.assertIn("offline_access", tokens["scope"].split())

    async def test_the_secret_may_come_in_the_body(self) -> None:
        """``client_secret_post`` works like Basic."""
        pkce = Pkce.make()
        arrival = await self.log_in(self.browser(), pkce)
        answer = await self.redeem(
            arrival.parameters["code"],
            pkce,
            auth=None,
            client_id=C.client_id,
            client_secret=C.client_secret,
        )
        self.assertEqual(answer.status, 200)

    async def test_single_sign_on_shows_in_acr(self) -> None:
        """Tokens of a silent login say ``acr`` 0."""
        browser, pkce = self.browser(), Pkce.make()
        await self.log_in(browser, pkce)
        arrival = await self.log_in(browser, pkce)
        answer = await self.redeem(arrival.parameters["code"], pkce)
        _, claims = unverified(json.loads(answer.body)["access_token"])
        self.assertEqual(claims["acr"], "0")

    async def test_a_wrong_secret_leaves_the_code_alone(self) -> None:
        """A wrong secret is 401 ``unauthorized_client``; the right one may still redeem the code."""
        pkce = Pkce.make()
        code = (await self.log_in(self.browser(), pkce)).parameters["code"]
        message = "Invalid client or Invalid client credentials"
        wrong = await self.redeem(code, pkce, auth=(C.client_id, "wrong"))
        self.assert_error(wrong, 401, "unauthorized_client", message)
        nobody = await self.redeem(code, pkce, auth=("nobody", "wrong"))
        self.assert_error(nobody, 401, "invalid_client", message)
        absent = await self.redeem(code, pkce, auth=None, client_id=C.client_id)
        self.assert_error(absent, 401, "unauthorized_client", message)
        self.assertEqual((await self.redeem(code, pkce)).status, 200)

    async def test_a_wrong_verifier_burns_the_code(self) -> None:
        """PKCE must match, and there is one try only."""
        pkce = Pkce.make()
        code = (await self.log_in(self.browser(), pkce)).parameters["code"]
        wrong = await self.redeem(code, Pkce.make())
        self.assert_error(wrong, 400, "invalid_grant", "PKCE verification failed: Code mismatch")
        again = await self.redeem(code, pkce)
        self.assert_error(again, 400, "invalid_grant", "Code not valid")

    async def test_a_missing_verifier(self) -> None:
        """A code that was asked for with PKCE needs its verifier, and one without must have none."""
        code = (await self.log_in(self.browser(), Pkce.make())).parameters["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        self.assert_error(await self.token(**form), 400, "invalid_grant", "PKCE code verifier not specified")
        plain = (await self.log_in(self.browser())).parameters["code"]
        self.assert_error(
            await self.redeem(plain, Pkce.make()),
            400,
            "invalid_grant",
            "PKCE code verifier specified but challenge not present in authorization",
        )

    async def test_another_redirect_uri(self) -> None:
        """The redirect URI must be the one of the authorization request."""
        pkce = Pkce.make()
        code = (await self.log_in(self.browser(), pkce)).parameters["code"]
        answer = await self.redeem(code, pkce, redirect_uri=f"{CALLBACK}2")
        self.assert_error(answer, 400, "invalid_grant", "Incorrect redirect_uri")

    async def test_another_clients_code(self) -> None:
        """A client cannot redeem a code that was given to another."""
        pkce = Pkce.make()
        code = (await self.log_in(self.browser(), pkce)).parameters["code"]
        answer = await self.redeem(code, pkce, auth=(C.other_client_id, C.other_client_secret))
        self.assert_error(
            answer, 400, "invalid_grant", "Auth error: Found different client_id in clientSession"
        )

    async def test_a_code_works_once(self) -> None:
        """A second use is refused and ends what the first one gave."""
        pkce = Pkce.make()
        code = (await self.log_in(self.browser(), pkce)).parameters["code"]
        tokens = json.loads((await self.redeem(code, pkce)).body)
        self.assert_error(await self.redeem(code, pkce), 400, "invalid_grant", "Code not valid")
        answer = await self.refresh(tokens["refresh_token"])
        self.assert_error(answer, 400, "invalid_grant", "Session doesn't have required client")

    async def test_malformed_requests(self) -> None:
        """What is missing, doubled or unknown is named."""
        for form, error, description in (
            ({}, "invalid_request", "Missing form parameter: grant_type"),
            ({"grant_type": "bogus"}, "unsupported_grant_type", "Unsupported grant_type"),
            ({"grant_type": "authorization_code"}, "invalid_request", "Missing parameter: code"),
            ({"grant_type": "refresh_token"}, "invalid_request", "No refresh token"),
            (
                {"grant_type": "authorization_code", "code": "x", "redirect_uri": CALLBACK},
                "invalid_grant",
                "Code not valid",
            ),
        ):
            self.assert_error(await self.token(**form), 400, error, description)
        doubled = await self.browser().request(
            "POST",
            f"{self.endpoints}/token",
            data=[("grant_type", "refresh_token"), ("refresh_token", "x"), ("refresh_token", "y")],
            auth=(C.client_id, C.client_secret),
        )
        self.assert_error(doubled, 400, "invalid_request", "duplicated parameter")

    async def test_refresh_rotates(self) -> None:
        """A refresh gives a new refresh token of the same session; the ID token has no nonce any more."""
        first = await self.tokens()
        answer = await self.refresh(first["refresh_token"])
        self.assertEqual(answer.status, 200)
        second = json.loads(answer.body)
        self.assertNotEqual(first["refresh_token"], second["refresh_token"])
        self.assertNotEqual(first["access_token"], second["access_token"])
        self.assertEqual(first["session_state"], second["session_state"])
        self.assertEqual(scopes(second["scope"]), {"openid", "profile", "email"})
        self.assertNotIn("nonce", unverified(second["id_token"])[1])
        self.assertTrue(unverified(second["access_token"])[1]["jti"].startswith("onrtrt:"))
        self.assertEqual((await self.refresh(second["refresh_token"])).status, 200)

    async def test_refresh_reuse_ends_the_session(self) -> None:
        """A refresh token that is used twice is refused, and its successor dies with it."""
        first = await self.tokens()
        second = json.loads((await self.refresh(first["refresh_token"])).body)
        again = await self.refresh(first["refresh_token"])
        self.assert_error(again, 400, "invalid_grant", "Maximum allowed refresh token reuse exceeded")
        dead = await self.refresh(second["refresh_token"])
        self.assert_error(dead, 400, "invalid_grant", "Session doesn't have required client")

    async def test_refresh_belongs_to_its_client(self) -> None:
        """Another client cannot use it, and trying does no harm to the owner."""
        tokens = await self.tokens()
        answer = await self.refresh(tokens["refresh_token"], auth=(C.other_client_id, C.other_client_secret))
        message = "Invalid refresh token. Token client and authorized client don't match"
        self.assert_error(answer, 400, "invalid_grant", message)
        self.assertEqual((await self.refresh(tokens["refresh_token"])).status, 200)

    async def test_what_is_no_refresh_token(self) -> None:
        """An access token, an ID token and noise are not refresh tokens."""
        tokens = await self.tokens()
        for value in (tokens["access_token"], tokens["id_token"], "noise"):
            self.assert_error(await self.refresh(value), 400, "invalid_grant", "Invalid refresh token")

    async def test_refresh_narrows_and_never_widens(self) -> None:
        """Asking for less gives less, for more gives what was granted, for the unknown ``invalid_scope``."""
        first = await self.tokens()
        unknown = await self.refresh(first["refresh_token"], scope="openid nonsense")
        self.assert_error(unknown, 400, "invalid_scope", "Invalid scopes: openid nonsense")
        narrow = json.loads((await self.refresh(first["refresh_token"], scope="profile")).body)
        self.assertEqual(scopes(narrow["scope"]), {"profile", "email"})
        wide = json.loads((await self.refresh(narrow["refresh_token"], scope="openid phone")).body)
        self.assertEqual(scopes(wide["scope"]), {"openid", "profile", "email"})

    async def test_direct_grant(self) -> None:
        """A client with direct access grants gets tokens for a password; others do not."""
        form = {"grant_type": "password", "username": C.username, "password": C.password, "scope": "openid"}
        other = (C.other_client_id, C.other_client_secret)
        answer = await self.token(auth=other, **form)
        self.assertEqual(answer.status, 200)
        _, claims = unverified(json.loads(answer.body)["access_token"])
        self.assertEqual((claims["azp"], claims["aud"], claims["iss"]), (other[0], "account", self.issuer))
        wrong = await self.token(auth=other, **(form | {"password": "wrong"}))
        self.assert_error(wrong, 400, "invalid_grant", "Invalid user credentials")
        denied = await self.token(**form)
        message = "Client not allowed for direct access grants"
        self.assert_error(denied, 400, "unauthorized_client", message)

    async def test_the_other_realm_is_another_world(self) -> None:
        """The same user of another realm has another issuer, other keys and another subject."""
        here = unverified((await self.tokens())["access_token"])
        self.issuer = self.issuer.removesuffix(C.realm) + C.other_realm
        there = unverified((await self.tokens())["access_token"])
        self.assertNotEqual(here[0]["kid"], there[0]["kid"])
        self.assertNotEqual(here[1]["sub"], there[1]["sub"])
        self.assertEqual(there[1]["iss"], self.issuer)

    async def test_revocation(self) -> None:
        """A revoked refresh token is dead; revoking noise is a 200 that says so; clients prove themselves."""
        tokens = await self.tokens()
        secret = (C.client_id, C.client_secret)
        url = f"{self.endpoints}/revoke"
        form = {"token": tokens["refresh_token"]}
        stranger = await self.browser().request("POST", url, data=form, auth=(C.client_id, "wrong"))
        self.assertEqual(stranger.status, 401)
        done = await self.browser().request("POST", url, data=form, auth=secret)
        self.assertEqual((done.status, done.body), (200, b""))
        answer = await self.refresh(tokens["refresh_token"])
        self.assert_error(answer, 400, "invalid_grant", "Session not active")
        noise = await self.browser().request("POST", url, data={"token": "noise"}, auth=secret)
        self.assert_error(noise, 200, "invalid_token", "Invalid token")

    async def test_introspection(self) -> None:
        """A token is active for the client in its ``aud``, until its session's end; noise never is."""
        client = (C.audience_client_id, C.client_secret)
        tokens = await self.tokens(client_id=C.audience_client_id)
        found = await self.introspect(tokens["access_token"], auth=client)
        _, claims = unverified(tokens["access_token"])
        self.assertEqual(claims["aud"], [C.audience_client_id, "account"])
        self.assertLessEqual(claims.items(), found.items())
        for name, value in {
            "active": True,
            "client_id": C.audience_client_id,
            "username": C.username,
            "token_type": "Bearer",
        }.items():
            self.assertEqual(found[name], value, name)
        # An ID token is "active" too: who introspects must have looked at what kind of token it is.
        found = await self.introspect(tokens["id_token"], auth=client)
        self.assertEqual((found["active"], found["typ"]), (True, "ID"))
        for token in (tokens["refresh_token"], "noise", tokens["access_token"] + "x"):
            self.assertEqual(await self.introspect(token, auth=client), {"active": False})
        form = {"token": tokens["refresh_token"]}
        await self.browser().request("POST", f"{self.endpoints}/revoke", data=form, auth=client)
        self.assertEqual(await self.introspect(tokens["access_token"], auth=client), {"active": False})

    async def test_introspection_without_being_meant(self) -> None:
        """Not even the client that got a token hears of it, unless a mapper puts it into ``aud``."""
        tokens = await self.tokens()
        for auth in ((C.client_id, C.client_secret), (C.other_client_id, C.other_client_secret)):
            self.assertEqual(await self.introspect(tokens["access_token"], auth=auth), {"active": False})

    async def test_introspection_that_is_malformed(self) -> None:
        """Clients prove themselves, and a token is needed."""
        url = f"{self.endpoints}/token/introspect"
        auth = (C.client_id, "wrong")
        stranger = await self.browser().request("POST", url, data={"token": "noise"}, auth=auth)
        self.assert_error(stranger, 401, "invalid_client", "Client authentication failed.")
        auth = (C.client_id, C.client_secret)
        empty = await self.browser().request("POST", url, data={"x": "y"}, auth=auth)
        self.assert_error(empty, 400, "invalid_request", "Token not provided.")

    async def introspect(self, token: str, *, auth: tuple[str, str]) -> dict[str, Any]:
        url = f"{self.endpoints}/token/introspect"
        answer = await self.browser().request("POST", url, data={"token": token}, auth=auth)
        self.assertEqual((answer.status, answer.header("content-type")), (200, "application/json"))
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def allow_reuse(self) -> None:
        """Make the realm take a refresh token once more (``refreshTokenMaxReuse`` 1)."""
        raise NotImplementedError

    async def test_a_reuse_that_the_realm_allows(self) -> None:
        """Where it may be used once more a lost answer is no lost session; a third use ends it."""
        await self.allow_reuse()
        first = await self.tokens()
        answers = [await self.refresh(first["refresh_token"]) for _ in range(2)]
        self.assertEqual([answer.status for answer in answers], [200, 200])
        successor = json.loads(answers[1].body)["refresh_token"]
        self.assertEqual((await self.refresh(successor)).status, 200)
        token = (await self.tokens())["refresh_token"]
        answers = [await self.refresh(token) for _ in range(3)]
        message = "Maximum allowed refresh token reuse exceeded"
        self.assert_error(answers[2], 400, "invalid_grant", message)
        dead = await self.refresh(json.loads(answers[1].body)["refresh_token"])
        self.assert_error(dead, 400, "invalid_grant", "Session doesn't have required client")

    async def test_a_refresh_token_that_was_overtaken(self) -> None:
        """One whose successor was used, in a later second, is stale and ends the client's session."""
        first = (await self.tokens())["refresh_token"]
        successor = json.loads((await self.refresh(first)).body)["refresh_token"]
        latest = await self.refresh_beyond(successor, successor)
        self.assert_error(await self.refresh(first), 400, "invalid_grant", "Stale token")
        dead = await self.refresh(latest)
        self.assert_error(dead, 400, "invalid_grant", "Session doesn't have required client")

    async def test_refresh_tokens_of_two_logins(self) -> None:
        """Logins of one browser share a session, and their refresh tokens do not overtake each other."""
        browser, found = self.browser(), []
        for _ in range(2):
            pkce = Pkce.make()
            arrival = await self.log_in(browser, pkce)
            found.append(json.loads((await self.redeem(arrival.parameters["code"], pkce)).body))
        self.assertEqual(len({tokens["session_state"] for tokens in found}), 1)
        one, other = (tokens["refresh_token"] for tokens in found)
        await self.refresh_beyond(one, other)
        self.assertEqual((await self.refresh(other)).status, 200)

    async def refresh_beyond(self, refresh_token: str, other: str) -> str:
        """Refresh again and again until the refresh token is of a later second than ``other``; return it.

        Keycloak's times are whole seconds: within one nothing is older than the rest.
        """
        while True:
            refresh_token = json.loads((await self.refresh(refresh_token)).body)["refresh_token"]
            if unverified(refresh_token)[1]["iat"] > unverified(other)[1]["iat"]:
                return refresh_token

    async def test_logging_out(self) -> None:
        """The end-session endpoint with an ID token ends the session and leads back to the client."""
        browser, pkce = self.browser(), Pkce.make()
        arrival = await self.log_in(browser, pkce)
        tokens = json.loads((await self.redeem(arrival.parameters["code"], pkce)).body)
        answer = await browser.request(
            "GET",
            f"{self.endpoints}/logout",
            params={
                "id_token_hint": tokens["id_token"],
                "post_logout_redirect_uri": CALLBACK,
                "state": "bye",
            },
        )
        self.assertEqual((answer.status, answer.header("location")), (302, f"{CALLBACK}?state=bye"))
        dead = await self.refresh(tokens["refresh_token"])
        self.assert_error(dead, 400, "invalid_grant", "Session not active")
        form = await browser.request("GET", self.authorize_url(pkce))
        self.assertEqual(form.status, 200)


class LoggingOut(ContractCase):
    """What a client hears when a session ends (OpenID Connect Back-Channel Logout 1.0)."""

    async def hear(self) -> DeferredQueue[tuple[str | None, dict[str, str]]]:
        """Listen where the realm announces logouts: the content type and the form of each request."""
        heard = Hearing()
        site = ClosingSite(heard, global_reactor())
        self.addCleanup(site.close)
        await self.announce_logouts(f"http://127.0.0.1:{site.listen()}/logout")
        return heard.requests

    async def test_an_administrator_ends_a_session(self) -> None:
        """The client gets a logout token with the session and the person, good for two minutes."""
        requests = await self.hear()
        tokens = await self.tokens()
        access = unverified(tokens["access_token"])[1]
        await self.end_session(access["sid"])
        content_type, form = await requests.get()
        self.assertEqual((content_type, set(form)), ("application/x-www-form-urlencoded", {"logout_token"}))
        header, claims = unverified(form["logout_token"])
        self.assertEqual(
            (header["typ"], header["alg"], set(header)), ("logout+jwt", "RS256", {"typ", "alg", "kid"})
        )
        keys = await self.document(f"{self.endpoints}/certs")
        said = validate_logout_token(
            form["logout_token"],
            keys=KeySet.from_jwks(keys),
            issuer=self.issuer,
            client_id=C.client_id,
            now=claims["iat"],
        )
        assert isinstance(said, LogoutToken), said
        self.assertEqual((said.ending.session, said.ending.subject), (access["sid"], access["sub"]))
        self.assertFalse(said.ending.offline)
        self.assert_lasts(claims, 120)
        self.assertEqual(set(claims), {"exp", "iat", "jti", "iss", "aud", "sub", "typ", "sid", "events"})
        dead = await self.refresh(tokens["refresh_token"])
        self.assert_error(dead, 400, "invalid_grant", "Session not active")

    async def test_a_person_logs_out(self) -> None:
        """By the end-session endpoint: each client of the session is told, with a new token."""
        requests = await self.hear()
        seen = set()
        for _ in range(2):
            browser, pkce = self.browser(), Pkce.make()
            arrival = await self.log_in(browser, pkce)
            tokens = json.loads((await self.redeem(arrival.parameters["code"], pkce)).body)
            hint = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": CALLBACK}
            await browser.request("GET", f"{self.endpoints}/logout", params=hint)
            claims = unverified((await requests.get())[1]["logout_token"])[1]
            self.assertEqual(claims["sid"], unverified(tokens["access_token"])[1]["sid"])
            seen.add(claims["jti"])
        self.assertEqual(len(seen), 2)
