"""Scopes: narrowed so that Keycloak never refuses, reported so that clients accept."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Secret
from mcp_oauth2_proxy.facade.scopes import (
    granted_scope,
    narrow,
    parse_scope,
    supported_scopes,
    upstream_scopes,
)

AUTH = Auth(base_url="https://h", issuer_url="https://k/realms/r", client_id="c", client_secret=Secret("s"))
DISCOVERED = ("openid", "profile", "email", "offline_access", "mcp:read")


class Scopes(SynchronousTestCase):
    """The rules of narrowing."""

    def test_real_clients_spellings(self) -> None:
        """Leading spaces, repetitions and an empty scope, as clients send them."""
        self.assertEqual(parse_scope(" openid  email openid "), ("openid", "email"))
        self.assertEqual(parse_scope(""), ())
        self.assertEqual(parse_scope(None), ())
        self.assertEqual(parse_scope('good ba"d ba\\d ümlaut'), ("good",))

    @given(st.text(max_size=200))
    def test_any_text_becomes_clean_scopes(self, text: str) -> None:
        """What is sent to Keycloak has only RFC 6749's characters, each scope once."""
        scopes = parse_scope(text)
        self.assertEqual(len(scopes), len(set(scopes)))
        for scope in scopes:
            self.assertRegex(scope, r"\A[!#-\[\]-~]+\Z")

    @given(st.lists(st.sampled_from([*DISCOVERED, "unknown", "mcp:write"])))
    def test_keycloak_never_hears_an_unknown_scope(self, asked: list[str]) -> None:
        """Whatever a client asks for, Keycloak is asked for openid and what its discovery lists."""
        for auth in (AUTH, evolve(AUTH, scopes_supported=("mcp:read", "mcp:write"))):
            sent = upstream_scopes(tuple(asked), auth, DISCOVERED)
            self.assertEqual(sent[0], "openid")
            self.assertEqual(set(sent) - set(DISCOVERED), set())

    def test_the_operators_list_bounds_the_client(self) -> None:
        """With scopesSupported a client gets nothing beyond it and OpenID Connect's own scopes."""
        auth = evolve(AUTH, scopes_supported=("mcp:read",))
        sent = upstream_scopes(("mcp:read", "mcp:admin", "email"), auth, (*DISCOVERED, "mcp:admin"))
        self.assertEqual(sent, ("openid", "mcp:read", "email"))

    def test_oidc_scopes_replace_the_clients(self) -> None:
        """With oidcScopes Keycloak hears exactly those, and openid."""
        auth = evolve(AUTH, oidc_scopes=("profile", "groups"), scopes_supported=("mcp:read",))
        self.assertEqual(upstream_scopes(("mcp:read",), auth, DISCOVERED), ("openid", "profile", "groups"))
        self.assertEqual(narrow(("mcp:read", "x"), supported_scopes(auth, DISCOVERED)), ("mcp:read",))

    def test_a_client_without_scopes_gets_what_the_gate_wants(self) -> None:
        """Its token passes, although it never asked for the required scope."""
        auth = evolve(AUTH, required_scopes=("mcp:read",))
        self.assertEqual(upstream_scopes((), auth, DISCOVERED), ("openid", "mcp:read"))

    def test_before_discovery_nothing_is_guessed(self) -> None:
        """Without discovery and without a configured list there is no list to narrow by."""
        self.assertIsNone(supported_scopes(AUTH, ()))
        self.assertEqual(narrow(("a",), None), ("a",))

    def test_reported_scope(self) -> None:
        """A client hears which of its scopes it got, or all where it asked for none."""
        self.assertEqual(granted_scope(("mcp:read", "x"), "openid email mcp:read", AUTH), "mcp:read")
        self.assertEqual(granted_scope((), "openid email", AUTH), "openid email")
        self.assertEqual(granted_scope(("x",), "openid", AUTH), "openid")
        self.assertIsNone(granted_scope((), None, AUTH))
        ours = evolve(AUTH, oidc_scopes=("profile",), scopes_supported=("mcp:read",))
        self.assertEqual(granted_scope(("mcp:read",), "openid profile", ours), "mcp:read")
