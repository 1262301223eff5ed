"""Registration: what clients send, what they get, and what a client_id carries."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.clients import open_client_id, secret_matches
from mcp_oauth2_proxy.facade.errors import OAuthError, SealError
from mcp_oauth2_proxy.facade.registration import (
    MAX_CLIENT_NAME,
    MAX_REDIRECT_URIS,
    read_registration,
    registration_response,
)
from mcp_oauth2_proxy.facade.sealing import Sealer

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "redirect_uris",
        "grant_types",
        "response_types",
        "client_name",
        "scope",
        "token_endpoint_auth_method",
        "jwks",
    ]
)


class Registration(SynchronousTestCase):
    """One server, a client at a time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.sealer = Sealer([b"key"], self.clock.seconds)

    def register(
        self, *, ttl: float = 86400.0, supported: frozenset[str] | None = None, **document: Any
    ) -> dict[str, Any]:
        document.setdefault("redirect_uris", ["https://c.example/cb"])
        record = read_registration(document, supported=supported, permitted=lambda _: True)
        return registration_response(record, sealer=self.sealer, ttl=ttl)

    def refused(self, **document: Any) -> str:
        return self.assertRaises(OAuthError, self.register, **document).code

    def test_claude_gets_a_secret_for_post(self) -> None:
        """A client that asks for client_secret_post gets a secret, its method and when it expires."""
        answer = self.register(
            client_name="Claude",
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            token_endpoint_auth_method="client_secret_post",
            redirect_uris=["https://claude.ai/api/mcp/auth_callback"],
        )
        self.assertEqual(answer["token_endpoint_auth_method"], "client_secret_post")
        self.assertEqual(answer["client_id_issued_at"], 1_800_000_000)
        self.assertEqual(answer["client_secret_expires_at"], 1_800_086_400)
        self.assertEqual(answer["redirect_uris"], ["https://claude.ai/api/mcp/auth_callback"])
        self.assertTrue(secret_matches(answer["client_id"], answer["client_secret"], self.sealer))
        self.assertFalse(secret_matches(answer["client_id"], answer["client_secret"][:-1], self.sealer))

    def test_vs_code_gets_its_grants_narrowed(self) -> None:
        """Four URIs and a device grant: registered, with the grants that exist here."""
        uris = ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/"]
        answer = self.register(
            redirect_uris=[*uris, "http://127.0.0.1:33418/"],
            grant_types=[
                "authorization_code",
                "refresh_token",
                "urn:ietf:params:oauth:grant-type:device_code",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
            ],
            response_types=["code"],
            token_endpoint_auth_method="none",
            application_type="native",
        )
        self.assertEqual(answer["grant_types"], ["authorization_code", "refresh_token"])
        self.assertEqual(len(answer["redirect_uris"]), 4)

    def test_cursor_registers_its_three_uris(self) -> None:
        """An app's scheme, loopback and https in one body."""
        uris = [
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "http://localhost:8787/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
        ]
        self.assertEqual(self.register(redirect_uris=uris)["redirect_uris"], uris)

    def test_public_clients_get_no_secret_and_no_nulls(self) -> None:
        """With ``none`` there is no client_secret, and no member of the answer is null."""
        answer = self.register(
            token_endpoint_auth_method="none", scope="", client_name="", logo_uri=None, software_id="x"
        )
        self.assertNotIn("client_secret", answer)
        self.assertNotIn("client_secret_expires_at", answer)
        self.assertNotIn("scope", answer)
        self.assertNotIn("client_name", answer)
        self.assertNotIn(None, answer.values())
        self.assertEqual(answer["token_endpoint_auth_method"], "none")

    def test_without_a_method_it_is_basic(self) -> None:
        """A client that names no method, or one that is not offered, gets a secret and hears which method."""
        for method in ({}, {"token_endpoint_auth_method": "private_key_jwt"}):
            answer = self.register(**method)
            self.assertEqual(answer["token_endpoint_auth_method"], "client_secret_basic")
            self.assertIn("client_secret", answer)

    def test_default_grants_spare_people_logins(self) -> None:
        """A client that names no grants gets both; one that wants the code alone gets that alone."""
        self.assertEqual(self.register()["grant_types"], ["authorization_code", "refresh_token"])
        self.assertEqual(
            self.register(grant_types=[])["grant_types"], ["authorization_code", "refresh_token"]
        )
        only = self.register(grant_types=["authorization_code"])
        self.assertEqual(only["grant_types"], ["authorization_code"])

    def test_scope_is_narrowed(self) -> None:
        """The answer names those of the asked scopes that exist, without repetitions."""
        answer = self.register(
            scope=" mcp:read  nonsense mcp:read openid ", supported=frozenset({"mcp:read"})
        )
        self.assertEqual(answer["scope"], "mcp:read")

    def test_a_registration_that_lasts_says_so(self) -> None:
        """With clientTtl 0 the secret never expires, which RFC 7591 writes as 0."""
        self.assertEqual(self.register(ttl=0)["client_secret_expires_at"], 0)

    def test_wrong_types_and_foreign_flows(self) -> None:
        """What is no registration is refused with RFC 7591's two codes."""
        metadata: list[dict[str, Any]] = [
            {"grant_types": "authorization_code"},
            {"grant_types": [1]},
            {"grant_types": ["client_credentials"]},
            {"response_types": ["token"]},
            {"client_name": 7},
            {"scope": ["a"]},
            {"token_endpoint_auth_method": {}},
        ]
        for document in metadata:
            self.assertEqual(self.refused(**document), "invalid_client_metadata", document)
        uris: list[Any] = [
            None,
            [],
            "https://c/cb",
            [7],
            [None],
            ["https://ok.example/cb", "javascript:alert(1)"],
            [f"https://c/{number}" for number in range(MAX_REDIRECT_URIS + 1)],
        ]
        for value in uris:
            self.assertEqual(self.refused(redirect_uris=value), "invalid_redirect_uri", value)

    def test_client_ids_stay_small(self) -> None:
        """The largest registration that is accepted has a client_id that fits into a URL."""
        longest = [f"https://c.example/{number}/".ljust(380, "a") for number in range(20)]
        answer = self.register(redirect_uris=longest, client_name="n" * 10_000)
        self.assertTrue(len(answer["client_id"]) < 12 * 1024)
        self.assertEqual(len(answer["client_name"]), MAX_CLIENT_NAME)
        too_long = [f"https://c.example/{number}/".ljust(2000, "a") for number in range(20)]
        self.assertEqual(self.refused(redirect_uris=too_long), "invalid_client_metadata")

    @given(st.dictionaries(fields, anything, max_size=7))
    def test_any_document_ends_in_an_answer_or_an_error(self, document: dict[str, Any]) -> None:
        """Whatever the JSON says, the answer is a registration or a 400."""
        try:
            answer = self.register(**document)
        except OAuthError as error:
            self.assertEqual(error.status, 400)
        else:
            json.dumps(answer)
            self.assertNotIn(None, answer.values())

    def test_a_client_id_carries_its_registration(self) -> None:
        """Another process with the same key knows the client from its client_id alone, until it expires."""
        answer = self.register(client_name="Klient ✓", scope="a b", token_endpoint_auth_method="none")
        later = Clock()
        later.advance(1_800_086_400)
        other = Sealer([b"key"], later.seconds)
        client = open_client_id(answer["client_id"], other, 86400.0)
        self.assertEqual((client.name, client.scope, client.is_public), ("Klient ✓", ("a", "b"), True))
        later.advance(1)
        error = self.assertRaises(SealError, open_client_id, answer["client_id"], other, 86400.0)
        self.assertTrue(error.expired)
        open_client_id(answer["client_id"], other, 0)

    def test_clients_have_their_redirect_uris_only(self) -> None:
        """A requested URI must be a registered one; it may be left out where there is just one."""
        one = open_client_id(
            self.register(redirect_uris=["http://127.0.0.1/cb"])["client_id"], self.sealer, 0
        )
        self.assertEqual(one.match("http://localhost:9/cb").text, "http://localhost:9/cb")
        self.assertEqual(one.match(None).text, "http://127.0.0.1/cb")
        two = open_client_id(
            self.register(redirect_uris=["https://a.example/cb", "https://b.example/cb"])["client_id"],
            self.sealer,
            0,
        )
        for client, asked in (
            (one, "http://127.0.0.1/other"),
            (one, "http://localhost.evil.com/cb"),
            (one, "http://127.0.0.1@evil.com/cb"),
            (two, None),
            (two, "https://a.example/cb/"),
        ):
            error = self.assertRaises(OAuthError, client.match, asked)
            self.assertEqual((error.code, error.status), ("invalid_request", 400))

    def test_client_ids_do_not_show(self) -> None:
        """A repr of a client in a log does not tell its client_id."""
        answer = self.register()
        client = open_client_id(answer["client_id"], self.sealer, 0)
        self.assertNotIn(answer["client_id"], repr(client))
