"""A client and a server of legacy HTTP+SSE, with the proxy under a path prefix between them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx2
from mcp import ClientSession
from mcp.client.sse import sse_client
from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase
from tests.support.program import Program, free_port
from tests.support.proxy import Proxy

_SERVER = Path(__file__).parent / "drivers" / "legacy_server.py"


class LegacySse(ClientCase):
    """Streams of events by GET, messages by POST to a path that the first event names."""

    async def between(self, *, prefix: str, base: str) -> tuple[list[str], str]:
        """List and call tools through a proxy at ``prefix``, before a server mounted at ``base``."""
        server = Program([sys.executable, str(_SERVER), base])
        self.addCleanup(server.kill)
        found = await deferToThread(server.wait_for, r"serving at (\S+)", 60)
        port = free_port()
        configuration = {
            "upstream": {"url": found[1]},
            "auth": {
                "baseUrl": f"http://127.0.0.1:{port}{prefix}",
                "issuerUrl": self.issuer,
                "clientId": "mcp-proxy",
                "clientSecret": "mcp-proxy-secret",
            },
        }
        proxy = Proxy(configuration, port=port)
        self.addCleanup(deferToThread, proxy.stop)
        await deferToThread(proxy.wait_until_ready)
        token = (await self.tokens())["access_token"]

        async def session() -> tuple[list[str], str]:
            url = f"{proxy.base_url}{prefix}/sse"
            async with (
                sse_client(url, headers={"Authorization": f"Bearer {token}"}) as (read, write),
                ClientSession(read, write) as client,
            ):
                await client.initialize()
                tools = sorted(tool.name for tool in (await client.list_tools()).tools)
                called: Any = await client.call_tool("count", {"to": 2})
                return tools, called.content[0].text

        return await deferToThread(asyncio.run, session())

    async def test_interop_33_prefixed_endpoint(self) -> None:
        """Whichever side has a prefix, or both a different one, the client finds the way back."""
        for prefix, base in (("", ""), ("/team", ""), ("/team", "/base"), ("", "/base")):
            found = await self.between(prefix=prefix, base=base)
            self.assertEqual(found, (["count", "whoami"], "counted to 2"), (prefix, base))

    async def test_interop_33_405_passes(self) -> None:
        """A server that has no legacy transport says 405, and the client hears just that."""
        proxy = await self.proxy()
        token = (await self.tokens())["access_token"]
        answer = await deferToThread(
            lambda: httpx2.put(proxy.mcp_url, headers={"Authorization": f"Bearer {token}"}, content=b"{}")
        )
        self.assertEqual(answer.status_code, 405)
