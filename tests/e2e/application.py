"""An OAuth client application written against the standards alone: it knows only the MCP server's URL."""

from __future__ import annotations

import json
import secrets
from typing import Any
from urllib.parse import urlencode

from tests.keycloak_contract.harness import Pkce
from tests.support.browser import Answer, Arrival, Browser
from tests.support.keycloak import CREDENTIALS as C

CALLBACK = "http://127.0.0.1:6/app"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "end-to-end test", "version": "1"},
    },
}


def document(answer: Answer, status: int = 200) -> dict[str, Any]:
    """Return the JSON of an answer that must have this status."""
    if answer.status != status:
        raise AssertionError(f"{answer.method} {answer.url}: {answer.status}\n{answer.text}")
    found: dict[str, Any] = json.loads(answer.body)
    return found


class Application:
    """One installation of a client, with the browser of the person who uses it."""

    def __init__(self, reactor: Any, mcp_url: str, browser: Browser | None = None) -> None:
        self.mcp_url = mcp_url
        self.browser = browser or Browser(reactor)
        #: The application's own connections: no cookies of the person's.
        self.http = Browser(reactor)
        self.metadata: dict[str, Any] = {}
        self.client_id = ""
        #: Every value that must not show in anybody's log.
        self.secrets: list[str] = []

    async def discover(self) -> dict[str, Any]:
        """Follow the challenge to the authorization server's metadata; return the resource's own."""
        answer = await self.call(None)
        challenge = answer.header("www-authenticate") or ""
        pointer = challenge.partition('resource_metadata="')[2].partition('"')[0]
        if answer.status != 401 or not pointer:
            raise AssertionError(f"no challenge: {answer.status} {challenge}")
        resource = document(await self.http.request("GET", pointer))
        scheme, _, rest = resource["authorization_servers"][0].partition("://")
        host, slash, path = rest.partition("/")
        url = f"{scheme}://{host}/.well-known/oauth-authorization-server{slash}{path}"
        self.metadata = document(await self.http.request("GET", url))
        return resource

    async def register(self) -> dict[str, Any]:
        """Register as a public client."""
        wanted = {
            "client_name": "The end-to-end test",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        }
        endpoint = self.metadata["registration_endpoint"]
        registered = document(await self.http.request("POST", endpoint, json=wanted), 201)
        self.client_id = registered["client_id"]
        return registered

    def authorize_url(self, pkce: Pkce, state: str) -> str:
        """Return where to send the person's browser."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": pkce.challenge,
            "code_challenge_method": "S256",
            "state": state,
            "resource": self.mcp_url,
        }
        return f"{self.metadata['authorization_endpoint']}?{urlencode(parameters)}"

    async def authorize(self) -> tuple[Arrival, Pkce]:
        """Have the person log in; return the callback and the verifier that belongs to it."""
        pkce, state = Pkce.make(), secrets.token_urlsafe(24)
        arrival = await self.browser.log_in(
            self.authorize_url(pkce, state), until=CALLBACK, username=C.username, password=C.password
        )
        if "code" not in arrival.parameters:
            raise AssertionError(f"no code: {arrival.parameters}")
        if arrival.parameters.get("state") != state:
            raise AssertionError("the state came back changed")
        if arrival.parameters.get("iss") != self.metadata["issuer"]:
            raise AssertionError(f"iss was {arrival.parameters.get('iss')}")
        self.secrets += [pkce.verifier, state, arrival.parameters["code"]]
        return arrival, pkce

    async def redeem(self, code: str, pkce: Pkce) -> Answer:
        """Exchange the code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "client_id": self.client_id,
            "code_verifier": pkce.verifier,
        }
        return self.remember(await self.http.request("POST", self.metadata["token_endpoint"], data=form))

    async def revoke(self, token: str) -> Answer:
        """Give a token back."""
        form = {"token": token, "client_id": self.client_id}
        return await self.http.request("POST", self.metadata["revocation_endpoint"], data=form)

    async def refresh(self, refresh_token: str) -> Answer:
        """Use a refresh token."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self.client_id,
        }
        return self.remember(await self.http.request("POST", self.metadata["token_endpoint"], data=form))

    def remember(self, answer: Answer) -> Answer:
        """Note the tokens of an answer as secrets."""
        if answer.status == 200:
            found = json.loads(answer.body)
            names = ("access_token", "refresh_token", "id_token")
            self.secrets += [found[name] for name in names if name in found]
        return answer

    async def log_in(self) -> dict[str, Any]:
        """Do everything from the MCP URL to tokens."""
        await self.discover()
        await self.register()
        arrival, pkce = await self.authorize()
        return document(await self.redeem(arrival.parameters["code"], pkce))

    async def call(self, token: str | None) -> Answer:
        """Send ``initialize`` to the MCP server."""
        headers = {"Accept": "application/json, text/event-stream"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.request("POST", self.mcp_url, json=INITIALIZE, headers=headers)
