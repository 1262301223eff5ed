"""A real MCP client: the official SDK with its own OAuth provider, and a person's browser driven by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Literal
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from attrs import frozen
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from mcp_oauth2_proxy.demo.exchange import Exchange, Observer
from mcp_oauth2_proxy.demo.forms import Form, read_page

#: Where the client says it waits; nothing listens there, since the browser is driven by this program.
CALLBACK = "http://127.0.0.1:33418/callback"
#: Steps of one login, so that a loop ends.
_MOST_STEPS = 12
_TIMEOUT = 30.0


class LoginFailedError(Exception):
    """The browser could not get from the authorize URL back to the client; the text says where it was."""


def _report_to(observer: Observer, actor: str) -> Callable[[httpx2.Response], Awaitable[None]]:
    async def seen(response: httpx2.Response) -> None:
        request = response.request
        observer(Exchange(actor, request.method, str(request.url), response.status_code))

    return seen


class MemoryStorage:
    """What the client remembers, for as long as it runs."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens."""
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Remember the tokens."""
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registration."""
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Remember the registration."""
        self.client = client_info


class HeadlessBrowser:
    """Fills the forms that a person would: agrees on the consent page, logs in, ends at the callback."""

    def __init__(self, username: str, password: str, observer: Observer) -> None:
        self._username = username
        self._password = password
        self._observer = observer
        self._arrived: dict[str, list[str]] = {}

    async def open(self, url: str) -> None:
        """Go from the authorize URL to the client's callback. Raises :exc:`LoginFailedError`."""
        hooks = {"response": [_report_to(self._observer, "browser")]}
        async with httpx2.AsyncClient(event_hooks=hooks, timeout=_TIMEOUT) as http:
            # Browsers send Secure cookies over loopback http too; Keycloak sets them there.
            http.cookies.jar.set_policy(DefaultCookiePolicy(secure_protocols=("http", "https")))
            request = http.build_request("GET", url, headers={"Accept": "text/html"})
            for _ in range(_MOST_STEPS):
                response = await http.send(request)
                onward = self._onward(response)
                if onward is not None and onward.startswith(CALLBACK):
                    self._arrived = parse_qs(urlsplit(onward).query)
                    return
                request = self._next(http, response, onward)
        raise LoginFailedError("the login went round in circles")

    @staticmethod
    def _onward(response: httpx2.Response) -> str | None:
        """Return where the answer sends the browser by itself."""
        if response.has_redirect_location:
            return urljoin(str(response.url), response.headers["location"])
        return read_page(response.text, str(response.url)).refresh

    def _next(
        self, http: httpx2.AsyncClient, response: httpx2.Response, onward: str | None
    ) -> httpx2.Request:
        if onward is not None:
            return http.build_request("GET", onward, headers={"Accept": "text/html"})
        page = read_page(response.text, str(response.url))
        where = f"{response.status_code} at {response.url.copy_with(query=None)}"
        if response.status_code != 200 or not page.forms:
            raise LoginFailedError(f"no form to fill: {where} ({page.title})")
        form = page.forms[0]
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(form.action))
        return http.build_request(
            "POST",
            form.action,
            data=self._filled(form),
            headers={"Accept": "text/html", "Origin": origin},
        )

    def _filled(self, form: Form) -> dict[str, str]:
        if form.has_password:
            return form.fields | {"username": self._username, "password": self._password}
        name, value = form.buttons[0] if form.buttons else ("", "")
        return form.fields | ({name: value} if name else {})

    async def callback(self) -> AuthorizationCodeResult:
        """Return what the callback carried. Raises :exc:`LoginFailedError` for an error answer."""
        first = {name: values[0] for name, values in self._arrived.items()}
        if "code" not in first:
            description = first.get("error_description", "")
            raise LoginFailedError(f"refused: {first.get('error', 'no code')} {description}".strip())
        return AuthorizationCodeResult(code=first["code"], state=first.get("state"), iss=first.get("iss"))


@frozen
class LoggedInClient:
    """An MCP client with a session, and the storage that holds its tokens."""

    mcp: Client
    storage: MemoryStorage
    provider: OAuthClientProvider

    def expire_access_token(self) -> None:
        """Make the client believe that its access token has run out: its next request refreshes first."""
        self.provider.context.token_expiry_time = 1.0


@asynccontextmanager
async def mcp_client(
    url: str,
    username: str,
    password: str,
    observer: Observer,
    *,
    mode: Literal["auto", "legacy"] = "legacy",
) -> AsyncIterator[LoggedInClient]:
    """Connect to the MCP server at ``url``, logging in as that user when it asks.

    ``mode`` is the SDK's: ``legacy`` begins with ``initialize``, ``auto`` tries revision 2026-07-28 first.
    """
    storage = MemoryStorage()
    browser = HeadlessBrowser(username, password, observer)
    provider = OAuthClientProvider(
        url,
        OAuthClientMetadata(client_name="Demo client", redirect_uris=[AnyUrl(CALLBACK)]),
        storage,
        redirect_handler=browser.open,
        callback_handler=browser.callback,
    )
    hooks = {"response": [_report_to(observer, "client")]}
    async with (
        httpx2.AsyncClient(auth=provider, event_hooks=hooks, timeout=_TIMEOUT) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield LoggedInClient(client, storage, provider)
