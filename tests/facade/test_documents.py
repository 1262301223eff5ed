"""Metadata documents, cookies, names and pages, as values."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import unicodedata

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Secret
from mcp_oauth2_proxy.facade.answers import Answer
from mcp_oauth2_proxy.facade.cookies import (
    MAX_LOGINS,
    MAX_REMEMBERED,
    Cookies,
    parse_cookies,
    remember_consent,
    remembered_consents,
)
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason
from mcp_oauth2_proxy.facade.metadata import authorization_server, protected_resource, suffix_path
from mcp_oauth2_proxy.facade.names import MAX_NAME, harmless, mixes_scripts
from mcp_oauth2_proxy.facade.pages import ConsentView, Pages
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer
from mcp_oauth2_proxy.troubles import BY_CODE

AUTH = Auth(
    base_url="https://h.example",
    issuer_url="https://k.example/realms/r",
    client_id="c",
    client_secret=Secret("s"),
)


class Metadata(SynchronousTestCase):
    """RFC 9728 and RFC 8414."""

    def test_resource_is_what_people_type(self) -> None:
        """Each path's document names that very path, with and without a base path."""
        for base, segments, resource in (
            ("https://h", [], "https://h"),
            ("https://h", [b""], "https://h"),
            ("https://h", [b"mcp"], "https://h/mcp"),
            ("https://h", [b"a", b"b c"], "https://h/a/b%20c"),
            ("https://h/p", [], "https://h/p"),
            ("https://h/p", [b"p"], "https://h/p"),
            ("https://h/p", [b"p", b"mcp"], "https://h/p/mcp"),
            ("https://h/p", [b"mcp"], "https://h/p/mcp"),
            ("https://h/p/q", [b"p", b"q", b"mcp"], "https://h/p/q/mcp"),
        ):
            document = protected_resource(evolve(AUTH, base_url=base), suffix_path(segments, base))
            self.assertEqual(document["resource"], resource)

    @given(st.lists(st.binary(max_size=8), max_size=4))
    def test_any_suffix_is_a_plain_path(self, segments: list[bytes]) -> None:
        """Whatever bytes a URL's path decodes to, the document has plain ASCII."""
        self.assertRegex(suffix_path(segments, "https://h"), r"\A[!-~]*\Z")

    def test_protected_resource(self) -> None:
        """Tokens come by header; offline_access is never asked for by a resource."""
        auth = evolve(
            AUTH,
            scopes_supported=("mcp:read", "offline_access"),
            authorization_servers=("https://other.example",),
        )
        document = protected_resource(auth, "/mcp")
        self.assertEqual(document["scopes_supported"], ["mcp:read"])
        self.assertEqual(document["bearer_methods_supported"], ["header"])
        self.assertEqual(document["authorization_servers"], ["https://other.example"])
        bare = protected_resource(AUTH, "")
        self.assertEqual(bare["authorization_servers"], ["https://h.example"])
        self.assertNotIn("scopes_supported", bare)

    def test_authorization_server(self) -> None:
        """One issuer spelling, PKCE S256, iss in answers, and the methods of the token endpoint."""
        document = authorization_server(evolve(AUTH, scopes_supported=("mcp:read", "offline_access")))
        self.assertEqual(document["issuer"], "https://h.example")
        self.assertEqual(document["authorization_endpoint"], "https://h.example/oauth/authorize")
        self.assertEqual(document["token_endpoint"], "https://h.example/oauth/token")
        self.assertEqual(document["registration_endpoint"], "https://h.example/oauth/register")
        self.assertEqual(document["code_challenge_methods_supported"], ["S256"])
        self.assertEqual(
            document["token_endpoint_auth_methods_supported"],
            ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"],
        )
        self.assertIs(document["authorization_response_iss_parameter_supported"], True)
        self.assertEqual(document["scopes_supported"], ["mcp:read", "offline_access"])
        self.assertEqual(document["jwks_uri"], "https://k.example/realms/r/protocol/openid-connect/certs")
        self.assertNotIn("scopes_supported", authorization_server(AUTH))


