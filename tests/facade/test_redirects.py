"""Redirect URIs: which a client may have, when a requested one is a registered one, and the way back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.redirect_uris import MAX_REDIRECT_URI
from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.redirects import answer_url, parse_redirect_uri, permitted

ALLOWED = [
    "https://claude.ai/api/mcp/auth_callback",
    "https://global.consent.azure-apim.net/redirect/abc",
    "https://host.example:8443/cb?keep=1",
    "https://[2001:db8::1]/cb",
    "http://localhost:33418/callback",
    "http://127.0.0.1/",
    "http://127.0.0.1:6276/oauth/callback",
    "http://[::1]:9/x",
    "HTTP://LOCALHOST/x",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "vscode://vscode.github-authentication/did-authenticate",
    "com.example.app:/cb",
    "com.example.app://host/cb",
    "https://vscode.dev/redirect",
]
FORBIDDEN = [
    "",
    "/relative",
    "//host/cb",
    "https:",
    "https://",
    "https:///cb",
    "https:host",
    "https://user@host/cb",
    "https://user:pw@host/cb",
    "https://host/cb#fragment",
    "https://host/cb#",
    "https://*.example.com/cb",
    "https://host/*",
    "https://host\\evil/cb",
    "https://host/a b",
    "https://host/a\tb",
    "https://host/\x00",
    "https://hôst/cb",
    "https://host/%zz",
    "https://host:99999/cb",
    "https://host:0/cb",
    "https://host:/cb",
    "https://h..st/cb",
    "https://[::1/cb",
    "https://[zz]/cb",
    "https://%68ost/cb",
    "https://host/cb?code=1",
    "https://host/cb?x=1&%69ss=evil",
    "http://example.com/cb",
    "http://localhost.evil.com/cb",
    "http://127.0.0.1.evil.com/cb",
    "http://127.0.0.1@evil.com/cb",
    "http://localhost@evil.com/",
    "http://127.0.0.2/cb",
    "http://0.0.0.0/cb",
    "http://[::2]/cb",
    "javascript:alert(1)",
    "JavaScript://localhost/%0aalert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "blob:https://host/x",
    "about:blank",
    "vbscript:x",
    "ftp://host/x",
    "ws://localhost/x",
    "mailto:a@b",
    "intent://x",
    "unknownscheme://x/cb",
    "cursor:",
    "cursor://",
    "com.example.app:",
    "cursor://user@host/cb",
    ".app:/cb",
    "com..app:/cb",
    "com.:/cb",
    "https://h/" + "a" * MAX_REDIRECT_URI,
]


class Rules(SynchronousTestCase):
    """What may be registered."""

    def test_what_clients_use_is_allowed(self) -> None:
        """Every redirect URI seen at real clients can be registered."""
        for uri in ALLOWED:
            self.assertEqual(parse_redirect_uri(uri).text, uri)

    def test_what_attackers_use_is_refused(self) -> None:
        """Dangerous schemes, foreign hosts in disguise, fragments, user names and wildcards are refused."""
        for uri in FORBIDDEN:
            error = self.assertRaises(OAuthError, parse_redirect_uri, uri)
            self.assertEqual((error.code, error.status), ("invalid_redirect_uri", 400))

    @given(st.text(max_size=100))
    def test_any_text_ends_in_a_value_or_the_error(self, text: str) -> None:
        """No text makes the rule fail otherwise, and what passes is plain ASCII without a fragment."""
        try:
            uri = parse_redirect_uri(text)
        except OAuthError as error:
            self.assertEqual(error.code, "invalid_redirect_uri")
        else:
            self.assertRegex(uri.text, r"\A[!-~]+\Z")
            self.assertNotIn("#", uri.text)

    @given(st.sampled_from(ALLOWED), st.data())
    def test_the_browser_sees_the_host_that_was_checked(self, base: str, data: st.DataObject) -> None:
        """However a URI is bent, a web one that passes has the host that a URL parser sees, and no user."""
        place = data.draw(st.integers(0, len(base)))
        text = base[:place] + data.draw(st.text("@:/\\?#[]%.*&= aZ09é", max_size=6)) + base[place:]
        try:
            uri = parse_redirect_uri(text)
        except OAuthError:
            return
        if uri.is_web:
            split = urlsplit(text)
            self.assertEqual(
                f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname, uri.host
            )
            self.assertIsNone(split.username)
            self.assertTrue(uri.scheme == "https" or uri.is_loopback)

    def test_what_people_are_shown(self) -> None:
        """The consent page names the host, its port where that tells something, or the scheme."""
        shown = {uri: parse_redirect_uri(uri).target for uri in ALLOWED}
        self.assertEqual(shown["https://claude.ai/api/mcp/auth_callback"], "claude.ai")
        self.assertEqual(shown["https://host.example:8443/cb?keep=1"], "host.example:8443")
        self.assertEqual(shown["http://localhost:33418/callback"], "localhost")
        self.assertEqual(shown["cursor://anysphere.cursor-mcp/oauth/callback"], "cursor:")


class Matching(SynchronousTestCase):
    """When a requested URI is the registered one."""

    def matches(self, registered: str, requested: str) -> bool:
        return parse_redirect_uri(requested).answers_for(parse_redirect_uri(registered))

    def test_loopback_port_and_name_do_not_count(self) -> None:
        """RFC 8252: the port changes at every start, and the three names of loopback are one."""
        for requested in (
            "http://127.0.0.1:59656/",
            "http://localhost:1/",
            "http://[::1]/",
            "http://127.0.0.1",
        ):
            self.assertTrue(self.matches("http://127.0.0.1/", requested), requested)

    def test_everything_else_is_exact(self) -> None:
        """Path, query, scheme, case and the ports of other hosts must be equal."""
        for registered, requested in (
            ("http://127.0.0.1/cb", "http://127.0.0.1/other"),
            ("http://127.0.0.1/cb", "http://127.0.0.1/cb/"),
            ("http://127.0.0.1/cb", "http://127.0.0.1/cb?x=1"),
            ("http://127.0.0.1/cb", "https://127.0.0.1/cb"),
            ("https://localhost/cb", "https://localhost:444/cb"),
            ("https://a.example/cb", "https://a.example:444/cb"),
            ("https://a.example/cb", "https://A.example/cb"),
            ("https://a.example/cb", "https://b.example/cb"),
            ("https://a.example", "https://a.example/"),
            ("cursor://a/cb", "cursor://a/cb2"),
            ("com.example.app:/cb", "com.example.app:/cb/"),
        ):
            self.assertFalse(self.matches(registered, requested), (registered, requested))

    @given(st.sampled_from(ALLOWED), st.sampled_from(ALLOWED))
    def test_matching_never_crosses_to_another_machine(self, one: str, other: str) -> None:
        """Different URIs match only where both stay on the person's own machine."""
        assume(one != other)
        if self.matches(one, other):
            self.assertTrue(parse_redirect_uri(one).is_loopback and parse_redirect_uri(other).is_loopback)


