"""docs/deployment.md: what it tells people to copy is read by the programs that it is for."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import load_config
from tests.deploy.tools import missing
from tests.support.program import REPOSITORY

TEXT = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the page's code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


class Guide(SynchronousTestCase):
    """What an operator copies from the page."""

    def test_nginx(self) -> None:
        """nginx accepts the location block as it is written."""
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            missing("no nginx here: it reads the guide's location block")
        (location,) = blocks("nginx")
        with tempfile.TemporaryDirectory() as scratch:
            config = Path(scratch) / "nginx.conf"
            config.write_text(
                f"pid {scratch}/pid; error_log stderr; events {{}}\n"
                f"http {{ access_log off; server {{ listen 127.0.0.1:8081;\n{location}}} }}\n",
                encoding="utf-8",
            )
            done = subprocess.run(
                [nginx, "-t", "-c", str(config), "-p", scratch], capture_output=True, text=True, check=False
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        for needed in ("proxy_buffering off;", "proxy_request_buffering off;", "proxy_http_version 1.1;"):
            self.assertIn(needed, location)

    def test_systemd_outwaits_the_grace(self) -> None:
        """systemd hands the secret over as a file, and waits longer than the grace before it kills."""
        (text,) = blocks("ini")
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        service = unit["Service"]
        needed = {
            "MCP_OAUTH2_PROXY_UPSTREAM_URL": "http://localhost:3000",
            "MCP_OAUTH2_PROXY_AUTH_BASEURL": "https://mcp-proxy.example.com",
            "MCP_OAUTH2_PROXY_AUTH_ISSUERURL": "https://auth.example.com/realms/myrealm",
            "MCP_OAUTH2_PROXY_AUTH_CLIENTID": "mcp-proxy",
        }
        with tempfile.TemporaryDirectory() as credentials:
            (Path(credentials) / "client-secret").write_text("from-a-file", encoding="utf-8")
            name, _, value = service["Environment"].replace("%d", credentials).partition("=")
            config = load_config(None, {**needed, name: value}).config
        self.assertEqual(config.auth.client_secret.reveal(), "from-a-file")
        self.assertGreater(int(service["TimeoutStopSec"]), config.server.shutdown_grace)
