"""FastMCP's client with its own OAuth helper; see ``tests/clients_real/scene.py``.

python fastmcp_client.py MCP_URL
"""

from __future__ import annotations

import asyncio
import json
import sys
import webbrowser
from typing import Any
from urllib.request import urlopen

from fastmcp import Client
from fastmcp.client.auth import OAuth

URL = sys.argv[1]
SEEN = {"registrations": 0, "logins": 0, "tokens": 0}


def ask(message: dict[str, Any]) -> Any:
    """Say a line and read the answer."""
    print(json.dumps(message), flush=True)
    return json.loads(sys.stdin.readline())


class Watched(OAuth):
    """The helper as it is, and a count of what it is given."""

    async def _initialize(self) -> None:
        await super()._initialize()
        storage = self.context.storage
        for name, key in (("set_tokens", "tokens"), ("set_client_info", "registrations")):
            setattr(storage, name, counted(getattr(storage, name), key))


def counted(method: Any, key: str) -> Any:
    """Return ``method``, counting its calls."""

    async def call(*arguments: Any) -> Any:
        SEEN[key] += 1
        return await method(*arguments)

    return call


def visit(callback: str) -> None:
    """Open the client's own callback, once its server listens."""
    for _ in range(100):
        try:
            urlopen(callback, timeout=10).close()
        except OSError:
            asyncio.run(asyncio.sleep(0.05))
        else:
            return


def open_browser(url: str, *_: Any) -> bool:
    """Be the person's browser: log in, and end at the client's own callback on loopback."""
    SEEN["logins"] += 1
    callback = ask({"authorize": url})["callback"]
    asyncio.get_running_loop().run_in_executor(None, visit, callback)
    return True


async def call(client: Any, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool and keep its progress."""
    progress: list[float] = []

    async def on_progress(step: float, total: float | None, message: str | None) -> None:
        progress.append(step)

    result = await client.call_tool(name, arguments, progress_handler=on_progress)
    return {"text": result.content[0].text, "progress": progress}


async def main() -> None:
    """Log in, use the server, refresh, and go on after a restart."""
    webbrowser.open = open_browser
    oauth = Watched(URL)
    async with Client(URL, auth=oauth) as client:
        tools = sorted(tool.name for tool in await client.list_tools())
        counting = await call(client, "count", {"to": 3})
        oauth.context.token_expiry_time = 1.0
        refreshed = await call(client, "whoami", {})
    ask({"restart": True})
    oauth.context.token_expiry_time = 1.0
    async with Client(URL, auth=oauth) as client:
        again = await call(client, "whoami", {})
    done = {"tools": tools, "counted": counting, "refreshed": refreshed, "again": again, **SEEN}
    print(json.dumps({"done": done}), flush=True)


asyncio.run(main())