class WayBack(SynchronousTestCase):
    """The answer's URL."""

    def test_existing_query_is_kept(self) -> None:
        """A client's own parameters come back to it, with the answer behind them."""
        self.assertEqual(
            answer_url("https://c/cb?keep=1", {"code": "a b", "state": None, "iss": "https://h"}),
            "https://c/cb?keep=1&code=a+b&iss=https%3A%2F%2Fh",
        )
        self.assertEqual(answer_url("https://c/cb?", {"code": "x"}), "https://c/cb?code=x")

    @given(
        st.sampled_from(ALLOWED),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    )
    def test_any_state_comes_back_equal(self, uri: str, state: str) -> None:
        """A state of any characters comes back as it was; an empty one does not come at all."""
        url = answer_url(uri, {"code": "c", "state": state, "iss": "https://h"})
        self.assertTrue(url.isascii() and url.startswith(uri.partition("?")[0]))
        answer = parse_qs(urlsplit(url).query, keep_blank_values=True)
        self.assertEqual(answer.get("state", [""]), [state])
        self.assertEqual((answer["code"], answer["iss"]), (["c"], ["https://h"]))


class Permitted(SynchronousTestCase):
    """``auth.allowedRedirects`` and ``auth.deniedRedirects``."""

    def permitted(self, uri: str, allowed: tuple[str, ...] = (), denied: tuple[str, ...] = ()) -> bool:
        return permitted(parse_redirect_uri(uri), allowed=allowed, denied=denied)

    def test_nothing_said(self) -> None:
        """Without lists everything that obeys the rules is permitted."""
        for uri in ALLOWED:
            self.assertTrue(self.permitted(uri), uri)

    def test_words(self) -> None:
        """A rule covers a host, all below one, the three loopback names, or a scheme, and nothing else."""
        covered = {
            "claude.ai": ["https://claude.ai/cb", "https://claude.ai:8443/cb"],
            "*.example.com": ["https://a.example.com/", "https://b.a.example.com/"],
            "loopback": ["http://localhost:1/", "http://127.0.0.1/x", "http://[::1]:9/x"],
            "cursor://": ["cursor://anysphere.cursor-mcp/oauth/callback"],
        }
        not_covered = [
            "https://evilclaude.ai/",
            "https://example.com/",
            "https://aexample.com/",
            "vscode://x",
        ]
        for rule, uris in covered.items():
            for uri in uris:
                self.assertTrue(self.permitted(uri, (rule,)), (rule, uri))
                self.assertFalse(self.permitted(uri, denied=(rule,)), (rule, uri))
            others = [uri for name, found in covered.items() if name != rule for uri in found]
            for uri in [*not_covered, *others]:
                self.assertFalse(self.permitted(uri, (rule,)), (rule, uri))
                self.assertTrue(self.permitted(uri, denied=(rule,)), (rule, uri))

    def test_denied_wins(self) -> None:
        """What both lists cover is denied."""
        self.assertFalse(self.permitted("https://a.example.com/", ("*.example.com",), ("a.example.com",)))