class BrowserCookies(SynchronousTestCase):
    """What the browser keeps."""

    def setUp(self) -> None:
        self.sealer = Sealer([b"k"], lambda: 1e9)

    def test_attributes(self) -> None:
        """On https every cookie belongs to this host alone; none is seen by scripts."""
        secure = Cookies.for_base_url("https://h.example/base")
        line = secure.set(secure.browser, "v", 60)
        self.assertTrue(line.startswith("__Host-"))
        for attribute in ("; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age=60"):
            self.assertIn(attribute, line)
        plain = Cookies.for_base_url("http://localhost:8080/base")
        line = plain.set(plain.browser, "v")
        self.assertFalse(line.startswith("__Host-"))
        self.assertIn("; Path=/base;", line)
        for attribute in ("Secure", "Max-Age"):
            self.assertNotIn(attribute, line)
        self.assertIn("; HttpOnly", line)

    def test_two_proxies_on_one_host_do_not_mix(self) -> None:
        """Browsers share cookies between ports; names differ by the base URL."""
        one, two = (Cookies.for_base_url(f"http://localhost:{port}") for port in (1, 2))
        self.assertNotEqual(one.browser, two.browser)

    @given(st.lists(st.binary(max_size=100), max_size=3))
    def test_any_cookie_header_is_read(self, headers: list[bytes]) -> None:
        """No Cookie header makes an endpoint fail."""
        jar = parse_cookies(headers)
        cookies = Cookies.for_base_url("https://h")
        cookies.browser_id(jar)
        cookies.surplus_logins(jar)

    def test_parsing(self) -> None:
        """Two headers, spaces and quotes, as browsers and intermediaries send them."""
        self.assertEqual(
            parse_cookies([b'a=1; b="2" ;c', b"a=3;=x; d=e=f"]), {"a": "1", "b": "2", "d": "e=f"}
        )

    def test_consents_are_remembered_within_bounds(self) -> None:
        """The newest stay; a forged cookie remembers nothing."""
        cookie = None
        for number in range(MAX_REMEMBERED + 5):
            cookie = remember_consent(cookie, f"key{number}", self.sealer)
        known = remembered_consents(cookie, self.sealer)
        self.assertEqual((len(known), known[0]), (MAX_REMEMBERED, f"key{MAX_REMEMBERED + 4}"))
        assert cookie is not None
        self.assertTrue(len(cookie) < 4000)
        again = remember_consent(cookie, "key20", self.sealer)
        self.assertEqual(len(set(remembered_consents(again, self.sealer))), MAX_REMEMBERED)
        for forged in (None, "", cookie[:-2], self.sealer.seal(Purpose.CODE, {"c": ["key1"]})):
            self.assertEqual(remembered_consents(forged, self.sealer), ())
        for odd in ({}, {"c": "key1"}, {"c": [1, None]}):
            self.assertEqual(remembered_consents(self.sealer.seal(Purpose.REMEMBERED, odd), self.sealer), ())

    def test_abandoned_logins_do_not_pile_up(self) -> None:
        """Beyond a few logins under way the oldest are forgotten."""
        cookies = Cookies.for_base_url("https://h")
        jar = {cookies.login(f"state{number}"): "mac" for number in range(MAX_LOGINS + 2)}
        self.assertEqual(cookies.surplus_logins(jar), list(jar)[:3])
        self.assertEqual(cookies.surplus_logins({"other": "x"}), [])


