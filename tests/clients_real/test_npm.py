"""The clients on npm: both lines of the TypeScript SDK, mcp-remote, and the Inspector's command line."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase, OnKeycloak
from tests.support.keycloak import CREDENTIALS as C
from tests.support.node import node_project


async def driver(kind: str) -> list[str]:
    """Return the command of a driver on one line of the TypeScript SDK: ``sdk`` (1.x) or ``client`` (2.x)."""
    home = await deferToThread(node_project, "clients")
    return [shutil.which("node") or "node", str(home / "driver.mjs"), kind]


async def node(program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of the installed packages."""
    home = await deferToThread(node_project, "clients")
    return [shutil.which("node") or "node", str(home / program), *arguments]


class Npm(ClientCase):
    """Each from its first request without a token."""

    async def test_sdk_1(self) -> None:
        """``@modelcontextprotocol/sdk`` 1.x."""
        self.assert_served(await self.drive(await driver("sdk")))

    async def test_client_2(self) -> None:
        """``@modelcontextprotocol/client`` 2.x, which checks ``iss``."""
        self.assert_served(await self.drive(await driver("client")))

    async def test_inspector(self) -> None:
        """The Inspector's command line lists the tools with a token that it is given."""
        proxy = await self.proxy()
        tokens = await self.application(proxy).log_in()
        command = await node("node_modules/@modelcontextprotocol/inspector/package.json")
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


class NpmOnKeycloak(OnKeycloak, Npm):
    """The same on a real Keycloak."""


class McpRemote(ClientCase):
    """The bridge for clients that speak stdio only, as such a client talks to it."""

    #: It refreshes once the gate refuses the token that it has.
    realm = {"access_token_lifespan": 5}
    refreshes = 1
    sent = 0

    def send(self, method: str, **parameters: Any) -> int:
        """Send a request and return its id."""
        self.sent += 1
        self.child.say({"jsonrpc": "2.0", "id": self.sent, "method": method, "params": parameters})
        return self.sent

    async def result(self, number: int) -> Any:
        """Return the result of the request with that id."""
        return json.loads((await self.child.line(rf'^\{{.*"id":{number}\b.*\}}$'))[0])["result"]

    async def ask(self, method: str, **parameters: Any) -> Any:
        """Send a request and return its result."""
        return await self.result(self.send(method, **parameters))

    async def whoami(self) -> None:
        """Call the tool that tells whose request it is."""
        called = await self.ask("tools/call", name="whoami", arguments={})
        self.assertEqual(json.loads(called["content"][0]["text"])["x-user"], C.username)

    async def test_mcp_remote(self) -> None:
        """From its first request without a token, over a restart."""
        home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, home, True)
        proxy = await self.proxy()
        command = await node("node_modules/mcp-remote/dist/proxy.js", proxy.mcp_url)
        # Without a display the program prints the URL that it would open.
        self.child = self.spawn(command, MCP_REMOTE_CONFIG_DIR=str(home), DISPLAY="", BROWSER="true")
        initialize = self.send("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=INFO)
        url = (await self.child.line(r"https?://\S+/oauth/authorize\?\S+"))[0]
        arrival = await self.person(url)
        # Its own server on loopback waits for the browser.
        answer = await self.application(proxy).http.request("GET", arrival.url)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual((await self.result(initialize))["serverInfo"]["name"], "sample")
        self.child.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        tools = (await self.ask("tools/list"))["tools"]
        self.assertEqual({tool["name"] for tool in tools}, {"count", "whoami"})
        token = {"progressToken": "steps"}
        counted = await self.ask("tools/call", name="count", arguments={"to": 3}, _meta=token)
        self.assertEqual(counted["content"][0]["text"], "counted to 3")
        self.assertEqual(self.child.output.count('"notifications/progress"'), 3)
        while proxy.output.count("for refresh_token") < self.refreshes:
            await self.whoami()
        await self.restarted(proxy)
        await self.whoami()


class McpRemoteOnKeycloak(OnKeycloak, McpRemote):
    """The same on a real Keycloak, whose tokens outlive the test."""

    refreshes = 0


INFO = {"name": "driver", "version": "1"}
