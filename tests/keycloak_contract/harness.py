"""What the contract's tests share: a client application that logs a person in and redeems codes."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import urlencode

from attrs import frozen
from twisted.trial.unittest import TestCase

from tests.support.browser import Answer, Arrival, Browser
from tests.support.keycloak import CREDENTIALS as C
from tests.support.reactor import global_reactor

CALLBACK = "http://127.0.0.1:5/callback"


@frozen
class Pkce:
    """A code verifier and its S256 challenge (RFC 7636)."""

    verifier: str
    challenge: str

    @classmethod
    def make(cls) -> Pkce:
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        return cls(verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT without looking at its signature."""
    header, claims, _ = token.split(".")
    return _json_part(header), _json_part(claims)


def _json_part(part: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


class ContractCase(TestCase):
    """``issuer`` is the realm under test; subclasses of the suite set it up."""

    timeout = 120
    issuer: str

    async def announce_logouts(self, url: str) -> None:
        """Have the realm tell ``url`` when a session of the proxy's client ends."""
        raise NotImplementedError

    async def end_session(self, sid: str) -> None:
        """End a session as an administrator does."""
        raise NotImplementedError

    def browser(self) -> Browser:
        """Return a browser nobody has used yet."""
        return Browser(global_reactor())

    @property
    def endpoints(self) -> str:
        return f"{self.issuer}/protocol/openid-connect"

    def authorize_url(self, pkce: Pkce | None = None, **changes: str | None) -> str:
        """Return an authorization URL; a change to ``None`` leaves the parameter out."""
        parameters: dict[str, str | None] = {
            "client_id": C.client_id,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "state": "the-state",
            "nonce": "the-nonce",
        }
        if pkce is not None:
            parameters |= {"code_challenge": pkce.challenge, "code_challenge_method": "S256"}
        present = {name: value for name, value in (parameters | changes).items() if value is not None}
        return f"{self.endpoints}/auth?{urlencode(present)}"

    async def log_in(self, browser: Browser, pkce: Pkce | None = None, **changes: str | None) -> Arrival:
        """Log the user in with ``browser`` and return the callback."""
        return await browser.log_in(
            self.authorize_url(pkce, **changes), until=CALLBACK, username=C.username, password=C.password
        )

    async def token(
        self, *, auth: tuple[str, str] | None = (C.client_id, C.client_secret), **form: str
    ) -> Answer:
        """Ask the token endpoint."""
        options: dict[str, Any] = {} if auth is None else {"auth": auth}
        return await self.browser().request("POST", f"{self.endpoints}/token", data=form, **options)

    async def redeem(self, code: str, pkce: Pkce, **changes: Any) -> Answer:
        """Exchange a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": pkce.verifier,
        }
        return await self.token(**(form | changes))

    async def tokens(self, **changes: str | None) -> dict[str, Any]:
        """Log in with a new browser and return the tokens."""
        pkce = Pkce.make()
        arrival = await self.log_in(self.browser(), pkce, **changes)
        client = (changes.get("client_id") or C.client_id, C.client_secret)
        answer = await self.redeem(arrival.parameters["code"], pkce, auth=client)
        self.assertEqual(answer.status, 200, answer.text)
        tokens: dict[str, Any] = json.loads(answer.body)
        return tokens

    async def refresh(self, refresh_token: str, **changes: Any) -> Answer:
        """Use a refresh token."""
        return await self.token(**({"grant_type": "refresh_token", "refresh_token": refresh_token} | changes))

    async def document(self, url: str) -> dict[str, Any]:
        """Fetch a JSON document that must be there."""
        answer = await self.browser().request("GET", url)
        self.assertEqual((answer.status, answer.header("content-type")), (200, "application/json"))
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def assert_error(self, answer: Answer, status: int, error: str, description: str) -> None:
        """The answer is this OAuth error."""
        expected = {"error": error, "error_description": description}
        self.assertEqual((answer.status, json.loads(answer.body)), (status, expected))

    def assert_lasts(self, claims: dict[str, Any], seconds: int) -> None:
        """A token is good for so long: Keycloak looks at its clock for ``iat`` and once more for ``exp``."""
        self.assertIn(claims["exp"] - claims["iat"], (seconds, seconds + 1))
