"""Replays a client's profile against a started proxy, from the first probe to a refreshed token."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from attrs import define, field

from tests.clients.profile import Profile
from tests.e2e.application import INITIALIZE, document
from tests.keycloak_contract.harness import Pkce
from tests.support.browser import Answer, Browser
from tests.support.keycloak import CREDENTIALS as C

STATE = "the-state-of-the-client"


@define
class Replay:
    """One installation of the client that ``profile`` describes, at the MCP server ``mcp_url``."""

    profile: Profile
    mcp_url: str
    reactor: Any
    #: The client's ``client_id`` where it is known by a metadata document.
    document_url: str | None = None
    client_id: str = ""
    client_secret: str | None = None
    metadata: dict[str, Any] = field(factory=dict)
    resource: dict[str, Any] = field(factory=dict)
    http: Browser = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.http = Browser(self.reactor)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the server."""
        split = urlsplit(self.mcp_url)
        return f"{split.scheme}://{split.netloc}"

    @property
    def redirect_uri(self) -> str:
        """Where the client waits for its code."""
        if self.document_url is not None and self.profile.redirect_uri_of_document is not None:
            return self.profile.redirect_uri_of_document
        return self.profile.redirect_uri

    async def probe(self) -> list[Answer]:
        """Ask the MCP server without a token, as the client does."""
        answers = []
        for method in self.profile.probes:
            options = {"json": INITIALIZE} if method == "POST" else {}
            answers.append(await self.call(None, method, **options))
        return answers

    async def discover(self) -> list[Answer]:
        """Look where the client looks, in its order; the documents are remembered."""
        answers = []
        for path in self.profile.discovery:
            answer = await self.http.request(
                "GET", self.origin + path, headers={"Accept": "application/json"}
            )
            answers.append(answer)
            found = document(answer)
            if "resource" in found:
                self.resource = self.resource or found
            else:
                self.metadata = found
        return answers

    async def register(self) -> dict[str, Any]:
        """Register, or be known by the document."""
        if self.document_url is not None:
            self.client_id = self.document_url
            return {}
        endpoint = self.metadata["registration_endpoint"]
        answer = await self.http.request("POST", endpoint, json=self.profile.registration)
        registered = document(answer, 201)
        self.client_id = registered["client_id"]
        self.client_secret = registered.get("client_secret")
        return registered

    def spelled(self, leg: str) -> dict[str, str]:
        """Return the ``resource`` parameter of a leg, as the client spells it."""
        spelling = self.profile.resource.get(leg)
        if spelling is None:
            return {}
        values = {
            "url": self.mcp_url,
            "prm": self.resource.get("resource", ""),
            "origin": self.origin,
            "origin/": self.origin + "/",
        }
        return {"resource": values[spelling]}

    @property
    def scope(self) -> dict[str, str]:
        """The ``scope`` parameter."""
        wanted = self.profile.scope
        if wanted == "as":
            wanted = " ".join(self.metadata.get("scopes_supported", ()))
        return {} if not wanted else {"scope": wanted}

    def authorize_url(self, pkce: Pkce) -> str:
        """Return where the client sends the person's browser."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": pkce.challenge,
            "code_challenge_method": "S256",
            **({"state": STATE} if self.profile.state else {}),
            **self.spelled("authorize"),
            **self.scope,
            **self.profile.parameters,
        }
        return f"{self.metadata['authorization_endpoint']}?{urlencode(parameters)}"

    async def authorize(self) -> tuple[dict[str, str], Pkce]:
        """Have a person log in; return the parameters of the callback."""
        pkce = Pkce.make()
        url = self.authorize_url(pkce)
        if self.profile.looks_first:
            looked = await self.http.request("GET", url)
            if looked.status not in (200, 302, 303, 307, 308):
                raise AssertionError(f"the client would give up on {looked.status}")
        person = Browser(self.reactor)
        arrival = await person.log_in(url, until=self.redirect_uri, username=C.username, password=C.password)
        return arrival.parameters, pkce

    async def token(self, form: dict[str, str]) -> Answer:
        """Ask the token endpoint, authenticating as the client does."""
        url, how, secret = self.metadata["token_endpoint"], self.profile.secret, self.client_secret
        body, headers = {**form, "client_id": self.client_id}, {}
        if how == "basic-empty":
            # A client that agreed on no method tries an empty password first, with the same code.
            first = await self.http.request("POST", url, data=form, headers=basic(self.client_id, ""))
            if first.status == 200:
                return first
        elif how == "post" and secret is not None:
            body["client_secret"] = secret
        elif how == "basic" and secret is not None:
            headers = basic(self.client_id, secret)
        elif how == "basic-encoded" and secret is not None:
            headers = basic(quote_plus(self.client_id), quote_plus(secret))
        return await self.http.request("POST", url, data=body, headers=headers)

    async def redeem(self, code: str, pkce: Pkce) -> Answer:
        """Exchange the code."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": pkce.verifier}
        return await self.token({**form, "redirect_uri": self.redirect_uri, **self.spelled("token")})

    async def refresh(self, token: str) -> Answer:
        """Use the refresh token."""
        scope = self.scope if self.profile.refresh_scope else {}
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return await self.token({**form, **scope, **self.spelled("refresh")})

    async def call(self, token: str | None, method: str = "POST", **options: Any) -> Answer:
        """Ask the MCP server."""
        headers = {"Accept": "application/json, text/event-stream"}
        if self.profile.protocol_version and token is not None:
            headers["MCP-Protocol-Version"] = "2025-06-18"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.request(method, self.mcp_url, headers=headers, **options)

    async def initialize(self, token: str) -> dict[str, Any]:
        """Send ``initialize`` and return its result."""
        answer = await self.call(token, json=INITIALIZE)
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.text}")
        data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
        found: dict[str, Any] = json.loads(data[6:])["result"]
        return found


def basic(user: str, password: str) -> dict[str, str]:
    """Return a Basic header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
