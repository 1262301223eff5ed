"""Cases that need no login: registration, discovery, refusals, and what the relay leaves alone."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.clients.profile import profiles
from tests.interop.scene import SocketCase

PROFILES = profiles()
ALL_GRANTS = ["authorization_code", "refresh_token"]


class Registration(SocketCase):
    """What each client registers."""

    def registered(self, profile: str) -> dict[str, Any]:
        return self.register(**PROFILES[profile].registration)

    def test_interop_01_claude(self) -> None:
        """A secret, its method echoed, and when it expires."""
        found = self.registered("claude")
        self.assertEqual(found["token_endpoint_auth_method"], "client_secret_post")
        self.assertGreater(len(found["client_secret"]), 40)
        self.assertGreater(found["client_secret_expires_at"], time.time())

    def test_interop_02_vs_code(self) -> None:
        """Four redirect URIs are kept, the device grant is not."""
        found = self.registered("vscode")
        self.assertEqual(len(found["redirect_uris"]), 4)
        self.assertEqual(found["grant_types"], ALL_GRANTS)

    def test_interop_03_cursor(self) -> None:
        """An app's scheme, loopback and https in one registration."""
        self.assertEqual(
            self.registered("cursor")["redirect_uris"], PROFILES["cursor"].registration["redirect_uris"]
        )

    def test_interop_04_empty_scope(self) -> None:
        """``scope`` that is empty is as if absent."""
        for scope in ("", ...):
            self.assertNotIn("scope", self.register(scope=scope))

    def test_interop_05_python_sdk(self) -> None:
        """No method asked for: one is chosen, and the secret fits it."""
        found = self.registered("python-sdk")
        self.assertEqual(found["token_endpoint_auth_method"], "client_secret_basic")
        self.assertIn("client_secret", found)

    def test_interop_06_public(self) -> None:
        """``none`` gets no secret; nothing is null; the redirect URIs are echoed."""
        found = self.register(token_endpoint_auth_method="none", logo_uri=None, client_name=None)
        self.assertNotIn("client_secret", found)
        self.assertNotIn(None, found.values())
        self.assertEqual(found["redirect_uris"], ["http://127.0.0.1/cb"])

    def test_interop_07_go_sdk(self) -> None:
        """The response names ``none``, else go-sdk would come with Basic."""
        self.assertEqual(self.registered("go-sdk")["token_endpoint_auth_method"], "none")

    def test_interop_08_unknown_fields(self) -> None:
        """Fields and grants that nobody knows here are ignored."""
        jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        found = self.register(grant_types=[*ALL_GRANTS, jwt_bearer], software_id="x", something={"a": [1]})
        self.assertEqual(found["grant_types"], ALL_GRANTS)


class RedirectUris(SocketCase):
    """Where an answer may go."""

    def test_interop_09_another_port(self) -> None:
        """Loopback without a port stands for each one; the answer goes to what was asked, exactly."""
        client = self.register(redirect_uris=["http://127.0.0.1/"])
        asked = "http://127.0.0.1:59656/"
        self.assertEqual(self.authorize(client, asked).status, 200)
        refused = self.authorize(client, asked, response_type="token")
        self.assertTrue(refused.header("location").startswith(f"{asked}?error="), refused.headers)

    def test_interop_10_another_loopback_name(self) -> None:
        """127.0.0.1, [::1] and localhost are one place."""
        client = self.register(redirect_uris=["http://127.0.0.1:1/cb"])
        for host in ("localhost", "[::1]", "127.0.0.1:7"):
            self.assertEqual(self.authorize(client, f"http://{host}/cb").status, 200)

    def test_interop_11_tricks(self) -> None:
        """A page, and never a redirect."""
        client = self.register(redirect_uris=["http://127.0.0.1/cb", "https://app.example/cb"])
        for uri in (
            *("http://localhost.evil.com/cb", "http://127.0.0.1@evil/cb", "http://127.0.0.1/other"),
            *(
                "http://127.0.0.1/cb/..",
                "https://app.example:444/cb",
                "https://app.example/cb?x",
                "javascript:alert(1)",
            ),
            *("http://127.0.0.1/cb#x", "http://127.0.0.1\\@evil/cb", "https://evil/?https://app.example/cb"),
        ):
            reply = self.authorize(client, uri)
            self.assertEqual((reply.status, reply.header("location")), (400, ""), uri)

    def test_interop_12_twice(self) -> None:
        """A preview of the URL uses nothing up."""
        client = self.register()
        for _ in range(2):
            self.assertEqual(self.authorize(client, "http://127.0.0.1/cb").status, 200)

    def test_interop_20_21_errors_carry_iss(self) -> None:
        """One ``iss``, equal to the metadata's issuer; no ``state`` where none was sent."""
        metadata = self.ask("GET", "/.well-known/oauth-authorization-server").json
        self.assertIs(metadata["authorization_response_iss_parameter_supported"], True)
        client = self.register()
        for state in ("the-state", None):
            reply = self.authorize(client, "http://127.0.0.1/cb", response_type="token", state=state)
            answer = parse_qsl(urlsplit(reply.header("location")).query)
            self.assertEqual([value for name, value in answer if name == "iss"], [metadata["issuer"]])
            states = [value for name, value in answer if name == "state"]
            self.assertEqual(states, [state] if state else [])

    def test_interop_18_resources(self) -> None:
        """One foreign resource spoils the request; the same one twice is once."""
        client = self.register()
        own, foreign = f"{self.proxy.base_url}/mcp", "https://other.example/mcp"
        for resources, good in (([own, own], True), ([own, foreign], False), ([foreign], False)):
            reply = self.authorize(client, "http://127.0.0.1/cb")
            self.assertEqual(reply.status, 200)
            query = "&".join(f"resource={resource}" for resource in resources)
            base = f"client_id={client['client_id']}&redirect_uri=http://127.0.0.1/cb&response_type=code"
            pkce = f"code_challenge={'x' * 43}&code_challenge_method=S256"
            reply = self.ask("GET", f"/oauth/authorize?{base}&{pkce}&{query}", "Accept: text/html")
            self.assertEqual(reply.status, 200 if good else 302)
            self.assertEqual("error=invalid_target" in reply.header("location"), not good)

    def test_interop_38_extra_parameters(self) -> None:
        """``prompt`` and scopes that the realm does not have are no reason to refuse."""
        client = self.register()
        reply = self.authorize(
            client, "http://127.0.0.1/cb", prompt="select_account", scope=" offline_access  nonsense"
        )
        self.assertEqual(reply.status, 200)


