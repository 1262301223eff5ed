"""The configuration's contract with its users: names, defaults, what is required, what it means."""

from __future__ import annotations

import attrs

from mcp_oauth2_proxy.config.fields import BY_PATH
from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from tests.config.case import ConfigCase
from tests.config.examples import FULL, MINIMAL

#: Field: default in the model's units, or REQUIRED.
REQUIRED = object()
ROWS = {
    "server.listenAddress": ":8080",
    "server.readTimeout": 30.0,
    "server.writeTimeout": 0.0,
    "server.idleTimeout": 120.0,
    "upstream.url": REQUIRED,
    "headers.mutations": (),
    "auth.baseUrl": REQUIRED,
    "auth.issuerUrl": REQUIRED,
    "auth.clientId": REQUIRED,
    "auth.clientSecret": REQUIRED,
    "auth.scopesSupported": (),
    "auth.oidcScopes": (),
    "auth.clientTtl": 24 * 3600.0,
    "auth.sessionTtl": 600.0,
    "auth.codeTtl": 300.0,
}


class Reference(ConfigCase):
    """Every row of the reference table."""

    def test_rows(self) -> None:
        """Each field has the documented default, or is required."""
        for path, default in ROWS.items():
            field = BY_PATH[path]
            self.assertEqual(field.required, default is REQUIRED, path)
            if default is not REQUIRED:
                self.assertEqual(field.default, default, path)
                self.assertIsNot(field.default, attrs.NOTHING)

    def test_required_fields_are_asked_for(self) -> None:
        """Without any configuration each required field is named, with the variable that can set it."""
        mistakes = self.mistakes("")
        required = [path for path, default in ROWS.items() if default is REQUIRED]
        self.assertEqual(len(mistakes), len(required))
        for path in required:
            variable = "MCP_OAUTH2_PROXY_" + path.replace(".", "_").upper()
            self.assertIn(f"{path} is required; set it, or {variable}", mistakes)

    def test_authorization_servers_default_to_the_base_url(self) -> None:
        """``auth.authorizationServers`` is ``[baseUrl]`` where it is absent or empty."""
        for yaml in (MINIMAL, MINIMAL.replace("\n    - https://mcp-proxy.example.com", " []")):
            auth = self.load(yaml).config.auth
            self.assertEqual(auth.authorization_servers, (auth.base_url,))


class Examples(ConfigCase):
    """The examples load, with exactly what they say."""

    def test_minimal(self) -> None:
        """Six lines are enough; the rest are defaults."""
        config = self.load(MINIMAL).config
        self.assertEqual(config.upstream.url, "http://localhost:3000")
        self.assertEqual(config.auth.base_url, "https://mcp-proxy.example.com")
        self.assertEqual(config.auth.issuer_url, "https://auth.example.com/realms/myrealm")
        self.assertEqual(config.auth.client_id, "mcp-proxy")
        self.assertEqual(config.auth.client_secret.reveal(), "secret")
        self.assertEqual(config.server.listen_address, ":8080")

    def test_full(self) -> None:
        """Every field of the full example arrives."""
        config = self.load(FULL).config
        server, auth = config.server, config.auth
        self.assertEqual(
            (server.listen_address, server.read_timeout, server.write_timeout, server.idle_timeout),
            (":8080", 30.0, 0.0, 120.0),
        )
        self.assertEqual(auth.scopes_supported, ("mcp:read", "mcp:write"))
        self.assertEqual(auth.oidc_scopes, ("openid", "profile", "email", "groups"))
        self.assertEqual((auth.client_ttl, auth.session_ttl, auth.code_ttl), (86400.0, 600.0, 300.0))
        self.assertEqual(auth.authorization_servers, ("https://mcp-proxy.example.com",))

    def test_mutations(self) -> None:
        """The mutations of the full example, in their order, with each of the documented sources."""
        self.assertEqual(
            self.load(FULL).config.headers.mutations,
            (
                Mutation(Action.SET_X_FORWARDED),
                Mutation(Action.REMOVE, "X-Unwanted-Header"),
                Mutation(Action.ADD, "X-Forwarded-By", value="mcp-oauth2-proxy"),
                Mutation(Action.ADD, "X-Original-Host", value_from=ValueFrom(request_header="Host")),
                Mutation(Action.ADD, "X-Query-Token", value_from=ValueFrom(query_parameter="token")),
                Mutation(Action.ADD, "X-Auth-Header", value_from=ValueFrom(authorization_header=True)),
            ),
        )