class Names(SynchronousTestCase):
    """Names that strangers chose."""

    @given(st.text(st.characters(), max_size=300))
    def test_nothing_invisible_is_left(self, name: str) -> None:
        """No control, bidi or zero-width character, one line, bounded."""
        shown = harmless(name)
        self.assertTrue(len(shown) <= MAX_NAME)
        for character in shown:
            self.assertNotIn(unicodedata.category(character), {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

    def test_tricks(self) -> None:
        """Right-to-left overrides, line breaks and towers of accents come out plain."""
        self.assertEqual(harmless("Cla\u202eude\n\u200bCode"), "Claude Code")
        self.assertEqual(harmless("  Klient ✓ 日本  "), "Klient ✓ 日本")
        self.assertTrue(len(harmless("a" + "\u0333" * 50)) <= 3)
        self.assertEqual(harmless("x" * 500), "x" * (MAX_NAME - 1) + "…")

    def test_mixed_scripts(self) -> None:
        """A word of Latin with letters of another alphabet that look alike; honest names are left alone."""
        for name in ("Cl\u0430ude", "VS C\u03bfde", "\uff27oogle", "My \u0421ursor"):
            self.assertTrue(mixes_scripts(name), name)
        for name in ("Claude", "Клод", "My Клод", "Ελλάδα App", "日本 App", "Tōkyō", "Übung 2", "a1-b2", ""):
            self.assertFalse(mixes_scripts(name), name)


class PagesAsValues(SynchronousTestCase):
    """What people see, and what browsers are told about it."""

    view = ConsentView(
        publisher=None,
        client_name='<script>alert(1)</script> & "Co"',
        redirect_uri="http://localhost:1234/cb",
        scopes=("openid", "mcp:read"),
        resource="https://h.example/mcp",
        provider="k.example",
        action="consent",
        sealed_request="SEALED",
        remembers=True,
    )

    def setUp(self) -> None:
        self.pages = Pages()

    def text(self, answer: Answer) -> str:
        return answer.body.decode("utf-8")

    def test_consent_shows_who_where_and_what(self) -> None:
        """Name, place and scopes are there, escaped; loopback has its own warning; Allow and Cancel."""
        text = self.text(self.pages.consent(self.view))
        self.assertNotIn("<script", text)
        self.assertIn(html.escape("<script>alert(1)</script>"), text)
        for expected in (
            "localhost",
            "mcp:read",
            "Know who you are",
            "k.example",
            "Every program on this computer",
        ):
            self.assertIn(expected, text)
        self.assertEqual(re.findall(r'name="decision" value="(\w+)"', text), ["allow", "deny"])
        self.assertEqual(text.count("<form"), 1)

    def test_other_places_have_no_loopback_warning(self) -> None:
        """An https client is named by its host, an app by its scheme."""
        text = self.text(self.pages.consent(evolve(self.view, redirect_uri="https://claude.ai/cb")))
        self.assertNotIn("Every program on this computer", text)
        self.assertIn("claude.ai", text)
        app = self.text(self.pages.consent(evolve(self.view, redirect_uri="cursor://x/cb", client_name=None)))
        self.assertIn("cursor:", app)
        self.assertIn("An app without a name", app)

    def test_the_policy_admits_this_style_and_nothing_else(self) -> None:
        """The hash in the policy is that of the page's own style; no script, no frame, no foreign form."""
        answer = self.pages.consent(self.view)
        headers = dict(answer.headers)
        policy = headers["Content-Security-Policy"]
        style = re.search(r"<style>(.*?)</style>", self.text(answer), re.DOTALL)
        assert style is not None
        expected = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        self.assertIn(f"style-src 'sha256-{expected}'", policy)
        for directive in (
            "default-src 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ):
            self.assertIn(directive, policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(headers["Cache-Control"], "no-store")
        self.assertEqual(headers["Referrer-Policy"], "no-referrer")
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")

    def test_leaving_works_without_script(self) -> None:
        """A refresh and a link, to the same URL, escaped."""
        url = 'cursor://x/cb?code=a&state="><b>'
        text = self.text(self.pages.leave(url, done=True))
        self.assertNotIn('"><b>', text)
        self.assertEqual(text.count(html.escape(url, quote=True).replace("&quot;", "&#34;")), 2)
        self.assertIn('http-equiv="refresh"', text)

    def test_an_error_says_what_to_do(self) -> None:
        """A forgotten client is told to be added again; the reference and the reason are there."""
        error = OAuthError("invalid_client", 400, "the client is gone", reason=Reason.CLIENT_EXPIRED)
        answer = self.pages.error(error, "0123456789abcdef")
        text = self.text(answer)
        self.assertEqual(answer.status, 400)
        for expected in (
            BY_CODE["client_expired"].person,
            "0123456789abcdef",
            "client_expired",
            "The client is gone.",
        ):
            self.assertIn(expected, text)

    def test_every_reason_has_a_page(self) -> None:
        """No reason code leaves a person without a next step."""
        for reason in Reason:
            text = self.text(self.pages.error(OAuthError("x", 400, "it", reason=reason), "r"))
            self.assertRegex(text, r'class="lead">[A-Z][^<]+\.</p>')