class Probes(SocketCase):
    """What clients ask before they have a token."""

    def test_interop_22_get(self) -> None:
        """An immediate 401 with the challenge; the documents behind it are there."""
        reply = self.ask("GET", "/mcp")
        self.assertEqual(reply.status, 401)
        pointer = reply.header("www-authenticate").partition('resource_metadata="')[2].partition('"')[0]
        self.assertEqual(
            self.ask("GET", urlsplit(pointer).path).json["resource"], f"{self.proxy.base_url}/mcp"
        )

    def test_interop_23_head(self) -> None:
        """The same without a body."""
        reply = self.ask("HEAD", "/mcp")
        self.assertEqual((reply.status, reply.body), (401, b""))
        self.assertIn("resource_metadata=", reply.header("www-authenticate"))

    def test_interop_24_every_variant(self) -> None:
        """A document or a JSON 404, never 401 or 5xx."""
        names = ("oauth-protected-resource", "oauth-authorization-server", "openid-configuration")
        for name in names:
            for path in (f"/.well-known/{name}", f"/.well-known/{name}/mcp", f"/mcp/.well-known/{name}"):
                self.assertEqual(self.ask("GET", path).status, 200, path)
        for path in ("/.well-known/nothing", "/.well-known/", "/mcp/.well-known/nothing", "/oauth/nothing"):
            reply = self.ask("GET", path)
            self.assertEqual((reply.status, reply.json["error"]), (404, "not_found"), path)

    def test_interop_31_options(self) -> None:
        """204 without authentication."""
        for path in (
            "/mcp",
            "/oauth/token",
            "/oauth/register",
            "/oauth/revoke",
            "/.well-known/oauth-protected-resource",
        ):
            self.assertEqual(self.ask("OPTIONS", path, "Origin: https://i.example").status, 204, path)

    def test_interop_30_tokens(self) -> None:
        """An expired one is 401 ``invalid_token``; one without a scope is 403 ``insufficient_scope``."""
        reply = self.ask("GET", "/mcp", self.bearer(exp=int(time.time()) - 1))
        self.assertEqual(reply.status, 401)
        self.assertIn('error="invalid_token"', reply.header("www-authenticate"))
        strict = self.scene.start(auth={"requiredScopes": ["mcp:write"]})
        self.addCleanup(strict.stop)
        reply = self.ask("GET", "/mcp", self.bearer(), proxy=strict)
        self.assertEqual(reply.status, 403)
        self.assertIn('error="insufficient_scope"', reply.header("www-authenticate"))
        self.assertIn('scope="mcp:write"', reply.header("www-authenticate"))

    def test_interop_39_a_document_that_is_not_served(self) -> None:
        """A well-known client is known although its document cannot be fetched; it needs no key."""
        client = {"client_id": "https://chatgpt.com/oauth/client.json"}
        reply = self.authorize(client, "https://chatgpt.com/connector_platform_oauth_redirect")
        self.assertEqual(reply.status, 200)
        self.assertIn(b"ChatGPT", reply.body)
        refused = self.token(
            {"grant_type": "authorization_code", "code": "x", "code_verifier": "y" * 43, **client}
        )
        self.assertEqual(
            (refused.status, refused.json["error"]), (400, "invalid_grant"), "the client itself is fine"
        )


class Relayed(SocketCase):
    """What passes unharmed."""

    def test_interop_37_errors_of_the_server(self) -> None:
        """Status and JSON body of a 404 are the server's own."""
        for path in ("/status/404/-32601", "/status/404/-32001", "/status/400/-32020", "/status/405/0"):
            reply = self.ask("POST", path, self.bearer(), body=b"{}")
            _, status, code = path[1:].split("/")
            self.assertEqual(reply.status, int(status))
            self.assertEqual(json.loads(reply.body)["error"]["code"], int(code))

    def test_interop_40_large_bodies(self) -> None:
        """4 MB stream through; over the limit is 413, and the connection is clean."""
        body = b"x" * (4 * 1024 * 1024)
        self.assertEqual(self.ask("POST", "/mcp", self.bearer(), body=body).status, 200)
        strict = self.scene.start(server={"maxBodyBytes": 1000})
        self.addCleanup(strict.stop)
        reply = self.ask("POST", "/mcp", self.bearer(), body=b"x" * 1001, proxy=strict)
        self.assertEqual((reply.status, reply.json["error"]), (413, "request_too_large"))
        self.assertEqual(self.ask("POST", "/mcp", self.bearer(), body=b"x" * 1000, proxy=strict).status, 200)
