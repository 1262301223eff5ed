"""A client on the official Python SDK, of the 1.x or the 2.x line; see ``tests/clients_real/scene.py``.

python python_sdk.py MCP_URL
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mcp.client.auth import OAuthClientProvider
from mcp.shared import auth as shared
from mcp.shared.auth import OAuthClientMetadata

URL = sys.argv[1]
SEEN = {"registrations": 0, "logins": 0, "tokens": 0}


def ask(message: dict[str, Any]) -> Any:
    """Say a line and read the answer."""
    print(json.dumps(message), flush=True)
    return json.loads(sys.stdin.readline())


class Storage:
    """What the client remembers, and how often it was told."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens
        SEEN["tokens"] += 1

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info
        SEEN["registrations"] += 1


class Person:
    """The browser, which is the test's."""

    answer: dict[str, str]

    async def open(self, url: str) -> None:
        SEEN["logins"] += 1
        callback = ask({"authorize": url})["callback"]
        self.answer = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}

    async def callback(self) -> Any:
        result = getattr(shared, "AuthorizationCodeResult", None)
        if result is None:  # 1.x
            return self.answer["code"], self.answer.get("state")
        return result(code=self.answer["code"], state=self.answer.get("state"), iss=self.answer.get("iss"))


def provider() -> OAuthClientProvider:
    person = Person()
    metadata = OAuthClientMetadata(
        client_name="The Python SDK", redirect_uris=["http://127.0.0.1:33418/callback"]
    )
    return OAuthClientProvider(
        URL, metadata, Storage(), redirect_handler=person.open, callback_handler=person.callback
    )


async def connected(stack: AsyncExitStack, oauth: OAuthClientProvider) -> Any:
    """Return a session, whichever line the SDK is of."""
    from mcp.client import streamable_http  # noqa: PLC0415 (the two lines differ below)

    if (
        hasattr(streamable_http, "streamable_http_client")
        and "http_client" in inspect.signature(streamable_http.streamable_http_client).parameters
    ):
        try:
            import httpx2 as httpx  # noqa: PLC0415
        except ImportError:
            import httpx  # type: ignore[no-redef]  # noqa: PLC0415
        http = await stack.enter_async_context(httpx.AsyncClient(auth=oauth, timeout=30))
        transport = streamable_http.streamable_http_client(URL, http_client=http)
    else:
        transport = streamable_http.streamablehttp_client(URL, auth=oauth)
    try:
        from mcp import Client  # noqa: PLC0415

        return await stack.enter_async_context(Client(transport))
    except ImportError:
        from mcp import ClientSession  # noqa: PLC0415

        streams = await stack.enter_async_context(transport)
        session = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
        await session.initialize()
        return session


async def call(session: Any, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool and keep its progress."""
    progress: list[float] = []

    async def on_progress(step: float, total: float | None, message: str | None) -> None:
        progress.append(step)

    result = await session.call_tool(name, arguments, progress_callback=on_progress)
    return {"text": result.content[0].text, "progress": progress}


async def main() -> None:
    """Log in, use the server, refresh, and go on after a restart."""
    oauth = provider()
    async with AsyncExitStack() as stack:
        session = await connected(stack, oauth)
        tools = sorted(tool.name for tool in (await session.list_tools()).tools)
        counted = await call(session, "count", {"to": 3})
        oauth.context.token_expiry_time = 1.0
        refreshed = await call(session, "whoami", {})
    ask({"restart": True})
    oauth.context.token_expiry_time = 1.0
    async with AsyncExitStack() as stack:
        again = await call(await connected(stack, oauth), "whoami", {})
    done = {"tools": tools, "counted": counted, "refreshed": refreshed, "again": again, **SEEN}
    print(json.dumps({"done": done}), flush=True)


asyncio.run(main())
