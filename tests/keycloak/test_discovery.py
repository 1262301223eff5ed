"""The discovery document is judged before anything of it is used."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.discovery import IssuerMismatch, discovery_url, parse_discovery
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable, ProviderMetadata
from tests.support.keys import ISSUER
from tests.support.realm import discovery_document

URL = f"{ISSUER}/.well-known/openid-configuration"


def parse(document: dict[str, Any], issuer: str = ISSUER) -> ProviderMetadata:
    return parse_discovery(document, issuer=issuer, url=URL)


class Where(SynchronousTestCase):
    """Where the document is fetched."""

    def test_below_the_issuer(self) -> None:
        """By default it is below the issuer, old ``/auth`` prefix and all."""
        self.assertEqual(discovery_url(ISSUER, None), URL)
        self.assertEqual(
            discovery_url("https://id/auth/realms/r", None),
            "https://id/auth/realms/r/.well-known/openid-configuration",
        )

    def test_separate_url(self) -> None:
        """``auth.discoveryUrl`` may be the realm's URL, with or without a slash, or the document's own."""
        expected = "http://kc:8080/realms/r/.well-known/openid-configuration"
        for configured in ("http://kc:8080/realms/r", "http://kc:8080/realms/r/", expected):
            self.assertEqual(discovery_url(ISSUER, configured), expected)


class Parsing(SynchronousTestCase):
    """What the document must say."""

    def test_complete(self) -> None:
        """Every endpoint that the proxy uses is taken over."""
        base = f"{ISSUER}/protocol/openid-connect"
        self.assertEqual(
            parse(discovery_document()),
            ProviderMetadata(
                issuer=ISSUER,
                authorization_endpoint=f"{base}/auth",
                token_endpoint=f"{base}/token",
                jwks_uri=f"{base}/certs",
                revocation_endpoint=f"{base}/revoke",
                end_session_endpoint=f"{base}/logout",
                scopes_supported=("openid", "profile", "mcp:read"),
            ),
        )

    def test_optional_parts(self) -> None:
        """A realm without revocation, logout or a scope list works."""
        found = parse(
            discovery_document(revocation_endpoint=None, end_session_endpoint=5, scopes_supported="openid")
        )
        self.assertEqual((found.revocation_endpoint, found.end_session_endpoint), (None, None))
        self.assertEqual(found.scopes_supported, ())
        self.assertEqual(parse(discovery_document(scopes_supported=["a", 5, None])).scopes_supported, ("a",))

    def test_issuer_byte_for_byte(self) -> None:
        """A slash, another case, host or scheme is another issuer; the message names both."""
        for issuer in (
            ISSUER + "/",
            ISSUER.upper(),
            "http://id.example/realms/demo",
            "https://127.0.0.1/realms/demo",
            "https://id.example/auth/realms/demo",
        ):
            error = str(self.assertRaises(IssuerMismatch, parse, discovery_document(issuer)))
            for named in (repr(issuer), repr(ISSUER), URL):
                self.assertIn(named, error)

    def test_mismatch_message_is_bounded(self) -> None:
        """A hostile document cannot fill the log."""
        error = self.assertRaises(IssuerMismatch, parse, discovery_document("x" * 100_000))
        self.assertLess(len(str(error)), 1000)

    def test_no_issuer(self) -> None:
        """A JSON object that is no discovery document means "not there yet", not "another issuer"."""
        for issuer in (None, "", 5, [ISSUER]):
            self.assertRaises(KeycloakUnavailable, parse, {**discovery_document(), "issuer": issuer})

    def test_required_endpoints(self) -> None:
        """An endpoint that is missing or no absolute http(s) URL is named."""
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            for value in (None, 5, "", "/token", "ftp://h/x", "javascript:x", "https://", "https://[::1/x"):
                error = self.assertRaises(KeycloakUnavailable, parse, discovery_document(**{name: value}))
                self.assertIn(name, str(error))

    @given(
        st.dictionaries(
            st.sampled_from([*discovery_document(), "x"]),
            st.none() | st.integers() | st.text() | st.lists(st.text() | st.none()) | st.just(ISSUER),
        )
    )
    def test_arbitrary_documents(self, changes: dict[str, Any]) -> None:
        """Whatever a realm publishes, the outcome is metadata or one of the two errors."""
        try:
            found = parse({**discovery_document(), **changes})
        except (IssuerMismatch, KeycloakUnavailable):
            return
        for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
            self.assertRegex(url, r"(?i)^https?://[^/]")
