"""The clients on npm: both lines of the TypeScript SDK, mcp-remote, and the Inspector's command line."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase
from tests.support.keycloak import CREDENTIALS as C
from tests.support.keycloak import real_keycloak
from tests.support.node import node_project


async def driver(kind: str) -> list[str]:
    """Return the command of a driver on one line of the TypeScript SDK: ``sdk`` (1.x) or ``client`` (2.x)."""
    home = await deferToThread(node_project, "clients")
    return [shutil.which("node") or "node", str(home / "driver.mjs"), kind]


class Npm(ClientCase):
    """Each from its first request without a token."""

    async def node(self, *arguments: str) -> list[str]:
        """Return the command that runs a program of the installed packages."""
        home = await deferToThread(node_project, "clients")
        program, *rest = arguments
        return [shutil.which("node") or "node", str(home / program), *rest]

    async def test_sdk_1(self) -> None:
        """``@modelcontextprotocol/sdk`` 1.x."""
        self.assert_served(await self.drive(await driver("sdk")))

    async def test_client_2(self) -> None:
        """``@modelcontextprotocol/client`` 2.x, which checks ``iss``."""
        self.assert_served(await self.drive(await driver("client")))

    async def test_mcp_remote(self) -> None:
        """The bridge for clients that speak stdio only."""
        home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, home, True)
        proxy = await self.proxy()
        command = await self.node("node_modules/mcp-remote/dist/proxy.js", proxy.mcp_url)
        # Without a display the program prints the URL that it would open.
        child = self.spawn(command, MCP_REMOTE_CONFIG_DIR=str(home), DISPLAY="", BROWSER="true")
        child.say(request(1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=INFO))
        url = (await child.line(r"https?://\S+/oauth/authorize\?\S+"))[0]
        arrival = await self.person(url)
        # Its own server on loopback waits for the browser.
        answer = await self.application(proxy).http.request("GET", arrival.url)
        self.assertEqual(answer.status, 200, answer.text)
        initialized = json.loads((await child.line(r'^\{.*"id":1\b.*\}$|^\{.*"id":1\}$'))[0])
        self.assertEqual(initialized["result"]["serverInfo"]["name"], "sample")
        child.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        child.say(request(2, "tools/call", name="whoami", arguments={}))
        called = json.loads((await child.line(r'^\{.*"id":2\b.*\}$'))[0])
        self.assertEqual(json.loads(called["result"]["content"][0]["text"])["x-user"], C.username)

    async def test_inspector(self) -> None:
        """The Inspector's command line lists the tools with a token that it is given."""
        proxy = await self.proxy()
        tokens = await self.application(proxy).log_in()
        command = await self.node("node_modules/@modelcontextprotocol/inspector/package.json")
        bin_path = Path(command[1]).parents[3] / "node_modules" / ".bin" / "mcp-inspector"
        child = self.spawn(
            [
                command[0],
                str(bin_path.resolve()),
                *("--cli", "--server-url", proxy.mcp_url, "--transport", "http"),
                *("--header", f"Authorization: Bearer {tokens['access_token']}"),
                *("--method", "tools/list"),
            ]
        )
        await child.ended
        self.assertIn('"whoami"', child.output)
        self.assertIn('"count"', child.output)


class NpmAtKeycloak(ClientCase):
    """One of them on a real Keycloak."""

    def setUp(self) -> None:
        super().setUp()
        self.issuer = real_keycloak().issuer()

    async def test_client_2(self) -> None:
        """``@modelcontextprotocol/client`` 2.x."""
        self.assert_served(await self.drive(await driver("client")))


INFO = {"name": "driver", "version": "1"}


def request(number: int, method: str, **parameters: Any) -> dict[str, Any]:
    """Return a JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
