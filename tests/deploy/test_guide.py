"""docs/deployment.md: what it tells people to copy is read by the programs that it is for."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import load_config
from tests.deploy.dockerfile import parse_file
from tests.deploy.tools import helm, missing
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
        text, _ = blocks("ini")
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
        self.assertEqual(service["Type"], "notify")

    def test_systemd_reads_the_units(self) -> None:
        """systemd finds nothing wrong with either, and the socket is the service's."""
        program = shutil.which("systemd-analyze")
        if program is None:
            missing("no systemd here: it reads the guide's units")
        with tempfile.TemporaryDirectory() as scratch:
            for text in blocks("ini"):
                name = Path(text.splitlines()[0].removeprefix("# ")).name
                (Path(scratch) / name).write_text(
                    text.replace("/opt/mcp-oauth2-proxy/bin/", "/bin/true "), "utf-8"
                )
            units = sorted(str(path) for path in Path(scratch).iterdir())
            self.assertEqual([Path(unit).stem for unit in units], ["mcp-oauth2-proxy"] * 2)
            done = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)
        self.assertEqual([line for line in done.stderr.splitlines() if "mcp-oauth2-proxy" in line], [])

    def test_links(self) -> None:
        """Every link leads to a file of the repository."""
        links = re.findall(r"\]\(([^)#]+)\)", TEXT)
        self.assertTrue(links)
        for link in links:
            self.assertTrue((REPOSITORY / "docs" / link).exists(), link)

    def test_values(self) -> None:
        """The values for a sidecar and for a company's CA end up in the pod."""
        arguments = [
            "template",
            "mcp-oauth2-proxy",
            "deploy/helm",
            "--values",
            "tests/deploy/values/minimal.yaml",
        ]
        with tempfile.TemporaryDirectory() as scratch:
            for number, text in enumerate(blocks("yaml")):
                path = Path(scratch) / f"{number}.yaml"
                path.write_text(text, encoding="utf-8")
                arguments += ["--values", str(path)]
            objects = [item for item in yaml.safe_load_all(helm(*arguments)) if item["kind"] == "Deployment"]
        pod = objects[0]["spec"]["template"]["spec"]
        proxy, server = pod["containers"]
        self.assertEqual(server["name"], "mcp-server")
        self.assertIn("/etc/company", [mount["mountPath"] for mount in proxy["volumeMounts"]])
        self.assertIn("company-ca", [volume["name"] for volume in pod["volumes"]])

    def test_docker_build(self) -> None:
        """The build arguments are those that the Dockerfile declares."""
        declared = {
            step.value.partition("=")[0]
            for stage in parse_file(REPOSITORY / "Dockerfile")
            for step in stage.steps
            if step.name == "ARG"
        }
        self.assertEqual(set(re.findall(r"--build-arg (\w+)=", "".join(blocks("sh")))), declared)

    def test_health_command(self) -> None:
        """The health check is a program that compiles, quoted so that a shell passes it on whole."""
        (block,) = [text for text in blocks("sh") if "--health-cmd" in text]
        words = shlex.split(block.replace("\\\n", " "))
        python, option, program = shlex.split(words[words.index("--health-cmd") + 1])
        self.assertEqual((python, option), ("python3", "-c"))
        compile(program, "health", "exec")
        self.assertIn('"http://localhost:8080/healthz"', program)
