"""The walk-through: a real MCP client logs in through the proxy and uses the server behind it."""

from __future__ import annotations

from typing import Any

import httpx2

from mcp_oauth2_proxy.demo.client import LoggedInClient, mcp_client
from mcp_oauth2_proxy.demo.exchange import Exchange
from mcp_oauth2_proxy.demo.narration import Narrator
from mcp_oauth2_proxy.demo.realm import User

_COUNT_TO = 3


class UnexpectedError(Exception):
    """The flow went through, and what came out is not what it must be."""


def _expect(truth: bool, message: str) -> None:
    if not truth:
        raise UnexpectedError(message)


async def walk_through(narrator: Narrator, url: str, user: User) -> None:
    """Log in at ``url`` as ``user`` and use the server; raises on anything that is not as it must be."""
    async with mcp_client(url, user.username, user.password, narrator.exchange) as client:
        info = client.mcp.server_info
        name = info.name if info is not None else "the server"
        narrator.detail(f'connected to "{name}", MCP revision {client.mcp.protocol_version}')
        await _use_tools(narrator, client, user)
        await _refresh(narrator, client)
        narrator.step("The client is done and ends its session.")
    await _refused(narrator, url)


async def _use_tools(narrator: Narrator, client: LoggedInClient, user: User) -> None:
    narrator.step("It asks for the server's tools.")
    tools = [tool.name for tool in (await client.mcp.list_tools()).tools]
    narrator.detail(f"tools: {', '.join(tools)}")
    _expect({"whoami", "count"} <= set(tools), f"the tools were {tools}")

    narrator.step('It calls "whoami": the proxy tells the server who is calling, and keeps the token back.')
    result: Any = await client.mcp.call_tool("whoami")
    seen = result.structured_content or {}
    for key, value in seen.items():
        narrator.detail(f"{key}: {value}")
    _expect(seen.get("x-user") == user.username, f"the server saw the user {seen.get('x-user')!r}")
    _expect(seen.get("authorization") == "absent", "the token reached the MCP server")

    narrator.step(f'It calls "count" up to {_COUNT_TO}: progress streams through the proxy as it happens.')
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)
        narrator.detail(f"progress: {message} ({progress:.0f}/{total or 0:.0f})")

    counted: Any = await client.mcp.call_tool("count", {"to": _COUNT_TO}, progress_callback=on_progress)
    narrator.detail(f"answer: {counted.content[0].text}")
    _expect(steps == [1, 2, 3], f"the progress notifications were {steps}")


async def _refresh(narrator: Narrator, client: LoggedInClient) -> None:
    narrator.step("Its access token runs out: it gets a new one with its refresh token, without the user.")
    before = client.storage.tokens
    client.expire_access_token()
    await client.mcp.call_tool("whoami")
    after = client.storage.tokens
    changed = before is not None and after is not None and before.access_token != after.access_token
    _expect(changed, "the access token is still the old one")


async def _refused(narrator: Narrator, url: str) -> None:
    narrator.step("A made-up token does not get past the proxy.")
    async with httpx2.AsyncClient() as http:
        answer = await http.post(url, headers={"Authorization": "Bearer made-up"}, json={})
    narrator.exchange(Exchange("stranger", "POST", url, answer.status_code))
    _expect(answer.status_code == 401, f"a made-up token was answered with {answer.status_code}")
