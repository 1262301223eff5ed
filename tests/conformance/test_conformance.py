"""The MCP conformance suite (npm) against the facade, and against a server with and without the proxy."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import SkipTest
from urllib.parse import urlsplit

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import Child, ClientCase
from tests.conformance.tap import Tap, differences
from tests.support.builds import INSTALL_TIMEOUT
from tests.support.node import node_project
from tests.support.program import free_port
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor
from tests.support.upstream import sample_server

REVISIONS = ("2025-11-25", "2026-07-28")
#: The relay takes spaces behind a header's value away (RFC 9110 section 5.5), which the sample server's
#: HTTP library takes for a part of it.
_BETTER_THROUGH = ("sep-2243-server-accepts-whitespace-header-value",)


class Conformance(ClientCase):
    """Runs the suite, and reads what it has found."""

    async def suite(self, mode: str, *arguments: str, token: str | None = None) -> tuple[Child, Path]:
        """Start the suite; its results will be in the returned directory."""
        home = await deferToThread(node_project, "conformance")
        # The suite needs Node.js 22 or newer: a package of it is installed beside the suite.
        programs = sorted(home.glob("node_modules/node-linux-*/bin/node"))
        if not programs:
            raise SkipTest("no Node.js 22 for this machine")
        results = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, results, True)
        suite = home / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        preload = [] if token is None else ["--import", str(home / "bearer.mjs")]
        command = [str(programs[0]), *preload, str(suite), mode, *arguments, "--output-dir", str(results)]
        return self.spawn(command, BEARER=token or ""), results

    def checks(self, results: Path) -> list[dict[str, Any]]:
        """Return every check of a run."""
        found: list[dict[str, Any]] = []
        for path in sorted(results.rglob("checks.json")):
            found += json.loads(path.read_text(encoding="utf-8"))
        return found


class Authorization(Conformance):
    """``authorization``: the metadata, and an authorization-code grant."""

    async def passes(self, revision: str) -> None:
        """Register a client for the suite, be its person, and see that every check passes."""
        proxy = await self.proxy()
        port = free_port()
        application = self.application(proxy)
        await application.discover()
        body = {
            "client_name": "The conformance suite",
            "redirect_uris": [f"http://127.0.0.1:{port}/callback"],
            "token_endpoint_auth_method": "none",
        }
        answer = await application.http.request("POST", f"{proxy.base_url}/oauth/register", json=body)
        child, results = await self.suite(
            "authorization",
            *("--url", proxy.base_url, "--client-id", json.loads(answer.body)["client_id"]),
            *("--port", str(port), "--spec-version", revision, "--resource", proxy.mcp_url),
        )
        url = (await child.line(r"https?://\S+/oauth/authorize\?\S+"))[0]
        arrival = await self.person(url)
        await application.http.request("GET", arrival.url)
        await child.ended
        checks = self.checks(results)
        bad = [check for check in checks if check["status"] not in ("SUCCESS", "INFO")]
        self.assertEqual(bad, [], child.output)
        self.assertGreater(len([check for check in checks if check["status"] == "SUCCESS"]), 2, child.output)

    async def test_2025_11_25(self) -> None:
        """The revision that most clients speak."""
        await self.passes("2025-11-25")

    async def test_2026_07_28(self) -> None:
        """The newest revision."""
        await self.passes("2026-07-28")


class Server(Conformance):
    """``server``: what it finds directly it finds through the proxy."""

    timeout = 300 + INSTALL_TIMEOUT

    async def found(self, url: str, revision: str, token: str | None = None) -> Counter[tuple[str, str]]:
        """Return each check's id and status, as often as it came."""
        child, results = await self.suite("server", "--url", url, "--requirements", revision, token=token)
        await child.ended
        checks = self.checks(results)
        self.assertGreater(len(checks), 10, child.output)
        return Counter((check["id"], check["status"]) for check in checks)

    def tap(self, url: str) -> Tap:
        """Return a recorder in front of what listens at ``url``."""
        tap = Tap(global_reactor(), urlsplit(url).port or 80)
        self.addCleanup(tap.stop)
        return tap

    async def same(self, revision: str) -> None:
        """Run the suite twice; through the proxy, compare every exchange on its two sides."""
        inner = self.tap(sample_server())
        settings = self.configuration()
        settings["upstream"]["url"] = inner.url
        del settings["headers"]  # what an operator changes is not compared
        proxy = await self.started(Proxy(settings))
        outer = self.tap(proxy.base_url)
        tokens = await self.application(proxy).log_in()
        direct = await self.found(f"{sample_server()}/mcp", revision)
        through = await self.found(f"{outer.url}/mcp", revision, tokens["access_token"])
        self.assertGreater(len(inner.exchanges()), 10)
        self.assertEqual(differences(outer, inner)[:3], [])
        for check in _BETTER_THROUGH:
            if direct[check, "FAILURE"] and through[check, "SUCCESS"]:
                del direct[check, "FAILURE"], through[check, "SUCCESS"]
        self.assertEqual(direct - through, Counter(), "found directly only")
        self.assertEqual(through - direct, Counter(), "found through the proxy only")
        self.assertGreater(sum(n for (_, status), n in through.items() if status == "SUCCESS"), 5)

    async def test_2025_11_25(self) -> None:
        """Sessions, and streams of events."""
        await self.same("2025-11-25")

    async def test_2026_07_28(self) -> None:
        """Stateless requests."""
        await self.same("2026-07-28")
