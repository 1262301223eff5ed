"""The MCP Inspector's web interface in Chromium, from its connect switch to a tool's answer."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from selenium.webdriver.common.by import By

from tests.browser.chromium import Chromium
from tests.browser.test_pages import BrowserCase, in_thread
from tests.support.keycloak import CREDENTIALS as C
from tests.support.node import node_project
from tests.support.program import Program, clean_environment, free_port
from tests.support.proxy import Proxy


class Inspector(BrowserCase):
    """A client whose interface is a page, and whose callback is that page."""

    def inspector(self, proxy: Proxy) -> str:
        """Start it for the proxy's MCP server and return the URL of its page."""
        package = node_project("clients") / "node_modules" / "@modelcontextprotocol" / "inspector"
        home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, home, True)
        program = Program(
            [
                shutil.which("node") or "node",
                str(package / "clients" / "launcher" / "build" / "index.js"),
                *("--web", "--server-url", proxy.mcp_url, "--transport", "http"),
            ],
            environment=clean_environment(
                HOME=str(home),
                CLIENT_PORT=str(free_port()),
                MCP_SANDBOX_PORT=str(free_port()),
                MCP_APP_ORIGIN_PORT=str(free_port()),
                MCP_AUTO_OPEN_ENABLED="false",
                MCP_INSPECTOR_SECRET_STORE="memory",
            ),
        )
        self.addCleanup(program.kill)
        return program.wait_for(r"(http://127\.0\.0\.1:\d+\?MCP_INSPECTOR_API_TOKEN=\S+)", 60)[1]

    @in_thread
    def test_the_inspector_signs_in(self, proxy: Proxy, browser: Chromium) -> None:
        """Connecting leads to consent and sign-in and back, and then the tools are there."""
        browser.look(width=1400)
        browser.open(self.inspector(proxy))
        switch = "input[aria-label^='Connect']"
        browser.wait_for(lambda: browser.driver.find_elements(By.CSS_SELECTOR, switch), "no switch")
        browser.driver.execute_script("arguments[0].click()", browser.element(switch))
        browser.wait_for_url(f"{proxy.base_url}/oauth/authorize")
        self.assertIn("Inspector", browser.text)
        browser.press("Allow")
        self.sign_in(browser)
        browser.wait_for(lambda: "Connected" in browser.text, "not connected")
        for name in ("Tools", "whoami", "Execute Tool"):
            where = f"//*[normalize-space(text())='{name}']"
            browser.wait_for(lambda where=where: browser.driver.find_elements(By.XPATH, where), f"no {name}")
            browser.driver.find_element(By.XPATH, where).click()
        browser.wait_for(lambda: C.username in browser.text, "no answer of the tool")
        browser.screenshot("inspector")
